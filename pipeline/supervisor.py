"""A parent that holds next to nothing and starts the worker again when it dies: one crash must not end the night's work."""

import contextlib
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Protocol, Self

from . import paths
from .child import WINDOWS_CRASH, follow_parent, how_it_ended
from .doors import python
from .stop import LEAVING
from .watchdog import TIMED_OUT

DEATHS_IN_A_ROW = 10  # without a job finished in between: then it is not the jobs
OF_PARENT = "HEADSTART_SUPERVISION"  # in the environment of a worker that is no fork: parent, `begun` and the file they share
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
_TICK_S = 0.1


class Supervision:
    """What a worker has to know of its predecessors, and they told; shared with the parent.

    Args:
        file: of 8 bytes, which parent and worker share; a worker that is a fork needs none.

    Attributes:
        begun: on the monotonic clock, which is the machine's, when the first of them started.
    """

    def __init__(self, file: Path | None = None, begun: float | None = None) -> None:
        self.begun = time.monotonic() if begun is None else begun
        descriptor = -1 if file is None else paths.open_file(file, os.O_RDWR)
        self._shared = mmap.mmap(descriptor, 8)
        if file is not None:
            os.close(descriptor)

    def close(self) -> None:
        self._shared.close()

    @property
    def jobs(self) -> int:
        """Jobs that all of them finished."""
        return int(struct.unpack("q", self._shared[:8])[0])

    def job_finished(self) -> None:
        self._shared[:8] = struct.pack("q", self.jobs + 1)


class _Workers(Protocol):
    """One worker at a time.

    Attributes:
        is_asked: to leave, by a signal, which the worker got, too.
    """

    is_asked: bool

    def start(self) -> bool:
        """Starts one; True in the worker itself, if it is a fork."""

    def wait_for_child(self) -> int:
        """How it ended: its exit code, or the negative number of the signal."""


def supervised(run: Callable[[Supervision | None], int]) -> int:
    """The exit code of `run`, which runs in a child as often as it takes, until it ends by itself or on a signal.

    Must be called while the process has one thread only. Where there is no fork, the child is this process's command once more.
    """
    if OF_PARENT in os.environ:
        parent, begun, file = os.environ.pop(OF_PARENT).split(" ", 2)
        follow_parent(int(parent), is_expendable=False)
        return run(Supervision(Path(file), float(begun)))
    if sys.platform != "win32":
        from .forked import Forwarding

        supervision, parent_pid = Supervision(), os.getpid()
        with Forwarding() as workers:
            status = _last_status(workers, supervision)
        if status is not None:
            return status
        follow_parent(parent_pid, is_expendable=False)
        return run(supervision)
    return supervised_command()


def supervised_command() -> int:
    """The exit code of this process's own command, run as `supervised` runs its function; the command must call `supervised`."""
    from .files import temporary_folder

    with temporary_folder("supervision") as folder:
        file = folder / "jobs"
        with paths.create(file) as new:
            new.write(bytes(8))
        with contextlib.closing(Supervision(file)) as supervision, _Commands(file, supervision.begun) as workers:
            status = _last_status(workers, supervision)
    assert status is not None, "no worker of these is a fork"
    return status


def _last_status(workers: _Workers, supervision: Supervision) -> int | None:
    """The exit code of the last worker; None in each worker that is a fork."""
    deaths = jobs = 0
    while True:
        if workers.start():
            return None
        status = workers.wait_for_child()
        code = 128 - status if status < 0 else status
        is_death = status < 0 or status == TIMED_OUT or status >= WINDOWS_CRASH
        if workers.is_asked or not is_death:
            return code
        deaths = deaths + 1 if supervision.jobs == jobs else 1
        jobs = supervision.jobs
        if deaths == DEATHS_IN_A_ROW:
            _say(f"the worker died {deaths} times in a row and finished no job in between; see what is wrong with this machine")
            return code
        _say(f"the worker {how_it_ended(status)}; the next one goes on")
        until = time.monotonic() + min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (deaths - 1))
        while not workers.is_asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _TICK_S))
        if workers.is_asked:
            return code


class _Commands:
    """Workers that are processes of this one's command. A console tells both of ^C and of its end: nothing is passed on."""

    def __init__(self, file: Path, begun: float) -> None:
        self.is_asked = False
        self._told = f"{os.getpid()} {begun!r} {file}"
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._receive) for number in LEAVING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # type: ignore[arg-type]

    def start(self) -> bool:
        self._process = python.start([sys.executable, *sys.orig_argv[1:]], env={**os.environ, OF_PARENT: self._told})
        return False

    def wait_for_child(self) -> int:
        import subprocess  # some milliseconds that no worker with a fork pays

        while True:  # in short waits: on Windows no handler runs in a long one
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(_TICK_S)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.is_asked = True


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())
