"""How good a classifier is on the test images as they are, and without those that the audit doubts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import FeatureSource
from headstart.experiments.data.statistics import gather_statistics
from headstart.experiments.data.targets import class_targets
from headstart.experiments.linear.closed_form import fit_ridge_path, scores_of

_PENALTY = 0.1  # a row, of standardized features
ALL = "all test images"


@dataclass(frozen=True)
class CleanScore:
    """Accuracy of ridge, fitted to all training images, on the test images that are left.

    Attributes:
        without: what was left out; `ALL` for nothing.
        images, right: of test that are left, and how many of them ridge is right on.
    """

    without: str
    images: int
    right: int


def clean_scores(
    source: FeatureSource,
    labels: NDArray[np.str_],
    splits: NDArray[np.str_],
    doubts: Mapping[str, Sequence[int]],
    check: Callable[[], None] = lambda: None,
) -> tuple[CleanScore, ...]:
    """One score for all test images, one without each kind of doubt that concerns test, and one without any of them.

    Empty where there is no test split, or training has fewer than two classes.

    Args:
        labels, splits: (n,) of every row. doubts: positions of rows by what is doubted of them.
        check: called before each pass over the features; may raise to leave.
    """
    train, test = (np.flatnonzero((splits == name) & (labels != "")) for name in ("train", "test"))
    if not len(test) or len(set(labels[train].tolist())) < 2:
        return ()
    targets = class_targets(labels, train)
    check()
    (head,) = fit_ridge_path(gather_statistics(source, targets, {"train": train})["train"], [_PENALTY])
    check()
    is_right = scores_of(source, test, [head])[0].argmax(axis=1) == targets.codes[test]
    places = {name: np.isin(test, np.asarray(positions, np.int64)) for name, positions in doubts.items()}
    left_out = {ALL: np.zeros(len(test), np.bool_)} | {f"without {name}": place for name, place in places.items() if place.any()}
    if len(left_out) > 2:
        left_out["without any of these"] = np.any(list(left_out.values()), axis=0)
    return tuple(CleanScore(name, int((~out).sum()), int(is_right[~out].sum())) for name, out in left_out.items())
