"""A tracker that must not cost a training anything: what it raises is said once, and it is asked no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.pipeline.errors import ExplainedError, InterruptedWork

if TYPE_CHECKING:
    from headstart.experiments.training.loop import Listener, Loop, Taken


class Guarded:
    """Opens a tracker with the first step and hands everything on to it, as long as it works."""

    def __init__(self, opens: Callable[[], Listener], report: Callable[[str], None]) -> None:
        self._opens, self._report = opens, report
        self._tracker: Listener | None = None

    def began(self, step: int, steps: int) -> None:
        try:
            self._tracker = self._opens()
        except Exception as error:
            self._drop(error)
        self._ask(lambda tracker: tracker.began(step, steps))

    def stepped(self, taken: Taken) -> None:
        self._ask(lambda tracker: tracker.stepped(taken))

    def judged(self, entry: Mapping[str, Any], loop: Loop) -> None:
        self._ask(lambda tracker: tracker.judged(entry, loop))

    def saving(self, step: int) -> None:
        self._ask(lambda tracker: tracker.saving(step))

    def saved(self, step: int) -> None:
        self._ask(lambda tracker: tracker.saved(step))

    def ended(self, folder: Path) -> None:
        self._ask(lambda tracker: tracker.ended(folder))

    def _ask(self, what: Callable[[Listener], None]) -> None:
        if self._tracker is None:
            return
        try:
            what(self._tracker)
        except InterruptedWork:
            raise
        except Exception as error:
            self._drop(error)

    def _drop(self, error: Exception) -> None:
        self._tracker = None
        first = (str(error).splitlines() or [""])[0]
        reason = str(error) if isinstance(error, ExplainedError) else f"{type(error).__name__}: {first}"
        self._report(f"note: {reason}. The training goes on without it, and its own numbers are complete")
