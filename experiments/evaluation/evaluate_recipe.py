"""Judges a trained recipe's model again, from weights and data: the numbers that training noted, or proof that they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.experiments.runs.experiment import METRICS
from headstart.experiments.runs.recipe_experiment import RecipeExperiment, options_of, recipe_of, splits_of
from headstart.experiments.training.judge_model import judge
from headstart.experiments.training.judging.evaluation import judged_batches
from headstart.experiments.training.judging.metrics import Metric, Table
from headstart.experiments.training.recipe import asking
from headstart.experiments.training.state.final_weights import built, read_final
from headstart.features.devices import device_to_go_on
from headstart.pipeline.doors.records import read_record
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.memory import freed_memory_kept
from headstart.pipeline.workspace import Workspace

from .publish_recipe import RESULTS, numbers_of


def evaluate_recipe(
    workspace: Workspace, experiment: RecipeExperiment, split: str = "test", check: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Numbers by name with their intervals, and tables, as `metrics.json` has them. Raises as `judged_again`."""
    return numbers_of(judged_again(workspace, experiment, split, check))


def judged_again(
    workspace: Workspace, experiment: RecipeExperiment, split: str = "test", check: Callable[[], None] = lambda: None
) -> list[Metric | Table]:
    """What its weights say of a split. Raises: HeadstartError if weights or data are gone, or there is no such split."""
    import torch

    from headstart.experiments.training.loop import same_rounding

    final = read_final(experiment.final_weights)
    recipe = recipe_of(experiment)
    options = options_of(experiment, recipe)
    splits = splits_of(workspace, experiment, recipe, options, split)
    device = device_to_go_on(_noted_device(experiment), "auto")
    model = built(recipe, options, final, device)
    batches = judged_batches(splits, split, options, device, check=check)
    rounding = same_rounding(options.threads or torch.get_num_threads(), device)
    with rounding, freed_memory_kept(), asking("evaluate"):
        return judge(recipe, model, batches, options.amp)


def is_as_noted(experiment: RecipeExperiment, split: str, metrics: Mapping[str, Any]) -> bool | None:
    """Whether training noted the same numbers of that split; None if its notes are gone."""
    before = _noted(experiment, split)
    return None if before is None else all(before.get(name) == value for name, value in metrics.items())


def _noted_device(experiment: RecipeExperiment) -> str:
    """That training judged it on; the same one rounds alike."""
    try:
        return read_record(experiment.folder / METRICS, None).text("device")
    except (OSError, HeadstartError, KeyError):
        return experiment.device or "cpu"


def _noted(experiment: RecipeExperiment, split: str) -> dict[str, Any] | None:
    """What training noted of that split; None if its notes are gone."""
    try:
        facts = read_record(experiment.folder / RESULTS, None)
        if facts["split"] != split:
            facts = read_record(experiment.folder / METRICS, None).record(split)
        return facts
    except (OSError, HeadstartError, KeyError):
        return None
