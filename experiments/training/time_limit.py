"""Lets a time limit end a training only after something was kept: the same command would else never get anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.experiments.training.state.kept_parts import KeptParts
from headstart.pipeline.errors import TimeIsUp

if TYPE_CHECKING:
    from .loop import Loop, Taken


class TimeLimit:
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


class LoopTimeLimit:
    """The same for a recipe's loop, as one of its listeners: a step or an evaluation is worth keeping."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check, self._has_gone_on = check, False

    def check(self) -> None:
        """What the loop and those who publish its results call instead."""
        try:
            self._check()
        except TimeIsUp:
            if self._has_gone_on:
                raise

    def began(self, step: int, steps: int) -> None:
        """Being restored is no progress."""

    def stepped(self, taken: Taken) -> None:
        self._has_gone_on = True

    def judged(self, entry: Mapping[str, Any], loop: Loop) -> None:
        self._has_gone_on = True

    def saving(self, step: int) -> None:
        """Not kept yet."""

    def saved(self, step: int) -> None:
        """What was done is kept whoever leaves."""

    def ended(self, folder: Path) -> None:
        """Nothing is left to wait for."""
