"""What a worker shows while it runs: a bar on a terminal, one line a job elsewhere."""

import sys
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

import click

from headstart.pipeline.claims import live_workers
from headstart.pipeline.status import read_status
from headstart.pipeline.tally import Tally
from headstart.pipeline.text import plural, span
from headstart.pipeline.worker import Finished
from headstart.pipeline.workspace import Workspace

from .terminal import say

_LOOK_S = 5.0
_LOOK_SHARE = 20  # a look at a huge queue takes seconds; it may cost a twentieth of the time at most


class ProgressDisplay:
    """Counts for the whole queue, so that the time left is that of all workers together.

    Attributes:
        items: that this worker did, by folder.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._begun = time.monotonic()
        self._jobs = 0
        self.items: Counter[str] = Counter()
        self._next_look = float("-inf")
        self._total = Tally()
        self._done_at_start: int | None = None
        self._workers = 1
        self._bar: Any = None

    def __enter__(self) -> Self:
        # No look at the queue yet: the first claim must not wait for it.
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)

    def show(self, finished: Finished) -> None:
        """Called for each job this worker ended."""
        self._jobs += finished.error is None and finished.is_mine
        self.items[finished.job.folder] += finished.items
        self._total.done += finished.error is None
        if time.monotonic() >= self._next_look:
            self._look()
        if finished.note:
            self._say_above(finished.note)
        if sys.stderr is not None and sys.stderr.isatty():
            self._draw(finished)
        else:
            say(f"{self._outcome(finished)}  [{self._total.done:,}/{self._total.jobs:,}]  {self._rates(finished)}")

    def _say_above(self, text: str) -> None:
        """A line of its own; a bar is drawn again below it."""
        if self._bar is not None:
            sys.stderr.write("\r\x1b[2K")
        say(text)

    def _draw(self, finished: Finished) -> None:
        if self._bar is None:
            self._bar = click.progressbar(
                length=self._total.jobs, label="jobs", file=sys.stderr, show_eta=False, show_pos=True, item_show_func=_as_it_is
            )
            self._bar.__enter__()
        self._bar.length = self._total.jobs
        self._bar.update(self._total.done - self._bar.pos, self._rates(finished))

    def _outcome(self, finished: Finished) -> str:
        if finished.error:
            return f"{finished.job.job_id}  failed: {finished.error}"
        did = plural(finished.items, _what(finished)) if finished.items else finished.job.folder.rpartition("/")[2]
        text = f"{finished.job.job_id}  {did} in {finished.seconds:.1f}s"
        if finished.failed_items:
            text += f", {finished.failed_items} failed"
        return text if finished.is_mine else text + ", but another worker was faster"

    def _look(self) -> None:
        begun = time.monotonic()
        self._total = Tally()
        for tally in read_status(self.workspace).folders.values():
            self._total.add(tally)
        if self._done_at_start is None:
            self._done_at_start = self._total.done - self._jobs
        self._workers = max(1, len(live_workers(self.workspace)))
        now = time.monotonic()
        self._next_look = now + max(_LOOK_S, _LOOK_SHARE * (now - begun))

    def _rates(self, finished: Finished) -> str:
        elapsed = time.monotonic() - self._begun
        text = f"{self.items.total() / elapsed:.1f} {_what(finished)}s/s since the start"
        if self._workers > 1:
            text += f", {plural(self._workers - 1, 'other worker')}"
        gained = self._total.done - (self._done_at_start or 0)
        left = self._total.jobs - self._total.done - self._total.quarantined
        if gained and left:
            text += f", {span(left * elapsed / gained)} left"
        return text


def _what(finished: Finished) -> str:
    return "item" if finished.job.kind == "make_items" else "image"


def _as_it_is(text: str | None) -> str | None:
    return text
