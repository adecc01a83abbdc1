"""Images unlike all others: far from their nearest neighbours, compared with how far images usually are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .neighbours import Neighbours

ODD = 4.0  # robust standard deviations above the median


def oddness(neighbours: Neighbours) -> NDArray[np.float64]:
    """(m,) mean distance (1 - cosine) to the nearest images, in robust standard deviations above the median of all.

    Zero where all distances are alike. Distances to k neighbours: Ramaswamy, Rastogi & Shim, SIGMOD 2000; median and MAD:
    Iglewicz & Hoaglin 1993.
    """
    distances = 1.0 - neighbours.cosine.astype(np.float64).mean(axis=1)
    median = float(np.median(distances))
    spread = 1.4826 * float(np.median(np.abs(distances - median)))
    return np.zeros(len(distances)) if spread <= 0 else np.asarray((distances - median) / spread)


def odd_places(neighbours: Neighbours, least: float = ODD) -> NDArray[np.int64]:
    """Places of images that are odder than `least`, the oddest first."""
    odd = oddness(neighbours)
    places = np.flatnonzero(odd > least)
    return np.asarray(places[np.argsort(-odd[places], kind="stable")])
