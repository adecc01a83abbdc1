"""Brings the job of one training to its end, in this process; shared by the commands that begin trainings."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.commands.output.terminal import say
from headstart.pipeline.errors import HeadstartError

if TYPE_CHECKING:
    from headstart.experiments.runs.begin import Begun
    from headstart.experiments.runs.recipe_experiment import RecipeExperiment
    from headstart.pipeline.kinds import Settings
    from headstart.pipeline.workspace import Workspace

_LEAVES_S = 5.0  # from the signal to the end of the step in hand


def finish(workspace: Workspace, begun: Begun[RecipeExperiment], settings: Settings, time_limit: float | None) -> int | None:
    """Trains it, unless it is finished and every file is as it was. Returns: the exit status if it did not get to its end.

    Raises: HeadstartError if the training failed.
    """
    from headstart.experiments.training.failure import told
    from headstart.pipeline.markers import NotDone, read_marker
    from headstart.pipeline.retry import bytes_of, retire, retry
    from headstart.pipeline.worker import Finished, Limits, Worker

    experiment, job = begun.experiment, begun.job
    judged = bytes_of(workspace, job)
    try:
        marker = read_marker(workspace, job, experiment.identity, deep=True)
        damaged = _damaged(experiment.folder, marker.payload.read_bytes())
        if not damaged:
            say(f"{experiment.folder.name} is finished: the same recipe and options on the same data")
            say("train it again under another name: --name NEW")
            return None
        say(f"note: {experiment.folder.name} lost {damaged[0]}; it is made again")
        retire(workspace, job, judged)
    except NotDone:
        pass
    retry(workspace, frozenset({job.job_id}))  # failed attempts are forgiven: whoever types this wants another one
    if not begun.is_new:
        say(f"goes on with {experiment.folder.name}")
    failures: list[str] = []

    def hear(finished: Finished) -> None:
        if finished.error is not None:
            failures.append(finished.error)

    worker = Worker(workspace, settings, Limits(max_jobs=1, only=frozenset({job.job_id})), hear)
    with limited(time_limit, worker.stop.ask) as is_over:
        summary = worker.run()
    if failures:
        raise HeadstartError(told(failures[0]))
    with contextlib.suppress(NotDone):
        read_marker(workspace, job, experiment.identity)
        return None
    if summary.exit_code:
        say("left; the same command goes on from the last checkpoint, and so does: headstart work")
        return 0 if is_over.is_set() else summary.exit_code
    reason = next(iter(summary.problems), f"another worker gave up on {job.job_id}; see: headstart status --failed")
    raise HeadstartError(f"{experiment.folder.name} is not finished: {reason}. Run the same command again")


def _damaged(folder: Path, payload: bytes) -> list[str]:
    """Files that are missing or other than the payload says."""
    result = []
    for name, digest in json.loads(payload)["files"].items():
        try:
            is_whole = hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        except OSError:
            is_whole = False
        if not is_whole:
            result.append(name)
    return result


@contextlib.contextmanager
def limited(time_limit: float | None, ask: Callable[[], None]) -> Iterator[threading.Event]:
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
