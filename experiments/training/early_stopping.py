"""How a model stands on validation after an epoch: whether this was its best, and whether to stop it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrainingProgress:
    """One head's course; plain numbers, so that JSON keeps it.

    Attributes:
        history: a dictionary an epoch: epoch, train_loss, val_loss, val_score.
        best_epoch: -1 before the first epoch with a finite score and a finite loss.
        stale: epochs since then without a better one.
        is_active: False once it ran out of patience.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = -1
    best: tuple[float, float] = (float("-inf"), float("-inf"))
    stale: int = 0
    is_active: bool = True

    @property
    def best_score(self) -> float:
        """By the monitor, of the best epoch; -inf before there is one."""
        return float("-inf") if self.best_epoch < 0 else float(self.history[self.best_epoch]["val_score"])

    def note_epoch(
        self, epoch: int, train_loss: float, val_loss: float, score: float, patience: int, by_loss: bool = False
    ) -> bool:
        """Notes an epoch. Returns: whether this is the best so far, by score and then by loss, or the other way round."""
        entry = {"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss, "val_score": score}
        self.history.append({key: value if math.isfinite(value) else None for key, value in entry.items()})
        candidate = (-val_loss, score) if by_loss else (score, -val_loss)
        # Both: the accuracy of logits that are NaN is a number, that of always the first class.
        if math.isfinite(score) and math.isfinite(val_loss) and candidate > self.best:
            self.best, self.best_epoch, self.stale = candidate, epoch, 0
            return True
        self.stale += 1
        self.is_active = not (patience and self.stale >= patience)
        return False


def monitor_for(monitor: str, task: str) -> str:
    return monitor if monitor != "auto" else ("accuracy" if task == "classification" else "loss")
