"""Whether a lead on validation is more than noise. Imports no numpy: the list of runs comes at once."""

from __future__ import annotations

REFERENCE = "logistic"  # what another head has to beat by more than noise: of few images the best of many is a matter of luck


def standard_error(accuracy: float, images: int) -> float:
    """Of an accuracy on so many images. Two more images, one of them right, keep it above 0 where all are right or none."""
    share = (accuracy * images + 1) / (images + 2)
    return float((share * (1 - share) / images) ** 0.5)


def is_noise(best: float, reference: float, images: int) -> bool:
    """Whether the best accuracy is above that of the reference, and by no more than one standard error of it.

    The rule of one standard error: Breiman, Friedman, Olshen & Stone, "Classification and Regression Trees", 1984.
    """
    return 0 < best - reference <= standard_error(min(1.0, reference), images)
