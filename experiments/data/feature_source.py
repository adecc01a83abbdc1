"""Where heads get rows from: the packed cache, or a matrix in memory. Rows are kept as float16 and handed out as float32."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError


class FeatureSource(Protocol):
    """n rows of d features; `features.store.cached_features.CachedFeatures` is one."""

    @property
    def digest(self) -> str:
        """Equal only if every position holds the same."""

    @property
    def embed_dim(self) -> int: ...

    def __len__(self) -> int: ...

    def take(self, positions: NDArray[np.int64], out: NDArray[np.float16] | None = None) -> NDArray[np.float16]:
        """Rows (k, d) at any positions, in that order."""

    def blocks(self, positions: NDArray[np.int64], size: int = 2048) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Rows at `positions`, in ascending order."""


@dataclass(frozen=True)
class ArrayFeatures:
    """A matrix (n, d) in memory as a source. Anything that is not float16 is rounded to it, as it would be on disk."""

    features: NDArray[np.float16]

    @property
    def embed_dim(self) -> int:
        return int(self.features.shape[1])

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def digest(self) -> str:
        facts = str(self.features.shape).encode()
        return hashlib.sha256(facts + np.ascontiguousarray(self.features).tobytes()).hexdigest()

    def take(self, positions: NDArray[np.int64], out: NDArray[np.float16] | None = None) -> NDArray[np.float16]:
        result = np.empty((len(positions), self.embed_dim), np.float16) if out is None else out
        return np.take(self.features, positions, axis=0, out=result, mode="clip")

    def blocks(self, positions: NDArray[np.int64], size: int = 2048) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        ordered = np.sort(positions)
        for start in range(0, len(ordered), size):
            chosen = ordered[start : start + size]
            yield chosen, self.take(chosen)


def by_blocks(
    source: FeatureSource,
    positions: NDArray[np.int64],
    outputs: int,
    scores: Callable[[NDArray[np.int64], NDArray[np.float16]], NDArray[np.float32]],
    size: int = 2048,
) -> NDArray[np.float32]:
    """(len(positions), outputs): what `scores` says of each block of rows, in the order of `positions`, which are all different.

    Args:
        scores: (b, outputs) of (b,) positions and their features (b, d).
        size: the most rows of a block.
    """
    result = np.empty((len(positions), outputs), np.float32)
    place = np.empty(len(source), np.int64)
    place[positions] = np.arange(len(positions))
    for block, half in source.blocks(positions, size):
        result[place[block]] = scores(block, half)
    return result


def as_source(features: Any) -> FeatureSource:
    """`features` itself if it is a source, else a matrix (n, d) as one. Raises: HeadstartError if it is neither or not finite."""
    if hasattr(features, "take") and hasattr(features, "blocks"):
        source: FeatureSource = features
        return source
    matrix = np.asarray(features)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise HeadstartError(f"features are {matrix.dtype} {matrix.shape}, expected numbers of shape (images, channels)")
    with np.errstate(over="ignore"):
        half = matrix.astype(np.float16)
    if not np.isfinite(half).all():
        row = int(np.flatnonzero(~np.isfinite(half).all(axis=1))[0])
        raise HeadstartError(
            f"features of row {row} are not finite as float16 (at most 65,504). Leave such rows out, or scale them"
        )
    return ArrayFeatures(half)


def as_float32(half: NDArray[np.float16], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """(n, d), also of a stretch of `out`, which has as many rows or more.

    torch has the processor do it, numpy 2.4 computes it, seven times slower; the bits are the same. torch itself takes a
    second to import, so it is used only where somebody else has.
    """
    result = np.empty(half.shape, np.float32) if out is None else out[: len(half)]
    torch = sys.modules.get("torch")
    if torch is None or getattr(torch.__spec__, "_initializing", False):  # another thread may be importing it
        np.copyto(result, half)
    else:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # a second one would wait for BLAS, whose threads spin for a while after each product
        torch.from_numpy(result).copy_(torch.from_numpy(half))
        torch.set_num_threads(threads)
    return result
