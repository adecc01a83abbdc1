"""What heads learn from and are judged by, and how its inputs and targets are standardized."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural

from .feature_source import FeatureSource
from .statistics import Standardization
from .targets import Targets, Units


@dataclass(frozen=True)
class TrainingData:
    """What heads learn from and are judged by.

    Attributes:
        source, targets: n rows each.
        train, val: positions with a target.
        auxiliary: (n, a) float32 columns that stand after the features, None for none.
        auxiliary_units: what they are counted in; None: as they are in the table.
    """

    source: FeatureSource
    targets: Targets
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    auxiliary: NDArray[np.float32] | None = None
    auxiliary_units: Units | None = None

    def __post_init__(self) -> None:
        known = self.targets.is_known
        for name in ("train", "val"):
            positions = getattr(self, name)
            object.__setattr__(self, name, positions[known[positions]])
        if len(self.train) < 2:
            raise HeadstartError(f"the training split has {plural(len(self.train), 'row')} "
                "with features and a target, expected 2 or more. "
                                 "Work off more jobs: headstart work")  # fmt: skip
        if not len(self.val):
            raise HeadstartError(
                "the validation split has no rows with features and a target, and heads are chosen by it. "
                "Work off more jobs, or give some images the split 'val'"
            )
        if self.auxiliary is not None and not np.isfinite(self.auxiliary[np.concatenate([self.train, self.val])]).all():
            raise HeadstartError("an auxiliary column has rows without a number. Fill them in, or leave the column out of --aux")

    @property
    def inputs(self) -> int:
        return self.source.embed_dim + (0 if self.auxiliary is None else self.auxiliary.shape[1])


@dataclass(frozen=True)
class Scaling:
    """Standardization of inputs (d + a,) and of numbers to predict (k,), exactly of the training rows; float32 as applied."""

    mean: NDArray[np.float32]
    inverse_scale: NDArray[np.float32]
    target_mean: NDArray[np.float32]
    target_scale: NDArray[np.float32]


def scaling_of(data: TrainingData, standard: Standardization, is_scaled: bool) -> Scaling:
    """Args: standard: of the features (d,); is_scaled: whether targets are, too (not what a sigmoid has to reach)."""
    mean, scale = standard.mean, standard.scale
    if data.auxiliary is not None:
        columns = data.auxiliary[data.train].astype(np.float64)
        spread = columns.std(axis=0)
        mean, scale = np.append(mean, columns.mean(axis=0)), np.append(scale, np.where(spread > 0, spread, 1))
    k = data.targets.outputs
    target_mean, target_scale = np.zeros(k), np.ones(k)
    if is_scaled:
        values = data.targets.values[data.train].astype(np.float64)
        target_mean, target_scale = values.mean(axis=0), values.std(axis=0)
    return Scaling(*(array.astype(np.float32) for array in (mean, 1 / scale, target_mean, target_scale)))
