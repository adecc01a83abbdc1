"""A picture of what in an image speaks for an answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.images.reader import Pixels

_GREY = np.array([0.299, 0.587, 0.114])
_COLOUR = np.array([249.0, 115.0, 22.0])  # orange: against grey it is told apart by everybody
_STRONGEST = 0.75  # share of the colour where most speaks for the answer


def tinted(pixels: Pixels, evidence: NDArray[Any]) -> Pixels:
    """(h, w, 3) uint8: the image in grey, and in orange what speaks for the answer, relative to the place that does most.

    What speaks against it stays grey. Args: evidence: (rows, columns) on a grid over the whole image.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    positive = np.maximum(np.asarray(evidence, np.float32), 0)
    most = float(positive.max(initial=0))
    share = Image.fromarray(positive / most if most > 0 else positive).resize((width, height), Image.Resampling.BILINEAR)
    part = _STRONGEST * np.asarray(share, np.float64)[..., None]
    grey = (np.asarray(pixels, np.float64) @ _GREY)[..., None]
    return np.asarray(np.rint(grey * (1 - part) + _COLOUR * part), np.uint8)
