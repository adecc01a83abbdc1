"""One part of the packed cache: an immutable HDF5 file whose features are contiguous and aligned, so that they can be mapped."""

import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from headstart.features.arrays import DamagedArrays, contiguous, hdf5_dataset
from headstart.pipeline.doors import reading, records
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.job import is_job_id, is_plain_path
from headstart.pipeline.paths import LinkError

FORMAT = 1
PART_NAME = re.compile(r"part_[0-9a-f]{16}\.h5")
_WIDEST = 1 << 20
ALIGNMENT = 4096  # one page: a mapping begins where the data does


@dataclass(frozen=True)
class PackedShard:
    """One payload inside a part.

    Attributes:
        job_id: whose payload it is.
        source: manifest part that its rows belong to, relative to the workspace.
        sha256: digest of the payload, as its marker names it.
        rows: how many rows of the part are its.
    """

    job_id: str
    source: str
    sha256: str
    rows: int

    @property
    def dataset(self) -> str:
        return self.source.rpartition("/")[0]


@dataclass(frozen=True)
class CachePart:
    """A mapped part; `features` (n, d) float16 costs no memory of its own, `index` (n,) int64 is row of the manifest."""

    path: Path
    fingerprint: str
    shards: tuple[PackedShard, ...]
    features: NDArray[np.float16]
    index: NDArray[np.int64]


class DamagedPart(Exception):
    """A file that is no readable part; the cache is derived, so it is simply packed again."""


def serialize_part(
    fingerprint: str, shards: Sequence[PackedShard], features: NDArray[np.float16], index: NDArray[np.int64]
) -> tuple[str, bytes]:
    """File name and bytes of a part; the same for the same content.

    Args:
        features, index: (n, d) and (n,); rows in the order of `shards`.
    """
    import h5py

    listing = json.dumps([asdict(shard) for shard in shards], separators=(",", ":")).encode()
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="v110", alignment_threshold=1, alignment_interval=ALIGNMENT) as file:
        file.attrs["format"] = FORMAT
        file.attrs["fingerprint"] = fingerprint
        arrays = {"global_pool": features, "index": index, "shards": np.frombuffer(listing, np.uint8)}
        for name, array in arrays.items():
            file.create_dataset(name, data=array, track_times=False)  # with times, the same features would give other bytes
    data = buffer.getvalue()
    return f"part_{hashlib.sha256(data).hexdigest()[:16]}.h5", data


def is_whole(path: Path) -> bool:
    """Whether a part has the bytes that its name says. Raises: FileNotFoundError; OSError."""
    try:
        with reading.opened(path, reading.PAYLOAD_BYTES) as file:
            return path.name == f"part_{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}.h5"
    except (reading.UnreadableError, LinkError):
        return False


def open_part(path: Path) -> CachePart:
    """The part at `path`, its features mapped. Raises: DamagedPart saying why; FileNotFoundError."""
    import h5py

    try:
        with reading.opened(path) as raw, h5py.File(raw, "r") as file:
            size = os.fstat(raw.fileno()).st_size
            if int(file.attrs["format"]) != FORMAT:
                raise DamagedPart(f"format {file.attrs['format']}, expected {FORMAT}")
            listing = records.parse(contiguous(hdf5_dataset(file, "shards"), "u1", 1, size).tobytes(), path)
            shards = tuple(_shard(path, entry) for entry in listing)
            index = contiguous(hdf5_dataset(file, "index"), "<i8", 1, size)
            features = _mapped(raw, hdf5_dataset(file, "global_pool"))
            fingerprint = str(file.attrs["fingerprint"])
    except FileNotFoundError:
        raise
    except LinkError as error:
        if error.path != path:
            raise  # of the whole cache, so nothing may be packed there
        raise DamagedPart(str(error)) from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, HeadstartError, DamagedArrays) as error:
        raise DamagedPart((str(error).splitlines() or [type(error).__name__])[0]) from None
    if len(features) != len(index) or len(index) != sum(shard.rows for shard in shards):
        raise DamagedPart(f"{len(features)} rows of features, {len(index)} of index")
    if len(index) and not 0 <= index.min() <= index.max() < 1 << 40:
        raise DamagedPart(f"index has {index.min()} to {index.max()}")
    return CachePart(path, fingerprint, shards, features, index)


def _shard(path: Path, entry: Any) -> PackedShard:
    facts = records.Record(entry, path)
    job_id, source = facts.text("job_id"), facts.text("source")
    if not is_job_id(job_id) or not is_plain_path(source):
        raise DamagedPart(f"a shard of {job_id[:40]!r}, {source[:80]!r}")
    return PackedShard(job_id, source, facts.text("sha256", "[0-9a-f]{64}"), facts.integer("rows"))


def _mapped(raw: BinaryIO, dataset: Any) -> NDArray[np.float16]:
    if dataset is None or dataset.dtype != np.float16 or dataset.ndim != 2 or dataset.shape[1] > _WIDEST:
        raise DamagedPart(f"global_pool is {dataset and dataset.dtype} {dataset and dataset.shape}")
    if not dataset.size:
        return np.empty(dataset.shape, np.float16)
    offset = dataset.id.get_offset()
    if offset is None or offset % ALIGNMENT:
        raise DamagedPart("global_pool is not contiguous and aligned")
    # ValueError if the file is shorter than that: a mapping beyond its end would kill the process on the first read.
    return np.memmap(raw, np.float16, "r", offset, dataset.shape)
