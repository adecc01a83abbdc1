"""`headstart train-head`: heads on the features that are there."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.output.terminal import say

from .head_options import baseline_options, head_options, heads_of, training_options
from .options import Duration, as_json, opened, workspace_option

if TYPE_CHECKING:
    from headstart.experiments.runs.begin import Begun
    from headstart.experiments.runs.begin_heads import Request
    from headstart.experiments.runs.head_experiment import HeadExperiment
    from headstart.features.store.cached_features import CachedFeatures
    from headstart.pipeline.workspace import Workspace

_LEAVES_S = 5.0  # from the signal to the end of the chunk in hand


@click.command("train-head")
@click.option("--encoder", metavar="FOLDER|NAME", help="Whose features, if there are several encoders.")
@click.option("--data", metavar="NAME", help="Only the images of this data set, a folder in features/manifests. [default: all]")
@click.option("--task", type=click.Choice(["auto", "classification", "regression"]), default="auto", show_default=True)
@click.option("--target", "targets", multiple=True, metavar="COLUMN", help="What to predict, instead of the label; repeatable.")
@click.option("--aux", "auxiliary", multiple=True, metavar="COLUMN", help="Numbers that stand after the features; repeatable.")
@click.option(
    "--val-part",
    type=click.FloatRange(0, 0.5, min_open=True),
    metavar="X",
    help="Part of the training images to choose heads by, if the data has no validation split. [default: 0.1]",
)
@head_options
@training_options
@baseline_options
@click.option("--name", help="Of the experiment. The same options under a new name train anew.")
@click.option("--time-limit", type=Duration(), metavar="55m", help="Leave by then, with a checkpoint.")
@as_json
@workspace_option
def command(
    encoder: str | None,
    data: str | None,
    task: str,
    targets: tuple[str, ...],
    auxiliary: tuple[str, ...],
    val_part: float | None,
    name: str | None,
    time_limit: float | None,
    as_json: bool,
    workspace: str | None,
    **given: Any,
) -> int:
    """Train heads on the features that are there, all of them in one pass.

    Without options: one linear head. The heads are chosen by validation, and the test split is read once, at the end, for
    them and for baselines that need no training. Kill it whenever you must: the same command, or `headstart work`, goes on
    from the last checkpoint and ends in the same bits. When it is done, it says so and trains nothing.

    \b
    headstart train-head --ablation              linear, MLP-512, MLP-512 with augmentation
    headstart train-head --ablation grid.yaml    every combination of, for example,
                                                     hidden: [0, 512, [1024, 256]]
                                                     learning_rate: [0.001, 0.003]
    headstart train-head --hidden 512 --dropout 0.3 --seeds 5
    headstart train-head --preset quality --target score --aux sharpness --aux exposure
    """
    from headstart.commands.output.training import training_lines
    from headstart.experiments.evaluation.record import as_record
    from headstart.experiments.runs.begin_heads import begin_heads
    from headstart.experiments.runs.experiment import read_metrics

    opened_workspace = opened(workspace)
    request = _request(opened_workspace, encoder, data, task, (targets, auxiliary), (name, val_part), given)
    say(f"trains on {request.features.coverage}, {request.features.embed_dim:,} features each ({request.features.folder.name})")
    begun = begin_heads(opened_workspace, request)
    for note in begun.notes:
        say(f"note: {note}")
    status = _trained(opened_workspace, begun, time_limit)
    if status is not None:
        return status
    if as_json:
        click.echo(json.dumps(as_record(opened_workspace, begun.experiment), indent=1))
        return 0
    for line in training_lines(begun.experiment, read_metrics(begun.experiment), opened_workspace.database):
        click.echo(line)
    return 0


def _request(
    workspace: Workspace,
    encoder: str | None,
    data: str | None,
    task: str,
    columns: tuple[tuple[str, ...], tuple[str, ...]],
    about: tuple[str | None, float | None],
    given: dict[str, Any],
) -> Request:
    from headstart.experiments.config import BaselineOptions, TrainingOptions
    from headstart.experiments.data.columns import detected_task
    from headstart.experiments.runs.begin_heads import Request
    from headstart.features.devices import choose_device

    ablation, preset, seeds, seed = (given.pop(key) for key in ("ablation", "preset", "seeds", "seed"))
    heads = heads_of(ablation, preset, seeds, seed, given)  # first, because it needs no features to be wrong
    targets, auxiliary = columns
    features = _features(workspace, encoder, data)
    decided = detected_task(features, targets) if task == "auto" else task
    monitor = given["monitor"] or ("pearson" if preset == "quality" else "auto")
    shared = {key: given[key] for key in ("epochs", "batch_size", "accumulation", "warmup", "patience", "by_blocks", "amp")}
    options = TrainingOptions(**shared, monitor=monitor, seed=seed, device=choose_device(given["device"]))
    baselines = BaselineOptions(given["logistic"], given["folds"] or 0)
    return Request(features, decided, targets, auxiliary, heads, options, *about, baselines)


def _features(workspace: Workspace, encoder: str | None, data: str | None) -> CachedFeatures:
    from headstart.features.encoders.folder import chosen_encoder
    from headstart.features.store.cached_features import of_dataset
    from headstart.features.store.packed_cache import open_cache

    features = open_cache(chosen_encoder(workspace, encoder))
    if data is None:
        return features
    return of_dataset(features, workspace.relative(workspace.manifests / Path(data).name))


def _trained(workspace: Workspace, begun: Begun[HeadExperiment], time_limit: float | None) -> int | None:
    """Brings the experiment to its end. Returns: the exit status if it did not get there."""
    from headstart.experiments.evaluation.publish import damaged_files
    from headstart.pipeline.errors import HeadstartError
    from headstart.pipeline.kinds import Settings
    from headstart.pipeline.markers import NotDone, read_marker
    from headstart.pipeline.retry import bytes_of, retire, retry
    from headstart.pipeline.worker import Finished, Limits, Worker

    experiment, job = begun.experiment, begun.job
    judged = bytes_of(workspace, job)
    try:
        marker = read_marker(workspace, job, experiment.identity, deep=True)
        damaged = damaged_files(experiment, marker.payload.read_bytes())
        if not damaged:
            say(
                f"{experiment.folder.name} is finished: the same heads on the same {experiment.counts['train']:,} training images"
            )
            say("train them again under another name: --name NEW")
            return None
        say(f"note: {experiment.folder.name} lost {damaged[0]}; it is made again")
        retire(workspace, job, judged)
    except NotDone:
        pass
    retry(workspace, frozenset({job.job_id}))  # failed attempts are forgiven: whoever types this wants another one
    counts = experiment.counts
    if not begun.is_new:
        say(f"goes on with {experiment.folder.name}, begun on {counts['train']:,} training images")
    say(
        f"{experiment.folder.name}: {experiment.task}, {len(experiment.heads)} heads, {counts['train']:,} train, "
        f"{counts['val']:,} val and {counts['test']:,} test images"
    )
    failures: list[str] = []

    def hear(finished: Finished) -> None:
        if finished.error is not None:
            failures.append(finished.error)

    worker = Worker(workspace, Settings(), Limits(max_jobs=1, only=frozenset({job.job_id})), hear)
    with _limited(time_limit, worker.stop.ask) as is_over:
        summary = worker.run()
    if failures:
        raise HeadstartError(failures[0].removeprefix("TrainingFailed: "))
    try:
        read_marker(workspace, job, experiment.identity)
        return None
    except NotDone:
        pass
    if summary.exit_code:
        say("left; the same command goes on from the last checkpoint, and so does: headstart work")
        return 0 if is_over.is_set() else summary.exit_code
    reason = next(iter(summary.problems), f"another worker gave up on {job.job_id}; see: headstart status --failed")
    raise HeadstartError(f"{experiment.folder.name} is not finished: {reason}. Run the same command again")


@contextlib.contextmanager
def _limited(time_limit: float | None, ask: Callable[[], None]) -> Iterator[threading.Event]:
    """Within it, `ask` is called in time for the limit, and the event is set if it was."""
    is_over = threading.Event()  # Timer.finished would not do: to cancel a timer sets it, too

    def leave() -> None:
        is_over.set()
        ask()

    if time_limit is None:
        yield is_over
        return
    timer = threading.Timer(max(0.0, time_limit - _LEAVES_S), leave)
    timer.daemon = True
    timer.start()
    try:
        yield is_over
    finally:
        timer.cancel()
