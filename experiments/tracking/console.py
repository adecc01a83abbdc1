"""Says on standard error how a training goes: a line an epoch, but one a second at most; on a terminal always the same one."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headstart.pipeline.text import span

if TYPE_CHECKING:
    from pathlib import Path

    from headstart.experiments.training.early_stopping import TrainingProgress
    from headstart.experiments.training.loop import Loop, Taken

_REDRAWN_S = 0.3
_LINE_S = 1.0  # between two epochs that a log shows: small data make twenty a second
_LONG_S = 60.0  # a first epoch of which what comes before it, some seconds, is a small part


class Narrator:
    """Says how one training goes."""

    def __init__(self, name: str, epochs: int, heads: Sequence[str], metric: str, by_loss: bool = False) -> None:
        """Args:
        name: of the experiment.
        epochs: it has at most.
        heads: their names, in the order of what is reported.
        metric: what the score on validation is: accuracy, loss (whose score is minus it) or pearson.
        by_loss: whether the best epoch is that of the lowest loss on validation.
        """
        self._name, self._epochs, self._heads = name, epochs, heads
        self._metric, self._by_loss = metric, by_loss
        self._begun = time.monotonic()
        self._warm: tuple[int, float] | None = None  # epochs done, and when: the first one also loads and prepares
        self._shown = -_LINE_S

    def note(self, text: str) -> None:
        """What is done besides epochs, and takes its time."""
        _say(f"{self._name}  {text}", is_last=False)

    def report(self, epoch: int, progress: list[TrainingProgress]) -> None:
        """After each epoch, from 0; the time left follows from those of this process, but not from a short first one."""
        done, total = epoch + 1, self._epochs
        active = sum(one.is_active for one in progress)
        is_last, now = done == total or not active, time.monotonic()
        if self._warm is None:
            self._warm, seconds = (done, now), now - self._begun
        else:
            seconds = (now - self._warm[1]) / (done - self._warm[0])
        if not is_last and now - self._shown < _LINE_S and not _is_terminal():
            return
        self._shown = now
        parts = [f"{self._name}  epoch {done} of at most {total}", *self._standing(progress, active)]
        if done < total and active and (done > self._warm[0] or seconds > _LONG_S):
            parts.append(f"{span((total - done) * seconds)} left")
        if done < total and not active:
            falls = "the validation loss falls no more" if self._by_loss else "no longer better on validation"
            parts.append(f"stopped early: {falls}")
        _say("  ".join(parts), is_last=is_last)

    def _standing(self, progress: list[TrainingProgress], active: int) -> Iterator[str]:
        """The loss of one head; of several, whose losses say little beside each other, how many go on and which one leads."""
        if len(progress) > 1:
            yield (f"{active} of " if active < len(progress) else "") + f"{len(progress)} heads in training"
        elif active:
            loss = progress[0].history[-1]["train_loss"]
            yield "diverged" if loss is None else f"training loss {loss:.4f}"
        best = max(range(len(progress)), key=lambda i: progress[i].best)
        if progress[best].best_epoch < 0:
            if len(progress) > 1 or not active:
                yield "none has a finite loss on validation yet" if active else "diverged"
            return
        # What epochs are judged by, which never gets worse: an accuracy beside the lowest loss would now and then.
        by_loss = self._by_loss or self._metric == "loss"
        number = -progress[best].best[0] if by_loss else progress[best].best_score
        best_so_far = "lowest validation loss" if by_loss else f"best validation {self._metric}"
        yield f"{best_so_far} so far: {number:.4f}" + (f" ({self._heads[best]})" if len(progress) > 1 else "")


def _say(text: str, is_last: bool) -> None:
    # Where nobody can read it (a full disk, a closed pipe) the training goes on.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K{text}" + ("\n" if is_last else ""))
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def narrate(line: str) -> None:
    """Says a line that is of no one step."""
    _say(line, is_last=True)


class TrainingNarrator:
    """Says how the training of a recipe goes: a line an evaluation, and on a terminal where it is in between."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun, self._first, self._shown = time.monotonic(), 0, 0.0
        self._loss: float | None = None

    def began(self, step: int, steps: int) -> None:
        self._begun, self._first = time.monotonic(), step
        if step:
            _say(f"{self._name}  Restored from step {step:,} of {steps:,}", is_last=True)

    def stepped(self, taken: Taken) -> None:
        loss = taken.numbers["loss"]
        self._loss = loss if self._loss is None or self._loss != self._loss else 0.98 * self._loss + 0.02 * loss
        now = time.monotonic()
        if now - self._shown >= _REDRAWN_S and _is_terminal():
            self._shown = now
            _say(f"{self._where(taken.step, taken.steps)}  loss {loss:.4f}  running {self._loss:.4f}", is_last=False)

    def judged(self, entry: Mapping[str, Any], loop: Loop) -> None:
        best = loop.progress.history[loop.progress.best] if loop.progress.best >= 0 else None
        train, name = entry["train"].get("loss"), entry["judged_by"]
        parts = [self._where(entry["step"], loop.steps), f"epoch {entry['epoch']:.4g}"]
        if entry["step"]:  # before the first one nothing was lost yet
            parts.append("loss none" if train is None else f"loss {train:.4f}")
        value = entry["val"].get(name)
        parts.append(f"{name} on validation " + ("none" if value is None else f"{value:.4f}"))
        if best is not None:
            parts[-1] += " (best)" if best is entry else f" (best {best['val'][name]:.4f} at step {best['step']:,})"
        _say("  ".join(parts), is_last=True)

    def saving(self, step: int) -> None:
        """Nothing is held back."""

    def saved(self, step: int) -> None:
        """Nobody waits for it."""

    def ended(self, folder: Path) -> None:
        """The command says what came out."""

    def _where(self, step: int, steps: int) -> str:
        where = f"{self._name}  step {step:,}/{steps:,}"
        if step == self._first:
            return where
        seconds = (time.monotonic() - self._begun) / (step - self._first)
        left = f"  {span((steps - step) * seconds)} left" if step < steps else ""
        return f"{where}  {seconds:.3g} s a step{left}"


def _is_terminal() -> bool:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return sys.stderr.isatty()
    return False
