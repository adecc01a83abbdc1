"""Shards: the features of one job as an uncompressed NPZ whose bytes depend on the arrays alone."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
