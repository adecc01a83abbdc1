"""One part of the packed cache: an immutable HDF5 file whose features are contiguous and aligned, so that they can be mapped."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
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


def open_part(path: Path) -> CachePart:
    """The part at `path`, its features mapped. Raises: DamagedPart saying why; FileNotFoundError."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if int(file.attrs["format"]) != FORMAT:
                raise DamagedPart(f"format {file.attrs['format']}, expected {FORMAT}")
            listing = json.loads(bytes(file["shards"][()]))
            shards = tuple(PackedShard(**entry) for entry in listing)
            features, index = _mapped(path, file["global_pool"]), file["index"][()]
            fingerprint = str(file.attrs["fingerprint"])
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DamagedPart(str(error).splitlines()[0]) from None
    if len(features) != len(index) or len(index) != sum(shard.rows for shard in shards):
        raise DamagedPart(f"{len(features)} rows of features, {len(index)} of index")
    return CachePart(path, fingerprint, shards, features, index)


def _mapped(path: Path, dataset: Any) -> NDArray[np.float16]:
    if dataset.dtype != np.float16 or dataset.ndim != 2:
        raise DamagedPart(f"global_pool is {dataset.dtype} {dataset.shape}")
    if not dataset.size:
        return np.empty(dataset.shape, np.float16)
    offset = dataset.id.get_offset()
    if offset is None or offset % ALIGNMENT:
        raise DamagedPart("global_pool is not contiguous and aligned")
    # ValueError if the file is shorter than that: a mapping beyond its end would kill the process on the first read.
    return np.memmap(path, np.float16, "r", offset, dataset.shape)
