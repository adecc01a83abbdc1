"""The model of a run that another run is judged by, is judged with or goes on from, or its options alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, TypeVar

from headstart.experiments.runs.catalog import recipe_of_run
from headstart.experiments.runs.recipe_experiment import RecipeExperiment, list_recipe_experiments, options_of, recipe_of
from headstart.experiments.training.data.batch import Facts
from headstart.experiments.training.options import as_values
from headstart.experiments.training.state.final_weights import built, read_final
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from torch import nn

Model = TypeVar("Model", bound="nn.Module")


def trained_model(workspace: Workspace, run: str | int, kind: type[Model], does: str) -> tuple[RecipeExperiment, Model, Facts]:
    """The experiment, its model and what the model knows of its data.

    Args:
        run: its number, or the name of its folder, which a training keeps of what it began with.
        kind: of the model that is wanted.
        does: what such a run does, for the message.

    Raises: HeadstartError if there is no such run, or its model is of another kind.
    """
    experiment = _experiment(workspace, run)
    if experiment is not None:
        model, about = model_of(experiment)
        if isinstance(model, kind):
            return experiment, model, about
    raise _other(run, does)


def trained_options(
    workspace: Workspace, run: str | int, names: Collection[str], does: str
) -> tuple[RecipeExperiment, dict[str, Any]]:
    """The experiment and what it was trained with; its weights are not read.

    Args: names: of the options that are wanted, which a recipe that does this has. run, does: as of `trained_model`.
    Raises: HeadstartError if there is no such run, or its recipe lacks one of these options.
    """
    experiment = _experiment(workspace, run)
    if experiment is not None:
        options = as_values(options_of(experiment, recipe_of(experiment)))
        if options.keys() >= set(names):
            return experiment, {name: options[name] for name in names}
    raise _other(run, does)


def _experiment(workspace: Workspace, run: str | int) -> RecipeExperiment | None:
    named = [one for one in list_recipe_experiments(workspace) if one.folder.name == run]
    return named[0] if named else recipe_of_run(workspace, str(run))


def _other(run: str | int, does: str) -> HeadstartError:
    return HeadstartError(f"run {run} is no finished training that {does}. See which there are: headstart runs")


def model_of(experiment: RecipeExperiment) -> tuple[nn.Module, Facts]:
    """The model of a finished training, and what it knows of its data. Raises: HeadstartError if its weights are gone."""
    recipe, final = recipe_of(experiment), read_final(experiment.final_weights)
    return built(recipe, options_of(experiment, recipe), final), Facts(final.about)
