"""Labels that are probably wrong: images whose label a classifier that never saw them hardly believes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import ArrayFeatures, FeatureSource
from headstart.experiments.data.group_folds import group_folds
from headstart.experiments.data.statistics import gather_statistics
from headstart.experiments.data.targets import Targets, class_targets
from headstart.experiments.linear.closed_form import scores_of
from headstart.experiments.linear.logistic import fit_logistic_path
from headstart.features.encoders.folder import chosen_encoder
from headstart.features.store.packing import open_cache
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, verb
from headstart.pipeline.workspace import Workspace, as_workspace

from .neighbours import nearest_images, principal_rows
from .stacked import LEAST_ROWS, MOST_CLASSES, NEIGHBOURS, VIEW_DIRECTIONS, kernel_scores, neighbour_votes

FOLDS = 5
_PENALTIES = (0.003, 0.03, 0.3)  # a row; the one that foresees left-out labels best
_TINIEST = 1e-12
_LEAST_PROBABILITY = 1e-4
_HARDLY = 0.05  # a label this improbable is suspect, whichever class is rather meant


@dataclass(frozen=True)
class SuspectLabel:
    """Attributes:
    label, suggested: what it is called, and what the classifier says.
    confidence, suggested_confidence: probabilities of the two, by a classifier that was not trained on this image.
    dataset: the folder of its manifest, relative to the workspace; row: of that manifest.
    """

    path: str
    split: str
    label: str
    suggested: str
    confidence: float
    suggested_confidence: float
    dataset: str
    row: int


@dataclass(frozen=True)
class LabelAudit:
    """Attributes:
    images: that have features and a label.
    right: part of them whose label the classifier says, too.
    suspects: the least believed first.
    """

    images: int
    right: float
    suspects: tuple[SuspectLabel, ...]


def audit_labels(
    workspace: Workspace | Path | str | None = None,
    encoder: str | None = None,
    check: Callable[[], None] = lambda: None,
    report: Callable[[str], None] = lambda text: None,
) -> LabelAudit:
    """Looks at every labelled image that has features, of all splits, through classifiers that were not trained on it.

    Args:
        workspace: a folder; None is the one that every command would take, see `find_root`.
        encoder: its folder or model; None where there is only one.
        check: called before each pass over the features; may raise to leave.
        report: told what is being done.

    Raises: HeadstartError if there are no features, fewer than two classes, or too few images for folds.
    """
    opened = as_workspace(workspace)
    cached = open_cache(chosen_encoder(opened, encoder))
    labelled = np.flatnonzero(cached.labels != "")
    if len(labelled) < 2 * FOLDS:
        raise HeadstartError(
            f"{plural(len(labelled), 'image')} {verb(len(labelled), 'have')} "
            f"features and a label, expected {2 * FOLDS} or more. Make more: headstart work"
        )
    report(f"asking classifiers of {len(labelled):,} images that they did not see")
    targets = class_targets(cached.labels, labelled)
    probabilities = judged_probabilities(cached, targets, labelled, cached.groups[labelled], check)
    codes = targets.codes[labelled]
    paths, splits, names = cached.paths, cached.splits, targets.names
    suspects = []
    for place in suspect_places(probabilities, codes).tolist():
        code, said = int(codes[place]), int(probabilities[place].argmax())
        position = int(labelled[place])
        own, other = float(probabilities[place, code]), float(probabilities[place, said])
        dataset = cached.rows.datasets[int(cached.rows.dataset[position])]
        row = int(cached.rows.index[position])
        suspects.append(SuspectLabel(paths[position], str(splits[position]), names[code], names[said], own, other, dataset, row))
    return LabelAudit(len(labelled), float((probabilities.argmax(axis=1) == codes).mean()), tuple(suspects))


def judged_probabilities(
    source: FeatureSource,
    targets: Targets,
    positions: NDArray[np.int64],
    groups: NDArray[np.str_],
    check: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """(m, k) of each row by classifiers on the folds that it is not in, arguments as of `left_out_probabilities`.

    Logistic regression; where there are enough rows, stacked with kernel ridge regression and the votes of neighbours, which knew
    a seventh more of the labels planted wrong (benchmarks/planted_flaws.py). Wolpert, "Stacked generalization", 1992.
    """
    if len(positions) < LEAST_ROWS or targets.outputs > MOST_CLASSES:
        return left_out_probabilities(source, targets, positions, groups, check)
    codes, everything = targets.codes[positions].astype(np.int64), np.arange(len(positions))
    known = replace(targets, codes=targets.codes[positions])
    rows = principal_rows(source, positions, VIEW_DIRECTIONS, check)
    logistic = left_out_probabilities(ArrayFeatures(rows.astype(np.float16)), known, everything, groups, check)
    votes = neighbour_votes(nearest_images(source, positions, NEIGHBOURS, check), codes, groups, targets.outputs)
    kernel = kernel_scores(rows, codes, groups, targets.outputs, check)
    views = np.concatenate([np.log(logistic + _LEAST_PROBABILITY), kernel, votes], axis=1).astype(np.float16)
    return left_out_probabilities(ArrayFeatures(views), known, everything, groups, check)


def left_out_probabilities(
    source: FeatureSource,
    targets: Targets,
    positions: NDArray[np.int64],
    groups: NDArray[np.str_],
    check: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """(m, k) of each row by logistic regression on the folds that it is not in; groups are left whole.

    Args:
        positions: (m,) ascending, all with a class; groups: (m,) text, '' for none.

    Raises: HeadstartError if there are fewer groups than folds.
    """
    fold_of = group_folds(groups, FOLDS)
    result = np.empty((len(_PENALTIES), len(positions), targets.outputs))
    for fold in range(FOLDS):
        train, rest = positions[fold_of != fold], fold_of == fold
        statistics = gather_statistics(source, targets, {"train": train})["train"]
        heads = fit_logistic_path(source, targets, train, statistics, _PENALTIES, check=check)
        for place, scores in enumerate(scores_of(source, positions[rest], heads)):
            result[place, rest] = _softmax(scores.astype(np.float64))
    believed = result[:, np.arange(len(positions)), targets.codes[positions]]
    best = int(np.log(np.maximum(believed, _TINIEST)).mean(axis=1).argmax())
    return np.asarray(result[best])


def suspect_places(probabilities: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of labels that are probably wrong, the least believed first.

    A row counts if another class is what it is most probably, and either that is at least as probable as that class is on average
    where it is the label (confident learning's joint, off its diagonal: Northcutt, Jiang & Chuang, "Confident Learning", JAIR
    2021), or its own label is hardly believed at all.

    Args:
        probabilities: (m, k) by models that did not see the row; codes: (m,) its label.
    """
    own = probabilities[np.arange(len(codes)), codes]
    sums, counts = np.bincount(codes, own, probabilities.shape[1]), np.bincount(codes, minlength=probabilities.shape[1])
    usual = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    said = probabilities.argmax(axis=1)
    is_sure = probabilities[np.arange(len(codes)), said] >= usual[said]
    places = np.flatnonzero((said != codes) & (is_sure | (own < _HARDLY)))
    return np.asarray(places[np.argsort(own[places], kind="stable")])


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
