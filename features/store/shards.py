"""Shards: the features of one job, rounded to float16, as an uncompressed NPZ whose bytes depend on the arrays alone."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.arrays import DamagedArrays, NamedArrays, require_arrays, require_positions, unpack_npz
from headstart.features.images.decode import ImageError
from headstart.features.manifest.parts import part_of
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.markers import Marker

SUFFIX = ".npz"
REDO = "Redo it: headstart verify --deep --repair"


def pack(arrays: NamedArrays) -> bytes:
    """NPZ bytes: stored, not compressed, members in the given order, no time stamps. numpy writes it, so numpy reads it."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_shard(path: Path, expected: dict[str, dict[str, Any]], sha256: str | None = None) -> NamedArrays:
    """The arrays of a shard, checked against its marker: exactly these members, dtypes and shapes.

    Args:
        sha256: of the file, hex; without one the zip's CRCs are checked.

    Raises: HeadstartError naming the file if anything differs.
    """
    return _unpacked(path, read_bytes(path), expected, sha256)


def read_bytes(path: Path) -> bytes:
    """A shard as it is on disk, not checked yet. Raises: HeadstartError naming the file."""
    try:
        with environment_faults(f"cannot read {path}"):
            return reading.read(path, reading.PAYLOAD_BYTES)
    except (OSError, reading.UnreadableError) as error:
        raise HeadstartError(f"{path} cannot be read ({error}). {REDO}") from None


def _unpacked(path: Path, data: bytes, expected: dict[str, dict[str, Any]], sha256: str | None) -> NamedArrays:
    try:
        arrays = unpack_npz(data, sha256)
        require_arrays(arrays, expected)
    except DamagedArrays as error:
        raise HeadstartError(f"{path} cannot be read ({error}). {REDO}") from None
    return arrays


def read_finished(marker: Marker, embed_dim: int) -> NamedArrays:
    """The arrays of a job that is done, every byte of them as it was committed, and of rows of that job alone.

    Raises: HeadstartError as `read`, also if a row is not the job's or stands twice, or the features are of another width.
    """
    return unpack_finished(marker, read_bytes(marker.payload_here()), embed_dim)


def unpack_finished(marker: Marker, data: bytes, embed_dim: int, first_row: int | None = None) -> NamedArrays:
    """`read_finished`, of bytes that were read already. Args: first_row: see `require_rows_of`."""
    arrays = _unpacked(marker.payload, data, marker.arrays, marker.sha256)
    try:
        require_rows_of(marker, arrays, "global_pool", first_row)
        index, pooled = arrays["index"], arrays["global_pool"]
        if pooled.dtype != np.float16 or pooled.shape != (len(index), embed_dim):
            raise DamagedArrays(
                f"global_pool is {pooled.dtype} of shape {pooled.shape}, expected float16 of {(len(index), embed_dim)}"
            )
    except DamagedArrays as error:
        raise HeadstartError(f"{marker.payload} cannot be read ({error}). {REDO}") from None
    return arrays


def require_rows_of(marker: Marker, arrays: NamedArrays, name: str, first_row: int | None = None) -> None:
    """Raises: DamagedArrays unless `index` has rows of that job, each once, and the array `name` an item for each.

    Args: first_row: number of the source's first item; None: what the part's name says.
    """
    missing = {name, "index"} - arrays.keys()
    if missing:
        raise DamagedArrays(f"it lacks {', '.join(sorted(missing))}")
    source, _, part = marker.job.source.rpartition("/")
    first = part_of(Path(source), part).first_row if first_row is None else first_row
    require_positions(arrays["index"], first + marker.job.start, first + marker.job.stop, "index")
    if not arrays[name].ndim or len(arrays[name]) != len(arrays["index"]):
        raise DamagedArrays(f"{name} has shape {arrays[name].shape}, expected {len(arrays['index'])} rows")


def round_features(
    values: NDArray[np.float32], positions: Sequence[int]
) -> tuple[NDArray[np.float16], list[int], dict[int, ImageError]]:
    """Rounds (n, d) features of the images at n `positions`.

    Returns: (m, d) float16, all finite; their m positions; and by position the errors of the other images.
    """
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(half).all(axis=1))
    if finite.all():
        return half, list(positions), {}
    kept = [i for i, is_good in zip(positions, finite, strict=True) if is_good]
    lost = sorted(set(positions) - set(kept))
    reason = "the encoder gave NaN or a value beyond float16 (65,504)"
    return half[finite], kept, {i: ImageError("non_finite", reason) for i in lost}
