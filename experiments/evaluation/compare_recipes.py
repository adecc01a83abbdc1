"""Whether the model of one trained recipe is better than that of another one on the same test rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.experiments.runs.recipe_experiment import RecipeExperiment
from headstart.experiments.training.judging.metrics import Metric, judging
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

from .evaluate_recipe import judged_again
from .metrics import compare_classifiers
from .publish_recipe import is_proportion, paired_interval


@dataclass(frozen=True)
class ComparedRecipe:
    """One side of a comparison, as its lines name it."""

    run: str
    experiment: RecipeExperiment

    @property
    def words(self) -> str:
        return f"run {self.run} ({self.experiment.recipe} of {self.experiment.folder.name})"

    def as_json(self) -> dict[str, Any]:
        return {"run": self.run, "experiment": self.experiment.folder.name, "recipe": self.experiment.recipe}


def compare_recipes(workspace: Workspace, first: ComparedRecipe, second: ComparedRecipe) -> dict[str, Any]:
    """What both are judged by: metric, difference first minus second, its 95 % interval in pairs; of shares McNemar's p, too.

    Raises: HeadstartError unless both were judged by the same number on the same test rows, and it has one for each row.
    """
    _require_same_rows(first, second)
    one, two = (judging(judged_again(workspace, side.experiment)) for side in (first, second))
    if one.name != two.name or one.rows is None or two.rows is None or len(one.rows) != len(two.rows):
        raise HeadstartError(
            f"{first.words} is judged by {one.name} and {second.words} by {two.name}. Only one number that each row "
            "has, on as many rows, can be compared: compare runs of one recipe"
        )
    if is_proportion(one) and is_proportion(two):
        right = [_right(metric) for metric in (one, two)]
        other = right[0] if first.experiment == second.experiment else right[1]
        return {"metric": one.name, **compare_classifiers(right[0], other, np.ones(len(one.rows), np.int64))}
    low, high = paired_interval(one, two)
    interval = [0.0, 0.0] if low is None or high is None else [low, high]
    return {"metric": one.name, "better": one.better, "difference": one.value - two.value, "interval": interval}


def _right(metric: Metric) -> Any:
    assert metric.rows is not None
    return (metric.rows[:, 0] == 1).astype(np.int64)


def _require_same_rows(first: ComparedRecipe, second: ComparedRecipe) -> None:
    one, two = first.experiment, second.experiment
    # Other options of a transform give the same rows another digest; which rows they are is settled by name.
    is_same = one.data == two.data or (
        one.recipe == two.recipe
        and one.settled
        and one.settled == two.settled
        and one.values.get("seed") == two.values.get("seed")
    )
    if not is_same or one.counts != two.counts:
        raise HeadstartError(
            f"{first.words} and {second.words} were not judged on the same test rows. Train both on what is there now"
        )
