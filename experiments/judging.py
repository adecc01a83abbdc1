"""How heads stand on validation after an epoch, which of their states to keep, and which to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Progress:
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

    def judge(self, epoch: int, train_loss: float, val_loss: float, score: float, patience: int) -> bool:
        """Notes an epoch. Returns: whether this is the best so far, by score and then by loss."""
        entry = {"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss, "val_score": score}
        self.history.append({key: value if math.isfinite(value) else None for key, value in entry.items()})
        found = (score, -val_loss)
        # Both: the accuracy of logits that are NaN is a number, that of always the first class.
        if math.isfinite(score) and math.isfinite(val_loss) and found > self.best:
            self.best, self.best_epoch, self.stale = found, epoch, 0
            return True
        self.stale += 1
        self.is_active = not (patience and self.stale >= patience)
        return False


def monitor_for(monitor: str, task: str) -> str:
    return monitor if monitor != "auto" else ("accuracy" if task == "classification" else "loss")


def losses(logits: Tensor, targets: Tensor, output: str, task: str) -> Tensor:
    """Mean loss (g,) without smoothing and weights, so that heads compare; logits (g, k, n), targets (k, n)."""
    from torch.nn.functional import softplus

    if task == "classification" and output == "softmax":
        return -(logits.log_softmax(1) * targets).sum(1).mean(1)
    if task == "classification":
        return (softplus(logits) - targets * logits).mean((1, 2))
    return (_numbers(logits, output) - targets).square().mean((1, 2))


def scores(logits: Tensor, targets: Tensor, output: str, monitor: str, loss: Tensor) -> Tensor:
    """Larger is better, (g,): accuracy, minus the loss, or Pearson's r averaged over outputs."""
    if monitor == "accuracy":
        # The same places as argmax, found several times as fast where rows come last.
        return (logits.max(1).indices == targets.max(0).indices).double().mean(1)
    if monitor == "loss":
        return -loss
    found, wanted = _numbers(logits, output).double(), targets.double()
    found, wanted = found - found.mean(2, keepdim=True), wanted - wanted.mean(1, keepdim=True)
    # All-equal predictions have no correlation; 0 makes them worse than any that help.
    norm = (found.square().sum(2) * wanted.square().sum(1)).sqrt().clamp_min(1e-30)
    return ((found * wanted).sum(2) / norm).mean(1)


def _numbers(logits: Tensor, output: str) -> Tensor:
    return logits.sigmoid() if output == "sigmoid" else logits
