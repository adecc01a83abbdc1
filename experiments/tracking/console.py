"""Says on standard error how a training goes: a line an epoch, on a terminal always the same one."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headstart.experiments.training.progress import TrainingProgress


class Narrator:
    """Says how one training goes."""

    def __init__(self, name: str, epochs: int, heads: Sequence[str]) -> None:
        """Args: name: of the experiment; epochs: it has at most; heads: their names, in the order of what is heard."""
        self._name, self._epochs, self._heads = name, epochs, heads
        self._begun = time.monotonic()
        self._first: int | None = None

    def hear(self, epoch: int, progress: list[TrainingProgress]) -> None:
        """After each epoch, from 0; the time left is judged by the epochs since this process began."""
        self._first = epoch if self._first is None else self._first
        done, total = epoch + 1, self._epochs
        seconds = (time.monotonic() - self._begun) / (done - self._first)
        best = max(range(len(progress)), key=lambda i: progress[i].best)
        last = progress[best].history[-1]
        loss = "diverged" if last["train_loss"] is None else f"loss {last['train_loss']:.4f}"
        if progress[best].best_epoch >= 0:
            loss += f", best on validation {progress[best].best[0]:.4f} ({self._heads[best]})"
        active = sum(one.is_active for one in progress)
        parts = [
            f"{self._name}  epoch {done}/{total}",
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
