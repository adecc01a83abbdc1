"""What a kind says of finished jobs while a worker runs: in a small part of the worker's time, and never in a job's way."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .errors import ExplainedError
from .job import Job
from .kinds import Observer, Settings, load_kind
from .text import reason_of
from .workspace import Workspace

SHARE = 0.015  # of the worker's time
_OPENING_S = 0.6  # that the first look may take, which imports what it needs: a busy machine took 0.7 s


class Observing:
    """Opens the observers of the folders that this worker works in, and asks them when time allows.

    Attributes:
        problems: of observers that gave up, one line each.
        spent_s: in all of them.
    """

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        self.problems: list[str] = []
        self.spent_s = 0.0
        self._workspace, self._settings = workspace, settings
        self._begun = time.monotonic()
        self._observers: dict[tuple[str, str], Observer | None] = {}
        self._waiting: dict[tuple[str, str], Job] = {}

    def finished(self, job: Job) -> str:
        """What an observer says now that `job` is committed; '' for nothing."""
        key = job.folder, job.source.rpartition("/")[0]
        self._waiting[key] = job
        return self._look(key, is_last=False)

    def ended(self) -> Iterator[str]:
        """What they say at the end, when nothing more comes from this worker."""
        for key in list(self._waiting):
            said = self._look(key, is_last=True)
            if said:
                yield said

    def close(self) -> None:
        for observer in self._observers.values():
            if observer is not None:
                observer.close()

    def _look(self, key: tuple[str, str], is_last: bool) -> str:
        begun = time.monotonic()
        allowance = SHARE * (begun - self._begun) - self.spent_s
        if allowance < (0 if key in self._observers else _OPENING_S):
            return ""
        try:
            observer = self._opened(key)
            return "" if observer is None else observer.look(allowance - (time.monotonic() - begun), is_last)
        except Exception as error:  # jobs are done without it
            self._observers[key] = None
            why = str(error) if isinstance(error, ExplainedError) else f"{type(error).__name__}: {reason_of(error)}"
            self.problems.append(f"no score of {key[0]}: {why}")
            return ""
        finally:
            self.spent_s += time.monotonic() - begun

    def _opened(self, key: tuple[str, str]) -> Observer | None:
        if key not in self._observers:
            job = self._waiting[key]
            opening = getattr(load_kind(job.kind), "open_observer", None)
            self._observers[key] = None if opening is None else opening(self._workspace, job, self._settings)
        return self._observers[key]
