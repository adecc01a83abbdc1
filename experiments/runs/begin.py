"""Begins an experiment: finds the one that the same command began before, or makes its folder and queues its job."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from headstart.experiments.config import (
    USUAL_BASELINES,
    BaselineOptions,
    HeadConfig,
    TrainingOptions,
    as_facts,
    refuse_bad_head_names,
)
from headstart.experiments.heads.grid import refuse_too_large
from headstart.experiments.heads.pass_plan import plan
from headstart.features.store.cached_features import CachedFeatures
from headstart.features.store.snapshot import encode_snapshot
from headstart.pipeline.enqueue import Work, append_work, queue_lock, restorable_jobs
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import TEMPORARY_PREFIX
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import known_kinds
from headstart.pipeline.queue import Reader
from headstart.pipeline.workspace import Workspace

from .experiment import (
    DESCRIPTION,
    ROWS,
    Experiment,
    experiment_folders,
    is_finished,
    list_experiments,
    number_of,
    placed,
    refuse_bad_name,
)
from .experiment_data import data_of, training_folds

KIND = "train_head"


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        features: to learn from.
        task, targets, auxiliary, heads, options, baselines: see Experiment.
        val_part: likewise; None: a tenth if the data has no validation split.
        name: of the experiment, None to call it after its heads.
    """

    features: CachedFeatures
    task: str
    targets: tuple[str, ...]
    auxiliary: tuple[str, ...]
    heads: tuple[HeadConfig, ...]
    options: TrainingOptions
    name: str | None = None
    val_part: float | None = None
    baselines: BaselineOptions = USUAL_BASELINES


@dataclass(frozen=True)
class Begun:
    """An experiment that is there now.

    Attributes:
        job: the one that trains it.
        is_new: False if it was there before.
        notes: about its rows, of a new one.
    """

    experiment: Experiment
    job: Job
    is_new: bool
    notes: tuple[str, ...] = ()


def begin(workspace: Workspace, request: Request) -> Begun:
    """Finds or makes the experiment, and its row in the queue. Two callers at once get two numbers.

    Raises: HeadstartError if nothing can be learnt from these rows, or the name is taken by an experiment that differs.
    """
    if request.name is not None:
        refuse_bad_name(request.name)
    refuse_bad_head_names(request.heads)
    if request.baselines.logistic and request.task != "classification":
        raise HeadstartError(
            "--logistic needs classes, these targets are numbers. Leave it out: ridge is the baseline of numbers"
        )
    with queue_lock(workspace):
        sketch = _sketch(workspace, request)
        there = _existing(list_experiments(workspace), sketch, request.name)
        if there is not None:
            return Begun(there, _queued(workspace, there), is_new=False)
        found = data_of(request.features, request.task, request.targets, request.auxiliary, sketch.val_part)
        refuse_too_large(request.heads, found.data.inputs, found.data.targets.outputs, _free_memory_bytes())
        plan(found.data, request.heads, request.options)  # refuses what does not fit before anything is written, as below
        training_folds(found, request.baselines.folds)
        experiment = _made(workspace, request.features, replace(sketch, counts=found.counts))
        return Begun(experiment, _queued(workspace, experiment), is_new=True, notes=found.notes)


def _sketch(workspace: Workspace, request: Request) -> Experiment:
    return Experiment(
        folder=workspace.experiments / "exp_0000_none",
        number=0,
        name=request.name or _default_name(request.heads),
        encoder=request.features.folder,
        fingerprint=request.features.rows.fingerprint,
        task=request.task,
        # What was left open is settled: a later version may have another usual weight decay.
        heads=tuple(replace(head, weight_decay=head.decay) for head in request.heads),
        options=request.options,
        targets=request.targets,
        auxiliary=request.auxiliary,
        val_part=_val_part(request),
        data=request.features.digest,
        rows_sha256="",
        counts={},
        baselines=request.baselines,
        dataset=request.features.selected,
    )


def _free_memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _val_part(request: Request) -> float:
    has_val = bool(request.features.rows.split.is_("val").any())
    if request.val_part is None:
        return 0.0 if has_val else 0.1
    if has_val:
        raise HeadstartError("the data has a validation split, so none is drawn: leave --val-part out")
    return request.val_part


def _default_name(heads: tuple[HeadConfig, ...]) -> str:
    return heads[0].name[:40].replace("+", "_") if len(heads) == 1 else "ablation"


def _existing(experiments: list[Experiment], sketch: Experiment, name: str | None) -> Experiment | None:
    mine = experiments if name is None else [found for found in experiments if found.name == name]
    for found in mine:
        if found.identity == sketch.identity:
            return found
    # One that was begun on fewer rows and never finished is finished first: that is what the same command after a crash means.
    for found in mine:
        if found.configuration == sketch.configuration and not is_finished(found):
            return found
    if name is not None and mine:
        raise HeadstartError(
            f"--name {name} is taken by {mine[-1].folder.name}, which differs: {_difference(mine[-1], sketch)}. "
            "Give this one another --name, or leave --name out"
        )
    return None


def _difference(old: Experiment, new: Experiment) -> str:
    """The first thing that differs, for people."""
    if old.data != new.data and old.configuration == new.configuration:
        return f"it learnt from {old.counts['train']:,} training images as they were then, there are others now"
    before, now = _settings(old), _settings(new)
    differing = next((key for key in before | now if before.get(key) != now.get(key)), None)
    return "its rows" if differing is None else f"its {differing} is {before.get(differing)}, now {now.get(differing)}"


def _settings(experiment: Experiment) -> dict[str, Any]:
    """Every setting by what people call it."""
    words = {word: getattr(experiment, word) for word in ("dataset", "task", "targets", "auxiliary", "val_part")}
    options = as_facts(experiment.options)
    del options["checkpoint_s"]
    heads = {f"{key} of head '{head.name}'": value for head in experiment.heads for key, value in as_facts(head).items()}
    fingerprint = f"{experiment.encoder.name} {experiment.fingerprint[:8]}"
    options |= as_facts(experiment.baselines)
    return {"encoder": fingerprint, **words, **options, "number of heads": len(experiment.heads), **heads}


def _made(workspace: Workspace, features: CachedFeatures, sketch: Experiment) -> Experiment:
    rows = encode_snapshot(features)
    _clear_never_begun(workspace)
    number = max((number_of(path) for path in experiment_folders(workspace)), default=0) + 1
    experiment = placed(replace(sketch, rows_sha256=hashlib.sha256(rows).hexdigest()), workspace, number)
    workspace.make_folder(experiment.folder)
    workspace.files.replace(experiment.folder / ROWS, rows)
    workspace.files.publish(experiment.folder / DESCRIPTION, experiment.encode())  # last: without it nothing was begun
    return experiment


def _clear_never_begun(workspace: Workspace) -> None:
    """Whoever was killed between the two files left rows that belong to nobody: their number is free again."""
    for folder in experiment_folders(workspace):
        names = [path.name for path in folder.iterdir()]
        if all(name == ROWS or name.startswith(TEMPORARY_PREFIX) for name in names):
            for name in names:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def _queued(workspace: Workspace, experiment: Experiment) -> Job:
    folder = workspace.relative(experiment.folder)
    work = Work(KIND, folder, experiment.source, 1, 1)
    _, fresh = append_work(workspace, [work], known_kinds(), lambda reader: restorable_jobs(workspace, reader))
    return fresh[0] if fresh else _job_of(Reader(workspace, known_kinds()), folder)


def _job_of(jobs: Iterable[Job], folder: str) -> Job:
    return next(job for job in jobs if job.folder == folder)
