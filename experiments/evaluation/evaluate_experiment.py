"""How the heads of a finished training and the baselines did: chosen on validation, the test split read once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.statistics import dead_channels
from headstart.experiments.heads.trained_head import TrainedHead
from headstart.experiments.heads.trainer import Outcome
from headstart.experiments.linear.baselines import Prepared, fit_baselines, inputs_of
from headstart.experiments.linear.closed_form import scores_of
from headstart.experiments.runs.experiment_data import ExperimentData, training_folds
from headstart.experiments.runs.head_experiment import HeadExperiment
from headstart.experiments.training.early_stopping import monitor_for
from headstart.experiments.training.state.kept_parts import Parts

from .fitted_heads import as_head
from .head_choice import Candidate, Choice, choose_beyond_doubt, corrected_validation, simplicity_of
from .intervals import SMALL, Sample
from .leaks import leak_aware
from .metrics import classification_metrics, compare_classifiers, compare_regressors, probabilities_of, regression_metrics

FORMAT = 2  # 1 had intervals of the percentile bootstrap, and baselines that were no heads


@dataclass(frozen=True)
class ExperimentEvaluation:
    """Attributes:
    metrics: everything that `metrics.json` says, ready for JSON.
    scores: (n, k) logits or numbers of the selected head on the test rows, or on validation if there are none.
    baselines: as heads, in the order of `metrics["baselines"]`.
    """

    metrics: dict[str, Any]
    scores: NDArray[np.float32]
    baselines: tuple[TrainedHead, ...]


def evaluate_experiment(
    experiment: HeadExperiment,
    data: ExperimentData,
    outcomes: Sequence[Outcome],
    check: Callable[[], None] = lambda: None,
    parts: Parts | None = None,
    report: Callable[[str], None] = lambda text: None,
    prepared: Prepared | None = None,
) -> ExperimentEvaluation:
    """The same for the same heads.

    Args:
        outcomes: one a head, in the order of `experiment.heads`.
        check: called between heads, and between passes over the rows; may raise to leave.
        parts: keeps what takes long for whoever goes on; report: told what is done.
        prepared: of these rows, if it is there already.
    """
    folds = training_folds(data, experiment.baselines.folds)
    baselines, statistics = fit_baselines(data.data, experiment.baselines, folds, check, parts, report, prepared)
    val_scores = scores_of(inputs_of(data.data), data.data.val, [each.head for each in baselines])
    fitted = []
    for baseline, scores in zip(baselines, val_scores, strict=True):
        head = as_head(baseline, data.data, scores)
        fitted.append(_renamed(head, {config.name for config in experiment.heads}))
    scores_by_head: dict[str, dict[str, NDArray[np.float32]]] = {}
    candidates = []
    is_of_classes, nothing = experiment.task == "classification", np.empty(0, np.int64)

    def evaluated(head: TrainedHead, entry: dict[str, Any]) -> dict[str, Any]:
        check()
        for split, positions in _splits(data):
            scores = head.scores(data.data.source, positions, data.data.auxiliary)
            entry[split] = head_metrics(data, head.config.output_for(experiment.task), scores, positions)
            scores_by_head.setdefault(head.config.name, {})[split] = scores
        answers = scores_by_head[head.config.name]["val"].argmax(axis=1) if is_of_classes else nothing
        candidates.append(Candidate(head.config.name, entry, simplicity_of(head), answers))
        return entry

    heads = [evaluated(each.head, _course(each)) if each.best_epoch >= 0 else _course(each) for each in outcomes]
    others = [
        evaluated(head, {"baseline": head.config.name, **_settings(head), "sha256_of_weights": head.digest}) for head in fitted
    ]
    monitor = monitor_for(experiment.options.monitor, experiment.task)
    groups = data.features.groups
    codes = data.data.targets.codes[data.data.val] if is_of_classes else nothing
    choice = choose_beyond_doubt(candidates, monitor, codes, groups[data.data.val])
    selected = choice.selected
    last = _splits(data)[-1][0]  # test where there is one
    metrics = {
        "format": FORMAT,
        "experiment": experiment.folder.name,
        "task": experiment.task,
        "classes" if experiment.task == "classification" else "targets": list(data.data.targets.names),
        "rows": data.counts,
        "groups": len(set(groups[groups != ""].tolist())) or None,
        "validation": _digest_of(data, data.data.val),
        "selected": selected,
        "selected_by": {"split": "val", "metric": monitor, "of": len(candidates), **_why(choice)},
        "corrected_validation": _corrected(data, scores_by_head),
        "heads": heads,
        "baselines": others,
        **leak_aware(data, scores_by_head[selected][last]),
        "comparisons": _comparisons(data, selected, {name: scores[last] for name, scores in scores_by_head.items()}),
        "notes": [*worse_than_commonest(data, candidates, selected), *data.notes, *_notes(data, dead_channels(statistics))],
    }
    return ExperimentEvaluation(metrics, scores_by_head[selected][last], tuple(fitted))


def head_metrics(data: ExperimentData, output: str, scores: NDArray[np.float32], positions: NDArray[np.int64]) -> dict[str, Any]:
    """All metrics of one head on some rows. Args: output: see HeadConfig; scores: logits or numbers (len(positions), k)."""
    targets, groups = data.data.targets, data.features.groups[positions]
    if targets.task == "classification":
        probabilities = probabilities_of(scores, "softmax" if output == "linear" else output)
        return classification_metrics(probabilities, targets.codes[positions], targets.names, groups=groups)
    true = targets.about_mean(targets.values[positions])
    return regression_metrics(targets.about_mean(scores), true, targets.names, groups)


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


def _digest_of(data: ExperimentData, positions: NDArray[np.int64]) -> str:
    """sha256 (hex) of which images these are, whatever encoder saw them."""
    rows = data.features.rows
    names = [f"{rows.datasets[rows.dataset[position]]} {rows.index[position]}" for position in positions.tolist()]
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def _why(choice: Choice) -> dict[str, Any]:
    return {"equals": choice.equals, **({"within_noise": choice.within_noise} if choice.within_noise else {})}


def _settings(head: TrainedHead) -> dict[str, Any]:
    return {key: value for key, value in (head.fitted or {}).items() if key != "method"}


def _renamed(head: TrainedHead, taken: set[str]) -> TrainedHead:
    """Under a name that no trained head of an earlier version has."""
    if head.config.name not in taken:
        return head
    return replace(head, config=replace(head.config, name=f"{head.config.name}-baseline"))


def _corrected(data: ExperimentData, scores: Mapping[str, Mapping[str, NDArray[np.float32]]]) -> float | None:
    """Accuracy alone: of numbers, choosing the best is only said to flatter. None, too, where the training rows validate."""
    if data.data.targets.task != "classification" or np.array_equal(data.data.val, data.data.train):
        return None
    codes = data.data.targets.codes[data.data.val]
    return corrected_validation({name: found["val"].argmax(axis=1) == codes for name, found in scores.items()})


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
            one, two, true = (targets.about_mean(values)[:, place] for values in (best, other, targets.values[rows]))
            compared = compare_regressors(one, two, true, groups=groups)
            result.append({"head": selected, "than": name, "metric": f"mse of {target}", **compared})
    return result


def _notes(data: ExperimentData, dead: int) -> Iterator[str]:
    if dead:
        yield f"{dead:,} of {data.data.inputs:,} inputs never change on the training rows and say nothing"
    for split, positions in _splits(data):
        sample = Sample(len(positions), data.features.groups[positions])
        if sample.units < SMALL:
            name = {"val": "validation", "test": "test"}[split]
            are = "is" if sample.units == 1 else "are"
            yield f"{sample.words} in {name} {are} few: another draw may give quite other numbers"


def worse_than_commonest(data: ExperimentData, candidates: Sequence[Candidate], selected: str) -> Iterator[str]:
    """A note, if the chosen head answers worse than whoever always says the class that training has most of."""
    if data.data.targets.task != "classification":
        return
    rows = data.test if len(data.test) else data.data.val
    counts = np.bincount(data.data.targets.codes[data.data.train], minlength=data.data.targets.outputs)
    commonest = int(counts.argmax())
    share = float((data.data.targets.codes[rows] == commonest).mean())
    entry = next(each.entry for each in candidates if each.name == selected)
    split = "test" if len(data.test) else "val"
    if entry[split]["accuracy"] < share:
        yield (
            f"{selected} is right on {entry[split]['accuracy']:.4f} of the {'test' if split == 'test' else 'validation'} images, "
            f"less than always saying '{data.data.targets.names[commonest]}' ({share:.4f})"
        )
