"""A recipe's model from data to a finished experiment by one call: what `headstart train` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from headstart.experiments.runs.beginning.begin_recipe import begin_recipe, sketch_of
from headstart.experiments.runs.catalog import recipe_of_run
from headstart.experiments.runs.finishing import Words, do_first, finish
from headstart.experiments.runs.recipe_experiment import RecipeExperiment, list_recipe_experiments
from headstart.experiments.training.conduct import Conduct
from headstart.experiments.training.loop import Loop
from headstart.experiments.training.options import RecipeOptions, as_values, merged_options, option_files
from headstart.experiments.training.plan import Plan, Way, plan_lines, rows_words
from headstart.experiments.training.recipe import NamedRecipe, Needing, Planning, asking, has, named_recipe
from headstart.features.accelerators import device_kind
from headstart.features.devices import choose_device
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.kinds import Settings
from headstart.pipeline.memory import current_rss_bytes
from headstart.pipeline.workspace import Workspace, find_root, open_or_create_workspace


@dataclass(frozen=True)
class RecipeTraining:
    """How far a training is.

    Attributes:
        experiment: None if it was not begun: what its data needs is not done yet.
        is_finished: whether weights and numbers are there; if not, the same call goes on.
        exit_code: of the command: 10 where a time limit ended it.
    """

    experiment: RecipeExperiment | None
    is_finished: bool
    exit_code: int


def train_recipe(
    recipe: str | NamedRecipe,
    values: Mapping[str, Any] | None = None,
    workspace: Workspace | Path | str | None = None,
    *,
    config: Path | None = None,
    device: str = "auto",
    conduct: Conduct | None = None,
    name: str | None = None,
    time_limit_s: float | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> RecipeTraining:
    """Trains a model by a recipe; killed and called again, it goes on from the last checkpoint and ends in the same bits.

    Args:
        recipe: a name of `headstart train --list`, or a file of your own, which runs.
        values: options of the recipe by name, or `preset`; config: a YAML file with others, see `merged_options`.
        workspace: a folder, made if absent; None is the one that every command would take, see `find_root`.
        device: auto, cpu, cuda, xpu or mps. conduct: how else it runs here; its own device is not looked at.
        name: of the experiment; the same options under a new name train anew.
        time_limit_s: leave by then, with a checkpoint.
        report: gets a line as soon as it is known.

    Raises: HeadstartError with one line if options do not fit, the recipe or the training fails, or the name is taken by another
        experiment; TryLaterError if the disk is full or the database stays locked.
    """
    chosen = named_recipe(recipe) if isinstance(recipe, str) else recipe
    options = merged_options(chosen.recipe.Options, values or {}, config)
    opened = _opened(workspace)
    conduct = replace(conduct or Conduct(), device=choose_device(device))
    if has(chosen.recipe, "plan") and not _was_begun(opened, chosen, options):
        for line in plan_lines(_ways(opened, chosen, options), conduct.device):
            report(line)
    settings = Settings(device, ram_bytes=conduct.ram_bytes, vram_bytes=conduct.vram_bytes)
    if has(chosen.recipe, "needs"):
        with asking("needs"):
            works = cast(Needing, chosen.recipe).needs(options, opened)
        begun_s = time.monotonic()
        status = do_first(opened, works, settings, time_limit_s, report)
        if time_limit_s is not None:
            time_limit_s -= time.monotonic() - begun_s
        if status is not None:
            return RecipeTraining(None, is_finished=False, exit_code=status)
    begun = begin_recipe(opened, chosen.recipe, chosen.file, options, conduct, name)
    for note in begun.notes:
        report(f"note: {note}")
    report(f"{begun.experiment.folder.name}: {rows_words(begun.experiment.counts)}")
    words = Words("the same recipe and options on the same data", again="train it again")
    ending = finish(opened, begun, words, settings, time_limit_s, report)
    return RecipeTraining(ending.experiment, ending.is_finished, ending.exit_code)


def plan_recipe(
    recipe: str | NamedRecipe,
    values: Mapping[str, Any] | None = None,
    workspace: Workspace | Path | str | None = None,
    *,
    config: Path | None = None,
    device: str = "auto",
) -> Plan:
    """What `train_recipe` with the same arguments would learn from and take; nothing is begun. Raises as `train_recipe`."""
    chosen = named_recipe(recipe) if isinstance(recipe, str) else recipe
    options = merged_options(chosen.recipe.Options, values or {}, config)
    option_files(options)  # refused here as they are when it trains
    opened, device = _opened(workspace), choose_device(device)
    if has(chosen.recipe, "plan"):
        return Plan(_ways(opened, chosen, options), device=device)
    with asking("data"):
        splits = chosen.recipe.data(options, opened)
    loop = Loop(chosen.recipe, options, splits, Conduct(device), workspace=opened)
    held = current_rss_bytes() if device == "cpu" or device_kind(device).shares_memory(device) else 0
    way = Way("as it is", True, loop.steps, held + loop.step_memory().of(loop.progress.micro_batch))
    return Plan([way], {name: len(rows) for name, rows in splits.named().items()}, splits.contents, splits.notes, device)


def _ways(workspace: Workspace, chosen: NamedRecipe, options: RecipeOptions) -> Sequence[Way]:
    with asking("plan"):
        return cast(Planning, chosen.recipe).plan(options, workspace)


def _was_begun(workspace: Workspace, chosen: NamedRecipe, options: RecipeOptions) -> bool:
    """Whether the same command began a training before, as far as its options tell."""
    values = as_values(options)
    return any(dict(one.values) == values and one.recipe == chosen.file.stem for one in list_recipe_experiments(workspace))


def trained_recipe(
    recipe: str | NamedRecipe,
    values: Mapping[str, Any] | None = None,
    workspace: Workspace | Path | str | None = None,
    *,
    config: Path | None = None,
    device: str = "auto",
    name: str | None = None,
    run: int | None = None,
) -> RecipeExperiment:
    """The experiment that the same arguments of `train_recipe` began before; or that of a run, whatever the others say.

    Raises: HeadstartError if there is none, or the run trained heads.
    """
    chosen = named_recipe(recipe) if isinstance(recipe, str) else recipe
    options = merged_options(chosen.recipe.Options, values or {}, config)
    opened = _opened(workspace)
    if run is not None:
        experiment = recipe_of_run(opened, str(run))
        if experiment is None:
            raise HeadstartError(f"run {run} trained heads. Judge it again: headstart evaluate {run}")
        return experiment
    sketch, _ = sketch_of(opened, chosen.recipe, chosen.file, options, Conduct(choose_device(device)), name)
    for experiment in list_recipe_experiments(opened):
        if experiment.on_any_machine().identity == sketch.identity and name in (None, experiment.name):
            return experiment
    raise HeadstartError("nothing was trained with these options on this data. Leave --test-only out, or name a run: --run N")


def _opened(workspace: Workspace | Path | str | None) -> Workspace:
    return workspace if isinstance(workspace, Workspace) else open_or_create_workspace(find_root(workspace))
