"""Ends a worker whose job shows no sign of life or takes too much memory: nothing else can stop a decoder that hangs."""

import contextlib
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from .claims import Claim
from .memory import current_rss_bytes
from .text import rough_size_words

TIMED_OUT = 124  # as timeout(1) has it
FIRST_S = 600.0  # before any job of a folder is finished: a model may have to be exported, a device to wake up
FLOOR_S = 60.0
_TIMES_MEDIAN = 10
_TIMES_BUDGET, _BEYOND_BUDGET = 1.5, 2**29  # batches are made to fit the budget; what is this far beyond is no batch
_TICK_S = 0.2
_MOST_CORES = 8


def memory_limit(ram_bytes: int) -> int:
    """Resident bytes at which a process of that budget is ended."""
    return max(int(_TIMES_BUDGET * ram_bytes), ram_bytes + _BEYOND_BUDGET)


class Watchdog:
    """Watches one job at a time from a thread. Use it as a context manager.

    Args:
        job_timeout_s: without a sign of life; None means: ten times the median of this worker's jobs, a minute at least.
        ram_bytes: budget of the process; None for no limit.
        end: called with the job that is to blame, None if it may be any in hand, and why, one line; must end the process.
    """

    def __init__(self, job_timeout_s: float | None, ram_bytes: int | None, end: Callable[[Claim | None, str], None]) -> None:
        self._given_s = job_timeout_s
        self._ram_bytes = None if ram_bytes is None else memory_limit(ram_bytes)
        self._end = end
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._claim: Claim | None = None
        self._is_watching = False
        self._silent_s = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._hold_off_the_kernel()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        self._thread.join()
        _arm(0)

    def limit_s(self, folder: str) -> float:
        """How long a job of `folder` may show no sign of life."""
        if self._given_s is not None:
            return self._given_s
        finished = self._seconds[folder]
        return max(FLOOR_S, _TIMES_MEDIAN * sorted(finished)[len(finished) // 2]) if finished else FIRST_S

    @contextlib.contextmanager
    def watching(self, claim: Claim) -> Iterator[None]:
        """While a job computes."""
        self._silent_s, self._claim, self._is_watching = 0.0, claim, True
        try:
            yield
        finally:
            self._claim, self._is_watching = None, False

    def watch_leaving(self) -> None:
        """From now on to the end: what was prepared ahead may hang, and every thread is waited for."""
        self._silent_s, self._is_watching = 0.0, True

    def sign_of_life(self) -> None:
        self._silent_s = 0.0

    def finished(self, folder: str, seconds: float) -> None:
        """Tells how long a job took."""
        self._seconds[folder].append(seconds)

    def _watch(self) -> None:
        # Ticks are counted and no clock is read: a worker that was stopped for an hour has not been silent for an hour.
        while not self._closed.wait(_TICK_S):
            self._hold_off_the_kernel()
            claim = self._claim
            if not self._is_watching:
                continue
            self._silent_s += _TICK_S
            limit_s = self.limit_s(claim.job.folder if claim else "")
            if self._silent_s > limit_s:
                self._end(claim, f"{claim.job.job_id if claim else 'leaving'} showed no sign of life for {limit_s:g} s")
            elif self._ram_bytes is not None and current_rss_bytes() > self._ram_bytes:
                self._end(None, f"this process took more than {rough_size_words(self._ram_bytes, 'GB')} of memory")

    def _hold_off_the_kernel(self) -> None:
        # Code that hangs and holds the interpreter's lock stops this thread, too. Then nobody puts the timer off any more,
        # and the kernel ends the process with SIGPROF once it has burnt so much; one that is stopped burns nothing.
        _arm((self._given_s or FIRST_S) * min(os.cpu_count() or 1, _MOST_CORES))


def _arm(cpu_s: float) -> None:
    if sys.platform != "win32":  # which has no such timer: code that holds the interpreter's lock hangs for good there
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
