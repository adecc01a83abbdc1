"""A lane: heads of one shape, trained together. Their first layers are one wide product, later layers batched ones.

Lanes share nothing but the rows they read, so they run beside each other in threads and no result depends on how many there are.
Inside, matrices are (units, rows): the units of a head then lie together, and no product needs a transposed copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.experiments.config import HeadConfig
from headstart.experiments.training.schedule import stream_key

from .losses import LossTerms
from .parameters import Parameters
from .random_table import normal, uniform

if TYPE_CHECKING:
    from torch import Tensor

_LANE_UNITS = 256  # of first layers; more than one head beyond that becomes two lanes, so that two cores have work
_BN_MOMENTUM = 0.1
_BN_EPS = 1e-5


@dataclass(frozen=True)
class Task:
    """What all heads of a pass predict: `outputs` numbers from `inputs` channels.

    Attributes:
        task: classification or regression.
        class_weights: (k,) for heads that ask for balanced ones.
        device: see TrainingOptions.
        amp: whether hidden layers multiply in bfloat16.
    """

    task: str
    inputs: int
    outputs: int
    class_weights: tuple[float, ...]
    device: str = "cpu"
    amp: bool = False


def split_into_lanes(heads: Sequence[HeadConfig], outputs: int) -> list[list[int]]:
    """Positions of the heads of each lane; decided by the configurations alone, never by the machine."""
    shapes: dict[Any, list[int]] = {}
    for number, head in enumerate(heads):
        kind = replace(
            head, name="", dropout=0.0, learning_rate=0.0, momentum=0.0, weight_decay=0.0,
            label_smoothing=0.0, mixup=0.0, clip_norm=0.0, class_weights="none", seed=head.seed if head.noise else 0,
        )  # fmt: skip
        shapes.setdefault(kind, []).append(number)
    lanes = []
    for members in shapes.values():
        width = (heads[members[0]].hidden or (outputs,))[0]
        count = min(len(members), -(-len(members) * width // _LANE_UNITS))
        lanes += [part.tolist() for part in np.array_split(np.array(members), count)]
    return lanes


class Lane:
    """g heads of one shape with optimizer state. Not for two threads at once."""

    def __init__(self, heads: Sequence[HeadConfig], task: Task, state: Mapping[str, Tensor] | None = None) -> None:
        """Args: state: see Parameters."""
        import torch

        self.heads, self.task = heads, task
        self.parameters = Parameters(heads, task.inputs, task.outputs, task.device, state)
        self.loss_sums = torch.zeros(len(heads), device=task.device)
        kinds = [head.class_weights if task.task == "classification" else "none" for head in heads]
        weights = torch.ones(len(heads), task.outputs, 1)
        for number, kind in enumerate(kinds):
            if kind == "balanced":
                weights[number, :, 0] = torch.tensor(task.class_weights)
        self._loss = LossTerms(
            output=heads[0].output_for(task.task),
            is_classes=task.task == "classification",
            smoothing=self._each([head.label_smoothing for head in heads]),
            weights=weights.to(task.device) if "balanced" in kinds else None,
        )
        self._dropouts = [self._each(list(parts)) for parts in zip(*(head.dropouts for head in heads), strict=True)]
        self._seeds = [head.seed for head in heads]
        self.is_short = task.amp and bool(heads[0].hidden)
        layers, values = self.parameters.layers, self.parameters.values
        self._first = self.parameters.blocks(values, layers[0])
        # Leaves of autograd that share memory with the flat tensor; the first layer's product is differentiated by hand.
        self._leaves = [block.detach().requires_grad_() for block in self._first[2:]]
        self._later = [[b.detach().requires_grad_() for b in self.parameters.blocks(values, layer)] for layer in layers[1:]]
        self._leaves += [block for blocks in self._later for block in blocks]
        blocks = [self.parameters.blocks(self.parameters.gradients, layer) for layer in layers]
        self._first_gradients = blocks[0][:2]
        self._leaf_gradients = blocks[0][2:] + [block for later in blocks[1:] for block in later]

    @property
    def cost(self) -> tuple[int, bool]:
        """Of two lanes, the one with the larger cost takes longer for a batch."""
        return self.parameters.values.numel(), bool(self.heads[0].noise)

    def batch(self, rows: Tensor, targets: Tensor, place: tuple[int, int], share: float, is_first: bool) -> None:
        """Adds the gradient of one batch.

        Args:
            rows: (b, d) standardized float32; targets: (k, b) one-hot or numbers.
            place: (epoch, batch), which all randomness is a function of.
            share: of this batch in its step; `is_first` batch of a step overwrites the gradients.
        """
        import torch

        if self.heads[0].noise:
            rows = torch.add(rows, self._normal(rows.shape, place), alpha=self.heads[0].noise)
        portion = self._portions(place)
        rows = rows.bfloat16() if self.is_short else rows
        wide = self._wide(rows)
        with torch.enable_grad():
            wide.requires_grad_()
            logits = self._logits(wide if portion is None else torch.lerp(wide.roll(1, 2), wide, portion), place)
        wanted = targets[None]
        if portion is not None:
            wanted = torch.lerp(wanted.roll(1, 2), wanted, portion)
        value, gradient = self._loss.value_and_gradient(logits.detach(), wanted)
        self.loss_sums += value * len(rows)
        if share != 1:
            gradient = gradient * share
        if logits is wide:
            gradients: Sequence[Tensor] = [gradient]
        else:
            # Of a number, not of `logits` with `gradient`: to compare shapes, torch would first import sympy for half a second.
            with torch.enable_grad():
                product = torch.dot(logits.flatten(), gradient.flatten())
            gradients = torch.autograd.grad(product, [wide, *self._leaves])
        self._accumulate(gradients, rows, is_first)

    def scores(self, rows: Tensor, best: bool = False) -> Tensor:
        """Logits (g, k, b) of standardized rows (b, d), as they are now or were at their best; nothing is dropped."""
        import torch

        flat = self.parameters.best if best else self.parameters.values
        running = self.parameters.best_running if best else self.parameters.running
        with torch.no_grad():
            return self._evaluated(rows, flat, running)

    def _wide(self, rows: Tensor) -> Tensor:
        import torch

        weight, bias = (block.flatten(0, 1).to(rows.dtype) for block in self._first[:2])
        return torch.addmm(bias, weight, rows.T).float().view(len(self.heads), -1, len(rows))

    def _logits(self, wide: Tensor, place: tuple[int, int]) -> Tensor:
        import torch

        norm = self._leaves[:2] if self.parameters.layers[0].gamma is not None else []
        hidden = wide
        for number, blocks in enumerate(self._later):
            hidden = self._dropped(self._activated(self._normalized(hidden, norm, number), self.heads[0]), number, place)
            weight, bias, *norm = blocks
            # Logits are in float32: a product with as few rows as there are classes costs less than to round what it is of.
            is_short = self.is_short and number < len(self._later) - 1
            with torch.autocast(self.task.device, torch.bfloat16, enabled=is_short):
                hidden = torch.baddbmm(bias, weight, hidden)
            hidden = hidden.float()
        return hidden

    def _normalized(self, hidden: Tensor, norm: Sequence[Tensor], number: int) -> Tensor:
        if not norm:
            return hidden
        running = self.parameters.running_of(self.parameters.running, number)
        return self._batch_norm(hidden, norm, running, is_training=True)

    def _batch_norm(self, hidden: Tensor, norm: Sequence[Tensor], running: Tensor, is_training: bool) -> Tensor:
        from torch.nn.functional import batch_norm

        units = hidden.reshape(1, -1, hidden.shape[2])
        gamma, beta = (block.flatten() for block in norm)
        return batch_norm(units, running[0], running[1], gamma, beta, is_training, _BN_MOMENTUM, _BN_EPS).view(hidden.shape)

    @staticmethod
    def _activated(hidden: Tensor, head: HeadConfig) -> Tensor:
        from torch.nn.functional import gelu, relu

        return relu(hidden) if head.activation == "relu" else gelu(hidden)

    def _dropped(self, hidden: Tensor, number: int, place: tuple[int, int]) -> Tensor:
        import torch

        parts = self._dropouts[number]
        if parts is None:
            return hidden
        # Heads with the same seed share their uniform numbers, each with its own threshold.
        shape = hidden.shape[1:]
        drawn = {
            seed: uniform(stream_key(seed, *place, "dropout", number, shape[0]), shape, self.task.device)
            for seed in dict.fromkeys(self._seeds)
        }
        numbers = torch.stack([drawn[seed] for seed in self._seeds]) if len(drawn) > 1 else next(iter(drawn.values()))[None]
        return hidden * ((numbers >= parts) / (1 - parts))

    def _normal(self, shape: Sequence[int], place: tuple[int, int]) -> Tensor:
        return normal(stream_key(self._seeds[0], *place, "noise"), shape, self.task.device)

    def _portions(self, place: tuple[int, int]) -> Tensor | None:
        """(g, 1, 1): how much of a mixed row is itself, the rest being its neighbour; Zhang et al., "mixup", ICLR 2018."""
        if not any(head.mixup for head in self.heads):
            return None
        drawn = []
        for head in self.heads:
            key = stream_key(head.seed, *place, "mixup")
            alpha = head.mixup
            drawn.append(np.random.Generator(np.random.Philox(key)).beta(alpha, alpha) if alpha else 1.0)
        return self._each(drawn, none_if=None)

    def _accumulate(self, gradients: Sequence[Tensor], rows: Tensor, is_first: bool) -> None:
        import torch

        units = gradients[0].reshape(-1, len(rows)).to(rows.dtype)
        weight, bias = self._first_gradients
        if self.is_short:
            product = torch.mm(units, rows).view(weight.shape)
            weight.copy_(product) if is_first else weight.add_(product)
        elif is_first:
            torch.mm(units, rows, out=weight.flatten(0, 1))
        else:
            weight.flatten(0, 1).addmm_(units, rows)
        for gradient, new in zip([bias, *self._leaf_gradients], [gradients[0].sum(2, keepdim=True), *gradients[1:]], strict=True):
            if is_first:
                gradient.copy_(new)
            else:
                gradient.add_(new)

    def _evaluated(self, rows: Tensor, flat: Tensor, running: Tensor) -> Tensor:
        import torch

        weight, bias, *norm = self.parameters.blocks(flat, self.parameters.layers[0])
        hidden = torch.addmm(bias.flatten()[:, None], weight.flatten(0, 1), rows.T).view(len(self.heads), -1, len(rows))
        for number, layer in enumerate(self.parameters.layers[1:]):
            if norm:
                hidden = self._batch_norm(hidden, norm, self.parameters.running_of(running, number), is_training=False)
            weight, bias, *norm = self.parameters.blocks(flat, layer)
            hidden = torch.baddbmm(bias, weight, self._activated(hidden, self.heads[0]))
        return hidden

    def _each(self, numbers: Sequence[float], none_if: float | None = 0.0) -> Tensor | None:
        """(g, 1, 1) on the device; None if every number is `none_if`, so that nothing is computed for nobody."""
        import torch

        if all(number == none_if for number in numbers):
            return None
        return torch.tensor(numbers, dtype=torch.float32, device=self.task.device)[:, None, None]
