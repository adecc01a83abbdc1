"""Lets a time limit end a training only after something was kept: the same command would else never get anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from headstart.pipeline.errors import TimeIsUp

from .kept_parts import KeptParts


class Patience:
    """Around the `check` of a worker; other reasons to leave pass at once."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check, self._steps, self._is_kept = check, 0, False

    def after_a_step(self) -> None:
        """Called before each step: from the second call on one was made."""
        self._steps += 1
        self._ask(self._steps > 1)

    def after_a_part(self) -> None:
        """Called at any time, when steps are over."""
        self._ask(self._steps > 1 or self._is_kept)

    def heard(self, parts: KeptParts) -> KeptParts:
        """The same, heard of when something is kept."""
        return replace(parts, on_kept=self._note)

    def _note(self) -> None:
        self._is_kept = True

    def _ask(self, has_gone_on: bool) -> None:
        try:
            self._check()
        except TimeIsUp:
            if has_gone_on:
                raise
