"""Commands as a user types them, one after the other in this process and in one thread: their calls come in one order."""

import contextlib
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest import mock

from headstart import cli
from headstart.pipeline import next_job
from headstart.pipeline import supervisor as supervisor_module
from headstart.pipeline import worker as worker_module
from headstart.pipeline import workspace as workspace_module
from headstart.pipeline.files import FileSystem
from tests.faults import small_run

Step = Callable[[Path], int]  # is given the workspace and returns an exit code


class AtOnce:
    """An executor without threads: the n-th call is then the same call in every run."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> "AtOnce":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def enqueue(jobs: int) -> Step:
    """`headstart enqueue` of the kind `tiny`."""

    def step(root: Path) -> int:
        try:
            small_run.enqueue(root, jobs)
            return 0
        except Exception as error:
            return cli._explained(error)

    return step


def command(*words: str) -> Step:
    """Any other command, from the command line on."""

    def step(root: Path) -> int:
        sys.argv = ["headstart", *words, "-w", str(root)]
        return cli.exit_status()

    return step


def in_one_thread(steps: Sequence[Step], root: Path, hard_links: bool = True) -> int:
    """The exit code of the first command that fails, else 0; without `hard_links` as on a file system that has none."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(worker_module, "ThreadPoolExecutor", AtOnce))
        # `work` would go on in a forked child, that would come back here too, and be forked anew after each kill.
        stack.enter_context(mock.patch.object(supervisor_module, "supervised", lambda run: run(None)))
        stack.enter_context(mock.patch.object(next_job, "_LISTING_S", math.inf))  # no call depends on the clock
        if not hard_links:
            stack.enter_context(mock.patch.object(workspace_module, "probe", return_value=FileSystem(hard_links=False)))
        return next((code for code in (step(root) for step in steps) if code), 0)
