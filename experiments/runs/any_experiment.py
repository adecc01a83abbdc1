"""Experiments of every kind: read and listed whatever they train. Imports no numpy."""

import contextlib
from pathlib import Path
from typing import cast

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

from .experiment import experiment_folders, read_experiment
from .head_experiment import HeadExperiment
from .recipe_experiment import RecipeExperiment


def read_any_experiment(workspace: Workspace, folder: Path) -> HeadExperiment | RecipeExperiment:
    """As `read_experiment`; one that cannot be read is refused as one that trains heads."""
    kinds = cast(tuple[type[HeadExperiment | RecipeExperiment], ...], (HeadExperiment, RecipeExperiment))
    return read_experiment(workspace, folder, *kinds)


def list_any_experiments(workspace: Workspace) -> list[HeadExperiment | RecipeExperiment]:
    """All by number, as `list_experiments`."""
    experiments = []
    for folder in experiment_folders(workspace):
        with contextlib.suppress(HeadstartError):
            experiments.append(read_any_experiment(workspace, folder))
    return experiments
