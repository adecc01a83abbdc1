"""Heads from features to a finished experiment by one call: what `headstart train-head` does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.experiments.config import USUAL_STEPS, BaselineOptions, HeadConfig, TrainingOptions
from headstart.experiments.data.columns import detected_task
from headstart.experiments.evaluation.publish import damaged_files
from headstart.experiments.runs.begin import Begun
from headstart.experiments.runs.begin_heads import Request, begin_heads
from headstart.experiments.runs.head_experiment import HeadExperiment
from headstart.experiments.training.failure import told
from headstart.features.encoders.folder import chosen_encoder
from headstart.features.store.cached_features import CachedFeatures, of_dataset
from headstart.features.store.packing import open_cache
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import NotDone, read_marker
from headstart.pipeline.retry import bytes_of, retire, retry
from headstart.pipeline.worker import Finished, Limits, Worker
from headstart.pipeline.workspace import Workspace, as_workspace

_LEAVES_S = 5.0  # from the signal to the end of the chunk in hand


@dataclass(frozen=True)
class TrainedHeads:
    """An experiment, and how far it is.

    Attributes:
        is_finished: whether its heads and numbers are there; if not, the same call goes on from the last checkpoint.
        exit_code: of the command: 0 also where a time limit ended it.
    """

    experiment: HeadExperiment
    is_finished: bool
    exit_code: int = 0


def train_heads(
    heads: Sequence[HeadConfig] | None = None,
    workspace: Workspace | Path | str | None = None,
    *,
    encoder: str | None = None,
    data: str | None = None,
    task: str = "auto",
    targets: Sequence[str] = (),
    auxiliary: Sequence[str] = (),
    val_part: float | None = None,
    options: TrainingOptions | None = None,
    logistic: bool | None = None,
    folds: int = 0,
    name: str | None = None,
    time_limit_s: float | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> TrainedHeads:
    """Trains heads on the features that are there, all of them in one pass; killed and called again, it goes on.

    Args:
        heads: with different names; None: one linear head.
        workspace: a folder; None is the one that every command would take, see `find_root`.
        encoder: whose features, if there are several encoders; data: only the images of this data set.
        task: classification, regression, or auto: by the targets.
        targets, auxiliary, val_part, name: see `begin_heads.Request`.
        options: None: small sets are trained until validation gets no better, see `TrainingOptions.steps`.
        logistic: whether logistic regression is fitted, too; None: for classes. folds: see BaselineOptions.
        time_limit_s: leave by then, with a checkpoint.
        report: gets a line as soon as it is known.

    Raises: HeadstartError with one line if nothing can be learnt, options contradict each other, the training fails, or the name
        is taken by another experiment; TryLaterError if the disk is full or the database stays locked.
    """
    opened = as_workspace(workspace)
    features = _features(opened, encoder, data)
    decided = detected_task(features, tuple(targets)) if task == "auto" else task
    options = options or TrainingOptions(steps=USUAL_STEPS)
    baselines = BaselineOptions(decided == "classification" if logistic is None else logistic, folds)
    request = Request(
        features, decided, tuple(targets), tuple(auxiliary), tuple(heads or [HeadConfig()]), options, name, val_part, baselines
    )
    report(f"trains on {features.coverage}, {features.embed_dim:,} features each ({features.folder.name})")
    begun = begin_heads(opened, request)
    for note in begun.notes:
        report(f"note: {note}")
    return _brought_to_its_end(opened, begun, time_limit_s, report)


def _features(workspace: Workspace, encoder: str | None, data: str | None) -> CachedFeatures:
    features = open_cache(chosen_encoder(workspace, encoder))
    if data is None:
        return features
    return of_dataset(features, workspace.relative(workspace.manifests / Path(data).name))


def _brought_to_its_end(
    workspace: Workspace, begun: Begun[HeadExperiment], time_limit_s: float | None, report: Callable[[str], None]
) -> TrainedHeads:
    experiment, job, counts = begun.experiment, begun.job, begun.experiment.counts
    marker_bytes = bytes_of(workspace, job)
    try:
        marker = read_marker(workspace, job, experiment.identity, deep=True)
        damaged = damaged_files(experiment, marker.payload.read_bytes())
        if not damaged:
            report(f"{experiment.folder.name} is finished: the same heads on the same {counts['train']:,} training images")
            report("train them again under another name: --name NEW")
            return TrainedHeads(experiment, is_finished=True)
        report(f"note: {experiment.folder.name} lost {damaged[0]}; it is made again")
        retire(workspace, job, marker_bytes)
    except NotDone:
        pass
    retry(workspace, frozenset({job.job_id}))  # failed attempts are forgiven: whoever calls this wants another one
    if not begun.is_new:
        report(f"goes on with {experiment.folder.name}, begun on {counts['train']:,} training images")
    heads = f"{len(experiment.heads)} head{'s' if len(experiment.heads) > 1 else ''}"
    report(
        f"{experiment.folder.name}: {experiment.task}, {heads}, {counts['train']:,} train, "
        f"{counts['val']:,} val and {counts['test']:,} test images"
    )
    failures: list[str] = []

    def hear(finished: Finished) -> None:
        if finished.error is not None:
            failures.append(finished.error)

    worker = Worker(workspace, Settings(), Limits(max_jobs=1, only=frozenset({job.job_id})), hear)
    with _limited(time_limit_s, worker.stop.ask) as is_over:
        summary = worker.run()
    if failures:
        raise HeadstartError(told(failures[0]))
    try:
        read_marker(workspace, job, experiment.identity)
        return TrainedHeads(experiment, is_finished=True)
    except NotDone:
        pass
    if summary.exit_code:
        report("left; the same command goes on from the last checkpoint, and so does: headstart work")
        return TrainedHeads(experiment, is_finished=False, exit_code=0 if is_over.is_set() else summary.exit_code)
    reason = next(iter(summary.problems), f"another worker gave up on {job.job_id}; see: headstart status --failed")
    raise HeadstartError(f"{experiment.folder.name} is not finished: {reason}. Run the same command again")


@contextlib.contextmanager
def _limited(time_limit_s: float | None, ask: Callable[[], None]) -> Iterator[threading.Event]:
    """Within it, `ask` is called in time for the limit, and the event is set if it was."""
    is_over = threading.Event()  # Timer.finished would not do: to cancel a timer sets it, too

    def leave() -> None:
        is_over.set()
        ask()

    if time_limit_s is None:
        yield is_over
        return
    timer = threading.Timer(max(0.0, time_limit_s - _LEAVES_S), leave)
    timer.daemon = True
    timer.start()
    try:
        yield is_over
    finally:
        timer.cancel()
