"""Where a training of a recipe is, as a small file beside its newest checkpoint: `status` reads it, and needs no torch for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.pipeline.doors.records import read_record, seal
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from headstart.experiments.training.loop import Loop, Taken

COURSE = "course.json"
FORMAT = 1


class CourseFile:
    """Writes it whenever a state was kept."""

    def __init__(self, workspace: Workspace, folder: Path, about: Mapping[str, Any]) -> None:
        """Args: folder: of the experiment; about: recipe and options, for who reads it."""
        self._workspace, self._path, self._about = workspace, folder / "checkpoints" / COURSE, dict(about)
        self._begun, self._first, self._steps = time.monotonic(), 0, 0
        self._entry: Mapping[str, Any] | None = None

    def began(self, step: int, steps: int) -> None:
        self._begun, self._first, self._steps = time.monotonic(), step, steps

    def stepped(self, taken: Taken) -> None:
        """Between states nothing is written."""

    def judged(self, entry: Mapping[str, Any], loop: Loop) -> None:
        self._entry = entry

    def saving(self, step: int) -> None:
        """Not kept yet."""

    def saved(self, step: int) -> None:
        made = step - self._first
        course = {
            "format": FORMAT,
            "time": time.strftime("%Y-%m-%d %H:%M:%S"),
            "step": step,
            "steps": self._steps,
            "seconds_a_step": (time.monotonic() - self._begun) / made if made else None,
            "last_evaluation": self._entry,
            **self._about,
        }
        # Where it cannot be written the training goes on: its checkpoint is what counts.
        with contextlib.suppress(OSError, TryLaterError):
            self._workspace.files.replace(self._path, seal(course))

    def ended(self, folder: Path) -> None:
        """The newest state was the last one."""


def read_course(folder: Path) -> dict[str, Any] | None:
    """What is known of the training in `folder`, None if nothing is."""
    try:
        return read_record(folder / "checkpoints" / COURSE, FORMAT)
    except (OSError, HeadstartError):
        return None
