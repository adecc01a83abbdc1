"""Opens the database so that it says what the experiments' folders say: what differs is made again from them.

Where it cannot be written, it is made in memory. Imports no numpy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from headstart.experiments.runs.any_experiment import list_any_experiments
from headstart.experiments.runs.experiment import experiment_folders
from headstart.experiments.runs.head_experiment import HeadExperiment
from headstart.experiments.runs.recipe_experiment import RecipeExperiment
from headstart.pipeline import paths
from headstart.pipeline.doors.records import seal
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

from .database import BUSY_S, Database, MadeRun, in_memory, open_database
from .recipe_rows import made_recipe_runs
from .rows import NUMBERS, made_runs, stamp_of


@contextlib.contextmanager
def open_synchronized(workspace: Workspace, busy_s: float = BUSY_S) -> Iterator[Database]:
    """Raises: as `open_database`, but not because it is lost or must not be written."""
    path = workspace.database
    is_writable = os.access(path if paths.exists(path) else path.parent, os.W_OK) and os.access(path.parent, os.W_OK)
    with open_database(path, busy_s) if is_writable else in_memory(path) as database:
        synchronize(workspace, database)
        yield database


def rebuild(workspace: Workspace) -> int:
    """Makes the database again from the folders alone; returns how many runs it has. A damaged one is moved aside first."""
    path = workspace.database
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        with contextlib.suppress(FileNotFoundError):
            paths.rename(path.with_name(name), path.with_name(f"{name}.replaced"))
    with open_synchronized(workspace) as database:
        return len(database.runs())


def record(workspace: Workspace, experiment: HeadExperiment | RecipeExperiment) -> None:
    """Notes a finished training, and what number each of its runs has, so that a database made anew gives it the same."""
    with open_database(workspace.database) as database:
        database.replace_experiment(experiment.folder.name, _made(experiment))
        numbers = {run.head: run.run for run in database.runs() if run.experiment == experiment.folder.name}
    workspace.files.replace(experiment.folder / NUMBERS, seal(numbers))


def synchronize(workspace: Workspace, database: Database) -> None:
    """Makes again what differs; an experiment whose files are damaged keeps the rows it has."""
    there = database.stamps()
    known = {folder.name for folder in experiment_folders(workspace)}
    gone = there.keys() - known
    if gone:
        database.forget(gone)
    for experiment in list_any_experiments(workspace):
        stamp = stamp_of(experiment)
        stamps = there.get(experiment.folder.name, {})
        if stamp is None:
            if stamps:
                database.forget([experiment.folder.name])
        elif not stamps or set(stamps.values()) != {stamp}:
            with contextlib.suppress(HeadstartError):
                database.replace_experiment(experiment.folder.name, _made(experiment))


def _made(experiment: HeadExperiment | RecipeExperiment) -> list[MadeRun]:
    return made_runs(experiment) if isinstance(experiment, HeadExperiment) else made_recipe_runs(experiment)
