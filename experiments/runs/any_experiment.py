"""Experiments of every kind: read and listed whatever they train. Imports no numpy."""

from pathlib import Path

from headstart.pipeline.workspace import Workspace

from .experiment import Experiment, kind_of
from .head_experiment import HeadExperiment, list_head_experiments, read_head_experiment
from .recipe_experiment import RecipeExperiment, list_recipe_experiments, read_recipe_experiment


def read_any_experiment(workspace: Workspace, folder: Path) -> HeadExperiment | RecipeExperiment:
    """As `read_experiment`; one that cannot be read is refused as one that trains heads."""
    if kind_of(folder) == RecipeExperiment.KIND:
        return read_recipe_experiment(workspace, folder)
    return read_head_experiment(workspace, folder)


def list_any_experiments(workspace: Workspace) -> list[HeadExperiment | RecipeExperiment]:
    """All by number, as `list_experiments`."""
    experiments: list[HeadExperiment | RecipeExperiment] = [
        *list_head_experiments(workspace),
        *list_recipe_experiments(workspace),
    ]
    return sorted(experiments, key=_number)


def _number(experiment: Experiment) -> int:
    return experiment.number
