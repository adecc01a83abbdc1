"""How the heads of a finished training and the baselines did: chosen on validation, the test split read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.statistics import dead_channels
from headstart.experiments.heads.trainer import Outcome
from headstart.experiments.linear.baselines import fit_baselines, inputs_of
from headstart.experiments.linear.closed_form import scores_of
from headstart.experiments.runs.experiment_data import ExperimentData, training_folds
from headstart.experiments.runs.head_experiment import HeadExperiment
from headstart.experiments.training.progress import monitor_for

from .metrics import classification_metrics, compare_classifiers, compare_regressors, probabilities_of, regression_metrics

FORMAT = 2  # 1 had intervals of the percentile bootstrap
_NOT_OF_SCORES = (
    "log_loss",
    "log_loss_interval",
    "ece",
    "per_class",
    "confusion_matrix",
)  # baselines give scores, not probabilities


@dataclass(frozen=True)
class ExperimentEvaluation:
    """Attributes:
    metrics: everything that `metrics.json` says, ready for JSON.
    scores: (n, k) logits or numbers of the selected head on the test rows, or on validation if there are none.
    """

    metrics: dict[str, Any]
    scores: NDArray[np.float32]


def evaluate_experiment(
    experiment: HeadExperiment, data: ExperimentData, outcomes: Sequence[Outcome], check: Callable[[], None] = lambda: None
) -> ExperimentEvaluation:
    """The same for the same heads.

    Args:
        outcomes: one a head, in the order of `experiment.heads`.
        check: called between heads, and between passes over the rows; may raise to leave.
    """
    folds = training_folds(data, experiment.baselines.folds)
    baselines, statistics = fit_baselines(data.data, experiment.baselines, folds, check)
    test_scores: dict[str, NDArray[np.float32]] = {}
    heads, others = [], []
    for outcome in outcomes:
        check()
        entry = _course(outcome)
        if outcome.best_epoch >= 0:
            for split, positions in _splits(data):
                scores = outcome.head.scores(data.data.source, positions, data.data.auxiliary)
                entry[split] = head_metrics(data, outcome.head.config.output_for(experiment.task), scores, positions)
                test_scores[entry["head"]] = scores  # of the last split, which is test where there is one
        heads.append(entry)
    found_scores = {
        split: scores_of(inputs_of(data.data), positions, [each.head for each in baselines]) for split, positions in _splits(data)
    }
    for number, baseline in enumerate(baselines):
        entry = {"baseline": baseline.name, **baseline.settings}
        for split, positions in _splits(data):
            metrics = head_metrics(data, "linear", found_scores[split][number], positions)
            entry[split] = {key: value for key, value in metrics.items() if key not in _NOT_OF_SCORES}
        others.append(entry)
    selected = selected_head(outcomes)
    judged = {
        "format": FORMAT,
        "experiment": experiment.folder.name,
        "task": experiment.task,
        "classes" if experiment.task == "classification" else "targets": list(data.data.targets.names),
        "rows": data.counts,
        "selected": selected,
        "selected_by": {"split": "val", "metric": monitor_for(experiment.options.monitor, experiment.task)},
        "heads": heads,
        "baselines": others,
        "comparisons": _comparisons(data, selected, test_scores),
        "notes": [*data.notes, *_channel_notes(dead_channels(statistics), data.data.inputs)],
    }
    return ExperimentEvaluation(judged, test_scores[selected])


def selected_head(outcomes: Sequence[Outcome]) -> str:
    """Name of the head that is best on validation; of equals the one with the lower loss, then the first."""
    best = max(outcomes, key=lambda outcome: (outcome.best_score, -_best_loss(outcome)))
    return best.head.config.name


def head_metrics(data: ExperimentData, output: str, scores: NDArray[np.float32], positions: NDArray[np.int64]) -> dict[str, Any]:
    """All metrics of one head on some rows. Args: output: see HeadConfig; scores: logits or numbers (len(positions), k)."""
    targets, groups = data.data.targets, data.features.groups[positions]
    if targets.task == "classification":
        probabilities = probabilities_of(scores, "softmax" if output == "linear" else output)
        return classification_metrics(probabilities, targets.codes[positions], targets.names, groups=groups)
    return regression_metrics(scores, targets.values[positions], targets.names, groups)


def _course(outcome: Outcome) -> dict[str, Any]:
    is_trained = outcome.best_epoch >= 0
    return {
        "head": outcome.head.config.name,
        "sha256_of_weights": outcome.head.digest if is_trained else None,
        "epochs": len(outcome.history),
        "steps": len(outcome.history) * outcome.steps_per_epoch,
        "best_epoch": outcome.best_epoch if is_trained else None,
        "is_stopped_early": outcome.is_stopped_early,
        "has_diverged": not is_trained,
    }


def _best_loss(outcome: Outcome) -> float:
    loss = outcome.history[outcome.best_epoch]["val_loss"] if outcome.best_epoch >= 0 else None
    return float("inf") if loss is None else float(loss)


def _splits(data: ExperimentData) -> list[tuple[str, NDArray[np.int64]]]:
    return [("val", data.data.val)] + ([("test", data.test)] if len(data.test) else [])


def _comparisons(data: ExperimentData, selected: str, scores: dict[str, NDArray[np.float32]]) -> list[dict[str, Any]]:
    """The chosen head against each other one on the same test images."""
    if not len(data.test):
        return []
    best, targets, rows = scores[selected], data.data.targets, data.test
    groups = data.features.groups[rows]
    result: list[dict[str, Any]] = []
    for name, other in scores.items():
        if name == selected:
            continue
        if targets.task == "classification":
            compared = compare_classifiers(best.argmax(axis=1), other.argmax(axis=1), targets.codes[rows], groups=groups)
            result.append({"head": selected, "than": name, "metric": "accuracy", **compared})
            continue
        for place, target in enumerate(targets.names):
            compared = compare_regressors(best[:, place], other[:, place], targets.values[rows, place], groups=groups)
            result.append({"head": selected, "than": name, "metric": f"mse of {target}", **compared})
    return result


def _channel_notes(dead: int, inputs: int) -> list[str]:
    return [f"{dead:,} of {inputs:,} inputs never change on the training rows and say nothing"] if dead else []
