"""Trains all heads of an ablation in one pass over the features, in a way that a kill cannot change by one bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batches import TrainingData
from .configurations import HeadConfig, TrainingOptions, default_ablation
from .judging import Progress
from .plans import plan
from .source import as_source
from .targets import class_targets, value_targets
from .trainer import Keeper, Outcome, Trainer

__all__ = ["Keeper", "Outcome", "TrainingData", "default_ablation", "train", "train_head_only"]


def train(
    data: TrainingData,
    configurations: Sequence[HeadConfig],
    options: TrainingOptions,
    keeper: Keeper | None = None,
    check: Callable[[], None] = lambda: None,
    report: Callable[[int, list[Progress]], None] = lambda epoch, progress: None,
) -> list[Outcome]:
    """Every configuration, trained on the same rows in the same order; none influences another.

    Args:
        keeper: keeps states and gives the last one back; None trains without.
        check: called between chunks of batches; may raise to leave, and the same call then goes on where it was.
        report: hears of every finished epoch.

    Raises: HeadstartError if a target does not fit an output, names repeat, or every head diverges.
    """
    planned = plan(data, configurations, options)
    state = keeper.latest(planned.identity) if keeper else None
    trainer = Trainer(data, configurations, options, planned, state)
    trainer.run(keeper, check, report)
    return trainer.outcomes()


def train_head_only(
    features: Any,
    config: HeadConfig | None = None,
    labels: Sequence[Any] | NDArray[Any] | None = None,
    splits: Sequence[str] | NDArray[np.str_] | None = None,
    options: TrainingOptions | None = None,
) -> Outcome:
    """Trains one head on features that are there already: the call that notebooks know.

    Args:
        features: what `load_cached_features` returns, or a matrix (n, d).
        config: linear if None.
        labels: n classes (text) or numbers (float, for regression); those of the cache if None.
        splits: n times 'train', 'val' or anything else; those of the cache if None.

    Raises: HeadstartError as `train`.
    """
    source = as_source(features)
    names = np.asarray(features.splits if splits is None else splits)
    wanted = np.asarray(features.labels if labels is None else labels)
    train_rows, val_rows = np.flatnonzero(names == "train"), np.flatnonzero(names == "val")
    if wanted.dtype.kind == "f":
        targets = value_targets(["target"], [wanted.astype(np.float64)], train_rows)
    else:
        targets = class_targets(wanted.astype(np.str_), train_rows, [val_rows])
    data = TrainingData(source, targets, train_rows, val_rows)
    return train(data, [config or HeadConfig()], options or TrainingOptions())[0]
