"""Judges a trained head again, from its file and the cache: the numbers that training noted, or proof that they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.heads.trained_head import TrainedHead, read_head
from headstart.experiments.runs.catalog import BEST, Chosen, choose_run, recipe_of_run
from headstart.experiments.runs.experiment import read_metrics
from headstart.experiments.runs.experiment_data import ExperimentData, experiment_data
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import number_text, plural, verb
from headstart.pipeline.workspace import Workspace, as_workspace

from .compare_recipes import ComparedRecipe, compare_recipes
from .evaluate_experiment import FORMAT, head_metrics
from .metrics import compare_classifiers, compare_regressors, probabilities_of


@dataclass(frozen=True)
class RunEvaluation:
    """A head on one split.

    Attributes:
        metrics: see `evaluate_experiment.head_metrics`.
        baselines: the others by name, on the same rows, as training noted them.
        is_as_noted: whether training noted the same, to six digits; None if its notes are gone.
    """

    chosen: Chosen
    split: str
    names: tuple[str, ...]
    metrics: dict[str, Any]
    baselines: dict[str, dict[str, Any]]
    is_as_noted: bool | None

    def as_json(self) -> dict[str, Any]:
        return {
            **self.chosen.as_json(),
            "split": self.split,
            "names": list(self.names),
            "metrics": self.metrics,
            "baselines": self.baselines,
            "is_as_noted": self.is_as_noted,
        }


@dataclass(frozen=True)
class Comparison:
    """Two heads on the same test images, or two models of recipes on the same test rows.

    Attributes:
        results: one for classes, one a target for numbers: the metric, the difference first minus second, its 95 % interval.
    """

    first: Chosen | ComparedRecipe
    second: Chosen | ComparedRecipe
    results: tuple[dict[str, Any], ...]

    def as_json(self) -> dict[str, Any]:
        return {"first": self.first.as_json(), "second": self.second.as_json(), "comparisons": list(self.results)}


@dataclass(frozen=True)
class Scored:
    """What a head said of the rows of a split.

    Attributes:
        data: of its experiment.
        positions: (n,) of the rows in it.
        scores: (n, k) logits or numbers.
    """

    head: TrainedHead
    split: str
    data: ExperimentData
    positions: NDArray[np.int64]
    scores: NDArray[np.float32]


def evaluate_run(run: str | int = BEST, workspace: Workspace | Path | str | None = None, *, split: str = "test") -> RunEvaluation:
    """How good the trained head of a run is, from its file and the features: what `headstart evaluate` says.

    Args:
        run: its number, or 'best', see `choose_run`.
        workspace: a folder; None is the one that every command would take, see `find_root`.
        split: test or val.

    Raises: HeadstartError if there is no such run, or as `score_run`.
    """
    opened = as_workspace(workspace)
    chosen = choose_run(opened, str(run))
    return evaluate_scored(chosen, score_run(opened, chosen, split))


def score_run(workspace: Workspace, chosen: Chosen, split: str) -> Scored:
    """Raises: HeadstartError if the head or its rows are gone, or the split is empty."""
    head = read_head(chosen.head_path)
    data = experiment_data(workspace, chosen.experiment)
    positions = data.test if split == "test" else data.data.val
    if not len(positions):
        raise HeadstartError(f"{chosen.run.experiment} has no image of the split '{split}' with a target. Use --split val")
    return Scored(head, split, data, positions, head.scores(data.data.source, positions, data.data.auxiliary))


def answers_of(scored: Scored) -> Iterator[tuple[str, NDArray[np.float64], list[str]]]:
    """Of each image: its path, probabilities or numbers (k,), and what is true: the class, or k numbers as text."""
    head, targets, paths = scored.head, scored.data.data.targets, scored.data.features.paths
    values = scored.scores.astype(np.float64)
    if head.task == "classification":
        values = probabilities_of(scored.scores, head.config.output_for(head.task))
    else:
        values = targets.in_table(values)
    for position, said in zip(scored.positions.tolist(), values, strict=True):
        is_class = targets.task == "classification"
        true = (
            [targets.names[targets.codes[position]]]
            if is_class
            else [number_text(x) for x in targets.in_table(targets.values[position])]
        )
        yield paths[position], said, true


def evaluate_scored(chosen: Chosen, scored: Scored) -> RunEvaluation:
    """Everything about one head on one split."""
    split = scored.split
    metrics = head_metrics(scored.data, scored.head.config.output_for(scored.head.task), scored.scores, scored.positions)
    notes = read_metrics(chosen.experiment)
    entries = {entry["head"]: entry for entry in notes.get("heads", [])}
    entries |= {entry["baseline"]: entry for entry in notes.get("baselines", [])}
    noted = entries.get(chosen.run.head, {}).get(split)
    others = [entry["baseline"] for entry in notes.get("baselines", []) if entry["baseline"] != chosen.run.head]
    baselines = {name: entries[name][split] for name in others if split in entries[name]}
    return RunEvaluation(
        chosen, split, scored.head.names, metrics, baselines, None if noted is None else _is_noted(noted, metrics, notes)
    )


def compare_runs(first: str | int, second: str | int, workspace: Workspace | Path | str | None = None) -> Comparison:
    """Whether run `first` is better than run `second` on the test images of both: what `headstart runs compare` says.

    Args:
        first, second: numbers of runs, or 'best', see `choose_run`.
        workspace: a folder; None is the one that every command would take, see `find_root`.

    Raises: HeadstartError if there is no such run, or unless both were judged on the same test images with the same targets.
    """
    opened = as_workspace(workspace)
    recipes = [recipe_of_run(opened, str(text)) for text in (first, second)]
    if recipes[0] is not None and recipes[1] is not None:
        sides = ComparedRecipe(str(first), recipes[0]), ComparedRecipe(str(second), recipes[1])
        return Comparison(*sides, (compare_recipes(opened, *sides),))
    if recipes != [None, None]:
        raise HeadstartError(
            f"one of runs {first} and {second} is of a recipe and the other one a head, which are not judged on the same rows. "
            "headstart train finetune compares with the head that it starts from"
        )
    one, two = choose_run(opened, str(first)), choose_run(opened, str(second))
    return Comparison(one, two, tuple(_differences(opened, one, two)))


def _differences(workspace: Workspace, first: Chosen, second: Chosen) -> list[dict[str, Any]]:
    left, right = score_run(workspace, first, "test"), score_run(workspace, second, "test")
    order = _same_rows(first, left, second, right)
    targets, rows = left.data.data.targets, left.positions
    one, two = left.data.data.targets.in_table(left.scores), right.data.data.targets.in_table(right.scores[order])
    true, groups = targets.in_table(targets.values[rows]), left.data.features.groups[rows]
    if targets.task == "classification":
        said = one.argmax(axis=1)
        other = said if first.run.run == second.run.run else two.argmax(axis=1)
        return [{"metric": "accuracy", **compare_classifiers(said, other, targets.codes[rows], groups=groups)}]
    return [
        {
            "metric": f"mse of {name}",
            **compare_regressors(one[:, place], two[:, place], true[:, place], groups=groups),
        }
        for place, name in enumerate(targets.names)
    ]


def _is_noted(noted: Any, metrics: dict[str, Any], notes: dict[str, Any]) -> bool:
    if notes.get("format", 1) >= FORMAT:
        return _alike(noted, metrics)
    return _alike(_without_intervals(noted), _without_intervals(metrics))  # an earlier version took other intervals


def _without_intervals(metrics: Any) -> Any:
    if not isinstance(metrics, dict):
        return metrics
    return {key: _without_intervals(value) for key, value in metrics.items() if not key.endswith("_interval")}


def _alike(noted: Any, again: Any) -> bool:
    """The same but for what another number of cores may round otherwise."""
    if isinstance(noted, dict) and isinstance(again, dict):
        return noted.keys() == again.keys() and all(_alike(noted[key], again[key]) for key in noted)
    if isinstance(noted, list) and isinstance(again, list):
        return len(noted) == len(again) and all(map(_alike, noted, again))
    if isinstance(noted, float) and isinstance(again, float):
        return math.isclose(noted, again, rel_tol=1e-6, abs_tol=1e-9)
    return bool(noted == again)


def _same_rows(first: Chosen, left: Scored, second: Chosen, right: Scored) -> NDArray[np.int64]:
    """Where the test rows of the first stand among those of the second."""
    if (left.head.task, left.head.names) != (right.head.task, right.head.names):
        raise HeadstartError(
            f"{first.words} and {second.words} have different targets, so they cannot be compared. See: headstart runs"
        )
    ours, theirs = _image_keys(left), _image_keys(right)
    if sorted(ours) != sorted(theirs):
        both = len(set(ours) & set(theirs))
        raise HeadstartError(
            f"{first.words} was tested on {plural(len(ours), 'image')}, {second.words} on {len(theirs):,}, "
            f"and {both:,} {verb(both, 'are')} the same. "
            "Only heads judged on the same test images can be compared: train both on what is there now"
        )
    place = {key: number for number, key in enumerate(theirs)}
    return np.array([place[key] for key in ours], np.int64)


def _image_keys(scored: Scored) -> list[tuple[str, int, str]]:
    rows = scored.data.features.rows
    targets = scored.data.data.targets
    keys = []
    for position in scored.positions:
        said = (
            str(targets.codes[position])
            if targets.task == "classification"
            else targets.in_table(targets.values[position]).astype(np.float32).tobytes().hex()
        )
        keys.append((rows.datasets[rows.dataset[position]], int(rows.index[position]), said))
    return keys
