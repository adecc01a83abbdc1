"""The rows that an experiment learns from and is judged on: targets and auxiliary columns beside mapped features."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.columns import auxiliary_of, class_labels_of, targets_of
from headstart.experiments.data.group_folds import group_folds
from headstart.experiments.data.targets import Targets, Units
from headstart.experiments.data.training_data import TrainingData
from headstart.features.store.cached_features import CachedFeatures
from headstart.features.store.snapshot import open_snapshot
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.text import plural, printable, verb
from headstart.pipeline.workspace import Workspace

from .experiment import ROWS
from .head_experiment import HeadExperiment

_PROBED = 512


@dataclass(frozen=True)
class ExperimentData:
    """Attributes:
    data: features, targets, and the positions of train and val.
    test: positions to judge on once, those that have a target.
    features: labels, groups and paths of all positions.
    notes: what a reader of the numbers should know, one line each.
    """

    data: TrainingData
    test: NDArray[np.int64]
    features: CachedFeatures
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Rows in each split, and images that the data set has."""
        sizes = {"train": len(self.data.train), "val": len(self.data.val), "test": len(self.test)}
        return {**sizes, "images": self.features.rows.images}


def experiment_data(workspace: Workspace, experiment: HeadExperiment, is_checked: bool = False) -> ExperimentData:
    """What an experiment was begun on, bit for bit, whatever has been extracted since.

    Args:
        is_checked: also compare every byte of the cache with what was packed.

    Raises: HeadstartError if that is no longer there.
    """
    path = experiment.folder / ROWS
    try:
        with environment_faults(f"cannot read {path}"):
            rows = reading.read(path, reading.PAYLOAD_BYTES)
    except FileNotFoundError:
        rows = b""
    if hashlib.sha256(rows).hexdigest() != experiment.rows_sha256:
        raise HeadstartError(
            f"{path} is missing or damaged. Restore it from a copy, or train anew: headstart train-head --name NEW"
        )
    cached = open_snapshot(workspace, experiment.encoder, rows, is_checked)
    return data_of(cached, experiment.task, experiment.targets, experiment.auxiliary, experiment.val_part, experiment.centers)


def data_of(
    cached: CachedFeatures,
    task: str,
    targets: tuple[str, ...],
    auxiliary: tuple[str, ...],
    val_part: float,
    centers: tuple[str, ...] = (),
) -> ExperimentData:
    """Targets and splits for rows of a cache.

    Args:
        val_part: of the training rows that becomes validation, with groups left whole; 0: the split 'val' is.
        centers: 'targets' and 'auxiliary', if those numbers are to be in units of the training rows.

    Raises: HeadstartError in one line for whatever no head can learn from: see `targets`, and constant features.
    """
    train, val, test = (np.flatnonzero(cached.rows.split.is_(name)) for name in ("train", "val", "test"))
    wanted = targets_of(cached, task, targets, train, (val, test), "targets" in centers)
    if val_part:
        train, val = set_aside(train, val_part, cached, wanted)
        none_to_spare = not len(val)
        val = train if none_to_spare else val
    columns = auxiliary_of(cached, auxiliary)
    units = Units.of(columns, train) if columns is not None and "auxiliary" in centers else None
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused as what is no number
        beside = None if columns is None else columns.astype(np.float32) if units is None else units.apply(columns)
    if beside is not None:
        _refuse_missing(cached, auxiliary, beside, wanted.is_known, {"train": train, "val": val, "test": test})
    data = TrainingData(cached, wanted, train, val, beside, units)
    _refuse_constant(data)
    known = wanted.is_known
    notes = []
    if val_part and none_to_spare:
        notes.append("no class has a training image to spare for validation: heads are chosen on the training images themselves")
    elif val_part:
        count = len(data.val)
        drawn = f"{plural(count, 'training image')} {verb(count, 'were')} drawn and set aside for it"
        notes.append(f"the data has no validation split: {drawn}")
    lacking = np.concatenate([train, val, test])
    lacking = lacking[~known[lacking]]
    unseen = int((class_labels_of(cached, targets)[lacking] != "").sum()) if task == "classification" else 0
    without = len(lacking) - unseen
    if without:
        notes.append(f"{plural(without, 'image')} {verb(without, 'have')} no target and {verb(without, 'are')} left out")
    if unseen:
        are = verb(unseen, "are")
        notes.append(f"{plural(unseen, 'image')} {are} of classes that training has no image of so far, and {are} left out")
    if cached.rows.divided:
        divided = f"{plural(cached.rows.divided, 'image')} of validation or test {verb(cached.rows.divided, 'are')} also in train"
        notes.append(f"{divided}, byte for byte: scores on them are too optimistic")
    if task == "classification":
        counts = np.bincount(wanted.codes[data.train], minlength=wanted.outputs)
        lone = [name for name, count in zip(wanted.names, counts, strict=True) if count == 1]
        if lone:
            shown = ", ".join(f"'{name}'" for name in lone[:3]) + (", ..." if len(lone) > 3 else "")
            notes.append(
                f"{len(lone)} of {wanted.outputs} classes {verb(len(lone), 'have')} "
                f"one training image, which is little to learn from: {shown}"
            )
    judged = test[known[test]]
    if not len(judged):
        notes.append("no image of the split 'test' has features and a target: heads are judged on validation alone")
    return ExperimentData(data, judged, cached, tuple(notes))


def _refuse_missing(
    cached: CachedFeatures,
    names: tuple[str, ...],
    values: NDArray[np.float32],
    is_known: NDArray[np.bool_],
    splits: dict[str, NDArray[np.int64]],
) -> None:
    for split, rows in splits.items():
        lacking = np.argwhere(~np.isfinite(values[rows]) & is_known[rows][:, None])
        if len(lacking):
            row, column = int(rows[lacking[0][0]]), int(lacking[0][1])
            raise HeadstartError(
                f"an auxiliary column has {split} rows without a number: '{printable(names[column])}' of "
                f"{printable(cached.paths[row])}. Fill them in, or leave the column out of --aux"
            )


def training_folds(data: ExperimentData, folds: int) -> NDArray[np.int64] | None:
    """(len(train),) fold of each training row, groups left whole; None for no folds.

    Raises: HeadstartError if there are fewer groups than folds.
    """
    return group_folds(data.features.groups[data.data.train], folds) if folds else None


def set_aside(
    train: NDArray[np.int64], part: float, cached: CachedFeatures, targets: Targets
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training rows without a part of them, and that part: whole groups, always the same ones, and of no class the last row."""
    train = train[targets.is_known[train]]
    fold_of = group_folds(cached.groups[train], max(2, round(1 / part)))
    is_val = fold_of == 0
    if targets.task == "classification":
        kept = np.bincount(targets.codes[train[~is_val]], minlength=targets.outputs)
        is_val &= kept[targets.codes[train]] > 0
    return train[~is_val], train[is_val]


def _refuse_constant(data: TrainingData) -> None:
    if data.auxiliary is None and not np.ptp(data.source.take(data.train[:_PROBED]).astype(np.float32), axis=0).any():
        rows = data.source.take(data.train).astype(np.float32)
        if not np.ptp(rows, axis=0).any():
            raise HeadstartError(
                f"all {len(data.train):,} training images have the same {data.source.embed_dim} features; there is nothing to "
                "learn from. Check images and weights, then enqueue them again"
            )
