"""Losses of many heads at once: with their gradients by hand for training, plain for validation. Heads first, outputs second,
rows last.

Autograd would compute the same in three times the calls, and for small heads calls are what time goes into.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LossTerms:
    """What differs between the g heads of a lane.

    Attributes:
        output: softmax, sigmoid or linear, the same for all.
        is_classes: classes (cross-entropy) or numbers (squared error).
        smoothing: (g, 1, 1), None if all are 0.
        weights: (g, k, 1) of classes, None if all are 1.
    """

    output: str
    is_classes: bool
    smoothing: Tensor | None
    weights: Tensor | None

    def value_and_gradient(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss of each head (g,), and its gradient (g, k, b) with respect to the logits.

        Args:
            logits: (g, k, b).
            targets: (1 or g, k, b): one-hot or mixed classes, or numbers.
        """
        if not self.is_classes:
            return self._squared(logits, targets)
        if self.output == "softmax":
            return self._cross_entropy(logits, targets)
        return self._binary(logits, targets)

    def _smoothed(self, targets: Tensor) -> Tensor:
        if self.smoothing is None:
            return targets
        floor = 1 / targets.shape[1] if self.output == "softmax" else 0.5
        return targets + self.smoothing * (floor - targets)

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logs = logits.log_softmax(1)
        wanted = self._smoothed(targets)
        if self.weights is None:
            rows = logits.shape[2]
            return (wanted * logs).sum((1, 2)).div_(-rows), logs.exp().sub_(wanted).div_(rows)
        # As torch has it: the mean over rows is weighted by the class that a row is of.
        total = (targets * self.weights).sum((1, 2), keepdim=True)
        wanted = wanted * self.weights
        return (wanted * logs).sum((1, 2)).div_(-total.flatten()), (logs.exp() * wanted.sum(1, keepdim=True) - wanted) / total

    def _binary(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        from torch.nn.functional import softplus

        wanted = self._smoothed(targets)
        count = logits.shape[1] * logits.shape[2]
        value, gradient = softplus(logits) - wanted * logits, logits.sigmoid() - wanted
        if self.weights is not None:
            value, gradient = value * self.weights, gradient * self.weights
        return value.sum((1, 2)) / count, gradient / count

    def _squared(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        count = logits.shape[1] * logits.shape[2]
        if self.output == "sigmoid":
            predictions = logits.sigmoid()
            rest = predictions - targets
            return rest.square().sum((1, 2)) / count, rest * predictions * (1 - predictions) * (2 / count)
        rest = logits - targets
        return rest.square().sum((1, 2)) / count, rest * (2 / count)


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
        # The same places as argmax, several times as fast where rows come last.
        return (logits.max(1).indices == targets.max(0).indices).double().mean(1)
    if monitor == "loss":
        return -loss
    predictions, wanted = _numbers(logits, output).double(), targets.double()
    predictions, wanted = predictions - predictions.mean(2, keepdim=True), wanted - wanted.mean(1, keepdim=True)
    # All-equal predictions have no correlation; 0 makes them worse than any that help.
    norm = (predictions.square().sum(2) * wanted.square().sum(1)).sqrt().clamp_min(1e-30)
    return ((predictions * wanted).sum(2) / norm).mean(1)


def _numbers(logits: Tensor, output: str) -> Tensor:
    return logits.sigmoid() if output == "sigmoid" else logits
