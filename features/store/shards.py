"""Shards: the features of one job, rounded to float16, as an uncompressed NPZ whose bytes depend on the arrays alone."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.images.decode import ImageError
from headstart.pipeline.errors import HeadstartError

SUFFIX = ".npz"
Arrays = dict[str, NDArray[Any]]


def pack(arrays: Arrays) -> bytes:
    """NPZ bytes: stored, not compressed, members in the given order, no time stamps. numpy writes it, so numpy reads it."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def summary(arrays: Arrays) -> dict[str, dict[str, Any]]:
    """dtype and shape by name, as a marker records them."""
    return {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()}


def read(path: Path, expected: dict[str, dict[str, Any]]) -> Arrays:
    """The arrays of a shard, checked against its marker: exactly these members, dtypes and shapes, and the zip's CRCs.

    Raises: HeadstartError naming the file if anything differs.
    """
    try:
        with np.load(path, allow_pickle=False) as shard:
            arrays = {name: shard[name] for name in shard.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise HeadstartError(f"{path} cannot be read ({error}). Redo it: headstart verify --deep --repair") from None
    if summary(arrays) != expected:
        raise HeadstartError(
            f"{path} holds {summary(arrays)}, its marker says {expected}. Redo it: headstart verify --deep --repair"
        )
    return arrays


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
