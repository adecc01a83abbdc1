"""Says on standard error how a training goes: a line an epoch, on a terminal always the same one."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headstart.experiments.runs.experiment import Experiment
    from headstart.experiments.training.progress import Progress


class Narrator:
    """Says on standard error how a training goes: a line an epoch, on a terminal always the same one."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._begun = time.monotonic()
        self._first: int | None = None

    def hear(self, epoch: int, progress: list[Progress]) -> None:
        """After each epoch, from 0; the time left is judged by the epochs since this process began."""
        self._first = epoch if self._first is None else self._first
        done, total = epoch + 1, self._experiment.options.epochs
        seconds = (time.monotonic() - self._begun) / (done - self._first)
        best = max(range(len(progress)), key=lambda i: progress[i].best)
        last = progress[best].history[-1]
        loss = "diverged" if last["train_loss"] is None else f"loss {last['train_loss']:.4f}"
        if progress[best].best_epoch >= 0:
            loss += f", best on validation {progress[best].best[0]:.4f} ({self._experiment.heads[best].name})"
        active = sum(one.is_active for one in progress)
        parts = [
            f"{self._experiment.folder.name}  epoch {done}/{total}",
            loss,
            f"{active} of {len(progress)} heads in training" if active < len(progress) else f"{len(progress)} heads",
        ]
        if done < total and active:
            parts.append(f"{(total - done) * seconds:.0f}s left")
        _say("  ".join(parts), is_last=done == total or not active)


def _say(text: str, is_last: bool) -> None:
    # Where nobody can read it (a full disk, a closed pipe) the training goes on.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K{text}" + ("\n" if is_last else ""))
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
