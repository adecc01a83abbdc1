"""How far the letters of a line lean, and whether what was written leans as the hand does that it was to go on in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstart.experiments.training.judging.by_image import pearson_metric
from headstart.experiments.training.judging.metrics import Metric

from .line import PenLine


def slant(line: PenLine) -> float:
    """Units to the right for each unit upwards: the shear after which the pen goes as often left as right while it rises.

    Only ink counts, not where the pen is carried; 0 for a line that nowhere goes up or down.
    """
    is_ink = np.ones(len(line), bool)
    is_ink[:1], is_ink[1:] = False, ~line.ends[:-1]
    x, y = line.offsets[is_ink].astype(np.float64).T
    rise = float((y * y).sum())
    return -float((x * y).sum()) / rise if rise else 0.0


def slant_carried(written: Sequence[PenLine], hands: Sequence[PenLine]) -> Metric:
    """The correlation slant_r of lines with the hands that primed them, or would have; NaN where one of both never changes."""
    said, true = (np.array([slant(line) for line in lines]) for lines in (written, hands))
    return pearson_metric("slant_r", said, true, np.arange(len(said)))
