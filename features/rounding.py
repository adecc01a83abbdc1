"""Features as they are kept: float16, and no row with a value that float16 cannot hold."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .images import ImageError


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
