"""Calls under way that can be ended from outside, each with a time: a thread counts ticks and ends those that take longer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_TICK_S = 0.2


class Deadline:
    """Of one call. Attributes: is_over: whether it took too long and was told to end."""

    def __init__(self, seconds: float, end: Callable[[], None]) -> None:
        self._left_s = seconds
        self._end = end
        self.is_over = False

    def tick(self, seconds: float) -> None:
        self._left_s -= seconds
        if self._left_s < 0 and not self.is_over:
            self.is_over = True
            self._end()


class Deadlines:
    """Of calls in any threads. The thread that counts begins with the first call and ends with `close`."""

    def __init__(self) -> None:
        self._running: set[Deadline] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def within(self, seconds: float, end: Callable[[], None]) -> Iterator[Deadline]:
        """While a call runs; after `seconds`, not counting those of a stopped process, another thread calls `end` once."""
        deadline = Deadline(seconds, end)
        with self._lock:
            self._running.add(deadline)
            if self._thread is None:
                self._thread = threading.Thread(target=self._count, name="deadlines", daemon=True)
                self._thread.start()
        try:
            yield deadline
        finally:
            with self._lock:
                self._running.discard(deadline)

    def close(self) -> None:
        self._closed.set()

    def _count(self) -> None:
        # Ticks are counted and no clock is read: a process that was stopped for an hour has not computed for an hour.
        while not self._closed.wait(_TICK_S):
            with self._lock:
                running = list(self._running)
            for deadline in running:
                deadline.tick(_TICK_S)
