"""A worker as a fork of its parent, which passes signals on to it: POSIX alone has this."""

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Self

from .stop import LEAVING

assert sys.platform != "win32"  # as far as types are concerned, too: nothing below is there


class Forwarding:
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

    def __enter__(self) -> Self:
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._previous_wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, self._receive) for number in (*LEAVING, signal.SIGCHLD)}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def start(self) -> bool:
        """Forks: True in the worker, in which signals do again what they did before."""
        signal.pthread_sigmask(signal.SIG_BLOCK, LEAVING)  # none may come while it is not clear whose it is
        try:
            self.child = os.fork()
            if self.child == 0:
                self._restore()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, LEAVING)
        return self.child == 0

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

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return
        self.is_asked = True
        if self.child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, number)
