"""Leaving on a signal: the job in hand is finished or given back within ten seconds, at the second signal at once."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from .errors import InterruptedWork

FINISH_S = 5.0  # a batch that is under way then still has time to end
LEAVE_S = 9.0
_ONE_REQUEST_S = 0.3  # a terminal tells the whole process group, and the supervisor passes the same on


if sys.platform == "win32":
    LEAVING = (signal.SIGTERM, signal.SIGINT, signal.SIGBREAK)  # the last: CTRL_BREAK_EVENT, or the window was closed
else:
    LEAVING = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether a worker has been asked to leave. As a context manager it listens to the signals of LEAVING.

    Args:
        abandon: called before the process is left in the middle of something; must give claims back and nothing else.
    """

    def __init__(self, abandon: Callable[[], None]) -> None:
        self.signal: int | None = None
        self._abandon = abandon
        self._asked_at = 0.0
        self._event = threading.Event()
        self._previous: dict[int, object] = {}
        self._timers: list[threading.Timer] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in LEAVING:
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # type: ignore[arg-type]
        for timer in self._timers:  # whoever called the worker goes on
            timer.cancel()

    @property
    def is_asked(self) -> bool:
        return self._event.is_set()

    @property
    def exit_code(self) -> int:
        return 128 + self.signal if self.signal else 0

    def wait(self, seconds: float) -> bool:
        """Sleeps, unless asked to leave; True if it was."""
        return self._event.wait(seconds)

    def check(self) -> None:
        """Raises InterruptedWork once the job in hand had its time to finish."""
        if self.is_asked and time.monotonic() - self._asked_at > FINISH_S:
            raise InterruptedWork

    def ask(self) -> None:
        """Asks to leave, as SIGTERM does."""
        self._receive(signal.SIGTERM, None)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked:
            if time.monotonic() - self._asked_at < _ONE_REQUEST_S:
                return
            self._leave()
        self.signal = number
        self._asked_at = time.monotonic()
        self._event.set()
        timer = threading.Timer(LEAVE_S, self._leave)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _leave(self) -> None:
        # Threads may sit in a decoder or on a dead mount; nothing that is published can be torn by leaving here.
        self._abandon()
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(self.exit_code)
