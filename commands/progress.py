"""What a worker shows while it runs: a bar on a terminal, one line a job elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Self

import click

from headstart.pipeline.claims import live_workers
from headstart.pipeline.status import Tally, read_status
from headstart.pipeline.worker import Finished
from headstart.pipeline.workspace import Workspace

from .options import plural, span

_LOOK_S = 5.0


class Progress:
    """Counts for the whole queue, so that the time left is that of all workers together."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._begun = time.monotonic()
        self._items = 0
        self._looked_at = float("-inf")
        self._total = Tally()
        self._done_at_start = -1
        self._workers = 1
        self._bar: Any = None

    def __enter__(self) -> Self:
        self._look()
        if sys.stderr.isatty():
            self._bar = click.progressbar(
                length=self._total.jobs,
                label="jobs",
                file=sys.stderr,
                show_eta=False,
                show_pos=True,
                item_show_func=lambda shown: shown,
            )
            self._bar.__enter__()
            self._bar.update(self._total.done, "opening the encoder")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)

    def hear(self, finished: Finished) -> None:
        """Called for each job this worker ended."""
        self._items += finished.items
        self._total.done += finished.error is None
        self._look()
        if self._bar is not None:
            self._bar.update(self._total.done - self._bar.pos, self._rates())
            return
        outcome = (
            f"failed: {finished.error}" if finished.error else f"{plural(finished.items, 'image')} in {finished.seconds:.1f}s"
        )
        if finished.failed_items:
            outcome += f", {finished.failed_items} failed"
        if not finished.is_mine and not finished.error:
            outcome += ", but another worker was faster"
        click.echo(f"{finished.job.job_id}  {outcome}  [{self._total.done:,}/{self._total.jobs:,}]  {self._rates()}", err=True)

    def _look(self) -> None:
        if time.monotonic() - self._looked_at < _LOOK_S:
            return
        total = Tally()
        for tally in read_status(self.workspace).folders.values():
            total.add(tally)
        self._total = total
        if self._done_at_start < 0:
            self._done_at_start = total.done
        self._workers = max(1, len(live_workers(self.workspace)))
        # A look at a huge queue takes a while; it may cost a twentieth of the time at most.
        self._looked_at = time.monotonic()

    def _rates(self) -> str:
        elapsed = time.monotonic() - self._begun
        text = f"{self._items / elapsed:.1f} images/s"
        if self._workers > 1:
            text += f", {plural(self._workers - 1, 'other worker')}"
        gained = self._total.done - self._done_at_start
        left = self._total.jobs - self._total.done - self._total.quarantined
        if gained and left:
            text += f", {span(left * elapsed / gained)} left"
        return text
