"""Finds the experiment that the same command began before, or gives a new one its number, folder and job; whatever it trains."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from headstart.experiments.runs.experiment import (
    DESCRIPTION,
    INPUTS,
    ROWS,
    SOURCE,
    AnyExperiment,
    Experiment,
    experiment_folders,
    is_finished,
    kind_of,
    list_experiments,
    name_of,
    number_of,
    placed,
    refuse_bad_name,
)
from headstart.pipeline import paths
from headstart.pipeline.enqueue import Work, append_work, queue_lock, restorable_jobs
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import TEMPORARY_PREFIX
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import known_kinds
from headstart.pipeline.queue import Reader
from headstart.pipeline.retire import CANCELLED, LIVE, PAUSED, withdraw
from headstart.pipeline.workspace import Workspace

# All that may stand in a folder before its description does, files or folders. A training that writes more first names them here.
_BEFORE_DESCRIPTION = frozenset({ROWS, SOURCE, INPUTS})


@dataclass(frozen=True)
class Begun(Generic[AnyExperiment]):
    """An experiment that is there now.

    Attributes:
        job: the one that trains it.
        is_new: False if it was there before.
        notes: about its rows, of a new one.
    """

    experiment: AnyExperiment
    job: Job
    is_new: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Complete(Generic[AnyExperiment]):
    """All that a new experiment needs before its description is written.

    Attributes:
        experiment: with everything but its number and folder.
        files: to stand in its folder first, by name: `rows.bin`, or what `_BEFORE_DESCRIPTION` names besides, a file in such a
            folder as `folder/name`.
        notes: see Begun.
    """

    experiment: AnyExperiment
    files: Mapping[str, bytes]
    notes: tuple[str, ...] = ()


def begin_experiment(
    workspace: Workspace,
    sketch: AnyExperiment,
    name: str | None,
    complete: Callable[[AnyExperiment], Complete[AnyExperiment]],
) -> Begun[AnyExperiment]:
    """Finds or makes the experiment, and its row in the queue. Two callers at once get two numbers.

    Args:
        sketch: what was asked for, not placed yet: its number and folder are those of `nowhere`.
        name: that the user gave it, None if it may be any experiment of the same configuration.
        complete: called only for a new one: refuses what cannot be trained, before anything is written.

    Raises: HeadstartError if the name is bad, or taken by an experiment that differs; and what `complete` raises.
    """
    if name is not None:
        refuse_bad_name(name)
    with queue_lock(workspace):
        there = _existing(workspace, sketch, name)
        if there is not None:
            return Begun(there, _queued(workspace, there), is_new=False)
        new = complete(sketch)
        experiment = _made(workspace, new)
        return Begun(experiment, _queued(workspace, experiment), is_new=True, notes=new.notes)


def _existing(workspace: Workspace, sketch: AnyExperiment, name: str | None) -> AnyExperiment | None:
    experiments = list_experiments(workspace, type(sketch))
    candidates = experiments if name is None else [experiment for experiment in experiments if experiment.name == name]
    for experiment in candidates:
        if experiment.on_any_machine().identity == sketch.identity:
            return experiment
    # One that was begun on fewer rows and never finished is finished first: that is what the same command after a crash means.
    for experiment in candidates:
        if experiment.on_any_machine().configuration == sketch.configuration and not is_finished(experiment):
            return experiment
    if name is not None:
        _refuse_taken(workspace, sketch, name, candidates)
    return None


def _refuse_taken(workspace: Workspace, sketch: Experiment, name: str, candidates: Sequence[Experiment]) -> None:
    hint = "Give this one another --name, or leave --name out"
    if candidates:
        last = candidates[-1]
        raise HeadstartError(f"--name {name} is taken by {last.folder.name}, which differs: {last.difference(sketch)}. {hint}")
    others = [
        folder.name
        for folder in experiment_folders(workspace)
        if name_of(folder) == name and kind_of(folder) not in (None, sketch.KIND)
    ]
    if others:
        raise HeadstartError(f"--name {name} is taken by {others[-1]}, which trains something else. {hint}")


def _made(workspace: Workspace, new: Complete[AnyExperiment]) -> AnyExperiment:
    _clear_never_begun(workspace)
    number = max((number_of(path) for path in experiment_folders(workspace)), default=0) + 1
    experiment = placed(new.experiment, workspace, number)
    workspace.make_folder(experiment.folder)
    for name, data in new.files.items():
        workspace.make_folder((experiment.folder / name).parent)
        workspace.files.replace(experiment.folder / name, data)
    workspace.files.publish(experiment.folder / DESCRIPTION, experiment.encode())  # last: without it nothing was begun
    return experiment


def _clear_never_begun(workspace: Workspace) -> None:
    """Whoever was killed before the description was written left files that belong to nobody: their number is free again."""
    for folder in experiment_folders(workspace):
        names = paths.names(folder)
        if all(name in _BEFORE_DESCRIPTION or name.startswith(TEMPORARY_PREFIX) for name in names):
            paths.remove_tree(folder)


def _queued(workspace: Workspace, experiment: Experiment) -> Job:
    folder = workspace.relative(experiment.folder)
    _let_go_on(workspace, folder)
    work = Work(experiment.KIND, folder, experiment.source, 1, 1)
    _, fresh = append_work(workspace, [work], known_kinds(), lambda reader: restorable_jobs(workspace, reader))
    return fresh[0] if fresh else _job_of(Reader(workspace, known_kinds()), folder)


def _let_go_on(workspace: Workspace, folder: str) -> None:
    """Whoever asks for a training that was paused or cancelled wants it to go on."""
    reader = Reader(workspace, known_kinds())
    for _ in reader:
        pass
    waiting = [job for job, withdrawal in reader.withdrawn if job.folder == folder and withdrawal.state in (PAUSED, CANCELLED)]
    withdraw(workspace, waiting, LIVE, folder)


def _job_of(jobs: Iterable[Job], folder: str) -> Job:
    return next(job for job in jobs if job.folder == folder)
