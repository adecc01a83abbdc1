"""Opens the database so that it says what the experiments' folders say: what differs is made again from them.

Where it cannot be written, it is made in memory. Imports no numpy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from headstart.experiments.runs.any_experiment import read_any_experiment
from headstart.experiments.runs.experiment import experiment_folders, is_finished_folder
from headstart.experiments.runs.head_experiment import HeadExperiment
from headstart.experiments.runs.recipe_experiment import RecipeExperiment
from headstart.pipeline import paths
from headstart.pipeline.doors.records import seal
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

from .database import BUSY_S, Database, DifferentRows, MadeRun, in_memory, move_aside, open_database
from .recipe_rows import made_recipe_runs
from .rows import NUMBERS, Report, ignored, made_runs, stamp_of


@contextlib.contextmanager
def open_synchronized(
    workspace: Workspace, busy_s: float = BUSY_S, in_full: bool = False, report: Report = ignored
) -> Iterator[Database]:
    """Args:
        in_full: also the course of each training is compared, which only who shows it needs.
        report: called with a line for each file that is damaged, so that rows are missing or are those of before.

    Raises: as `open_database`, but not because it is lost or must not be written.
    """
    path, fsync = workspace.database, workspace.files.fsync
    is_writable = os.access(path if paths.exists(path) else path.parent, os.W_OK) and os.access(path.parent, os.W_OK)
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(open_database(path, busy_s, fsync) if is_writable else in_memory(path))
        try:
            synchronize(workspace, database, in_full, report)
        except DifferentRows:
            # Whatever lies in it is not trusted any more, not even to be mended: its trees may be what is damaged.
            stack.close()
            move_aside(path)
            report(f"{path} had other rows than were written; it was made again from the folders of the runs")
            database = stack.enter_context(open_database(path, busy_s, fsync))
            synchronize(workspace, database, in_full, report)
        yield database


def rebuild(workspace: Workspace) -> int:
    """Makes the database again from the folders alone; returns how many runs it has. A damaged one is moved aside first."""
    move_aside(workspace.database)
    with open_synchronized(workspace) as database:
        return len(database.runs())


def record(workspace: Workspace, experiment: HeadExperiment | RecipeExperiment) -> None:
    """Notes a finished training, and what number each of its runs has, so that a database made anew gives it the same."""
    with open_database(workspace.database, fsync=workspace.files.fsync) as database:
        database.replace_experiment(experiment.folder.name, _made(experiment))
        numbers = {run.head: run.run for run in database.runs() if run.experiment == experiment.folder.name}
    workspace.files.replace(experiment.folder / NUMBERS, seal(numbers))


def synchronize(workspace: Workspace, database: Database, in_full: bool = False, report: Report = ignored) -> None:
    """Makes again what differs; an experiment whose files are damaged keeps the rows it has.

    Raises: DifferentRows if the database is not as it was written.
    """
    there = database.stamps(in_full)
    folders = experiment_folders(workspace)
    gone = there.keys() - {folder.name for folder in folders}
    if gone:
        database.forget(gone)
    for folder in folders:
        stamps = there.get(folder.name, {})
        try:
            experiment = read_any_experiment(workspace, folder)
            stamp = stamp_of(experiment)
            if stamp is None:
                if stamps:
                    database.forget([folder.name])
            elif not stamps or set(stamps.values()) != {stamp}:
                database.replace_experiment(folder.name, _made(experiment, report))
        except DifferentRows:
            raise
        except HeadstartError as error:
            if is_finished_folder(folder):
                report(str(error))


def _made(experiment: HeadExperiment | RecipeExperiment, report: Report = ignored) -> list[MadeRun]:
    return made_runs(experiment, report) if isinstance(experiment, HeadExperiment) else made_recipe_runs(experiment, report)
