"""A parent that holds next to nothing and starts the worker again when it dies: one crash must not end the night's work."""

import contextlib
import mmap
import os
import signal
import struct
import time
from collections.abc import Callable
from types import FrameType

from .child import follow_parent, how_it_ended
from .watchdog import TIMED_OUT

DEATHS_IN_A_ROW = 10  # without a job finished in between: then it is not the jobs
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
_FORWARDED = (signal.SIGTERM, signal.SIGINT)


class Supervision:
    """What a worker has to know of its predecessors, and they told; shared with the parent.

    Attributes:
        begun: on the monotonic clock, when the first of them started.
    """

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self._shared = mmap.mmap(-1, 8)

    @property
    def jobs(self) -> int:
        """Jobs that all of them finished."""
        return int(struct.unpack("q", self._shared[:8])[0])

    def job_finished(self) -> None:
        self._shared[:8] = struct.pack("q", self.jobs + 1)


def supervised(run: Callable[[Supervision | None], int]) -> int:
    """The exit code of `run`, which runs in a child as often as it takes, until it ends by itself or on a signal.

    Must be called while the process has one thread only. Where there is no fork, `run` simply runs.
    """
    if not hasattr(os, "fork"):
        return run(None)
    supervision, parent = Supervision(), os.getpid()
    deaths = jobs = 0
    with _Forwarding() as forwarding:
        while True:
            if forwarding.fork() == 0:
                follow_parent(parent, is_expendable=False)
                return run(supervision)
            status = forwarding.wait_for_child()
            code = 128 - status if status < 0 else status
            if forwarding.is_asked or (status >= 0 and status != TIMED_OUT):
                return code
            deaths = deaths + 1 if supervision.jobs == jobs else 1
            jobs = supervision.jobs
            if deaths == DEATHS_IN_A_ROW:
                _say(
                    f"the worker died {deaths} times in a row and finished no job in between; see what is wrong with this machine"
                )
                return code
            _say(f"the worker {how_it_ended(status)}; the next one goes on")
            if forwarding.wait(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (deaths - 1))):
                return code


class _Forwarding:
    """Passes signals on to the child, whose part it is to leave in good order.

    The parent never sleeps in `waitpid`: Python runs a handler between two of its own steps only, and a signal that
    arrives after the last of them and before the call sleeps would lie there until the child ended by itself. It sleeps
    in reading a pipe, into which the C handler writes a byte for every signal, the end of the child among them.
    """

    def __init__(self) -> None:
        self.child = 0
        self.is_asked = False
        self._previous: dict[int, object] = {}
        self._pipe: tuple[int, ...] = ()
        self._previous_wakeup = -1

    def __enter__(self) -> "_Forwarding":
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._previous_wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, self._receive) for number in (*_FORWARDED, signal.SIGCHLD)}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def fork(self) -> int:
        """As `os.fork`; in the child signals do again what they did before."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)  # none may come while it is not clear whose it is
        try:
            self.child = os.fork()
            if self.child == 0:
                self._restore()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        return self.child

    def _restore(self) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # type: ignore[arg-type]
        self._previous.clear()
        if self._pipe:
            signal.set_wakeup_fd(self._previous_wakeup)
            for end in self._pipe:
                os.close(end)
            self._pipe = ()

    def wait_for_child(self) -> int:
        """How the child ended: its exit code, or the negative number of the signal."""
        while True:
            ended, status = os.waitpid(self.child, os.WNOHANG)
            if ended:
                self.child = 0
                return os.waitstatus_to_exitcode(status)
            os.read(self._pipe[0], 4096)

    def wait(self, seconds: float) -> bool:
        """Sleeps, unless asked to leave; True if it was."""
        until = time.monotonic() + seconds
        while not self.is_asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return self.is_asked

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return
        self.is_asked = True
        if self.child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, number)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())
