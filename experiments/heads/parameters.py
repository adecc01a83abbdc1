"""The numbers of a lane's heads: every kind of them in one flat tensor, with views a layer and a head; and one step on them.

Flat, so that a checkpoint is a few copies; views, so that each head is stepped with its own learning rate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.experiments.config import HeadConfig
from headstart.experiments.training.schedule import stream_key

from .torch_private import adamw_step, copy_all, sgd_step

if TYPE_CHECKING:
    from torch import Tensor

_ALIGN = 16  # floats: every block begins where a cache line does, so a product never depends on where memory lay
_EPS = 1e-8
_NEAR_0 = 0.01
_BETAS = (0.9, 0.999)
STATE = ("values", "first", "second", "best", "running", "best_running")  # all that a step depends on or leaves behind


@dataclass(frozen=True)
class Layer:
    """Places of one layer's blocks in the flat tensor; shapes are those of all g heads together.

    Attributes:
        inputs, outputs: widths.
        weight: (g, outputs, inputs); bias, gamma, beta: (g, outputs, 1); gamma and beta only with BatchNorm.
    """

    inputs: int
    outputs: int
    weight: int
    bias: int
    gamma: int | None = None
    beta: int | None = None


class Parameters:
    """Flat tensors `values`, `gradients`, `first` and `second` (moments) of g heads of one shape, and BatchNorm's `running`."""

    def __init__(
        self, heads: Sequence[HeadConfig], inputs: int, outputs: int, device: str, state: Mapping[str, Tensor] | None = None
    ) -> None:
        """Args: state: the tensors in STATE of these heads, which are taken over and not copied; None begins anew."""
        import torch

        self.heads = heads
        self.layers: list[Layer] = []
        widths = [inputs, *heads[0].hidden, outputs]
        size = 0
        for number, (before, after) in enumerate(itertools.pairwise(widths)):
            places = []
            hidden = number < len(widths) - 2
            for block in [after * before, *[after] * (3 if hidden and heads[0].batch_norm else 1)]:
                places.append(size)
                size += -(-len(heads) * block // _ALIGN) * _ALIGN
            self.layers.append(Layer(before, after, *places))
        self.running_size = sum(len(heads) * layer.outputs for layer in self.layers if layer.gamma is not None)
        if state is None:
            running = torch.stack([torch.zeros(self.running_size), torch.ones(self.running_size)])
            state = {name: torch.zeros(size) for name in STATE} | {"running": running, "best_running": running.clone()}
            self._initialize(state["values"])
        self.values, self.first, self.second, self.best = (state[name].to(device) for name in STATE[:4])
        self.running, self.best_running = (state[name].to(device) for name in STATE[4:])
        self.gradients = torch.zeros_like(self.values)
        self._by_head = [
            {name: self.views(getattr(self, name), head) for name in ("values", "gradients", "first", "second", "best")}
            for head in range(len(heads))
        ]
        self.regroup([True] * len(heads))

    def block(self, flat: Tensor, place: int, *shape: int) -> Tensor:
        """The block at `place` of all heads, as (g, *shape)."""
        count = len(self.heads) * math.prod(shape)
        return flat[place : place + count].view(len(self.heads), *shape)

    def blocks(self, flat: Tensor, layer: Layer) -> list[Tensor]:
        """Weight, bias and with BatchNorm gamma, beta of all heads."""
        weights = [self.block(flat, layer.weight, layer.outputs, layer.inputs)]
        places = [place for place in (layer.bias, layer.gamma, layer.beta) if place is not None]
        return weights + [self.block(flat, place, layer.outputs, 1) for place in places]

    def views(self, flat: Tensor, head: int) -> list[Tensor]:
        """Every block of one head, layer by layer."""
        return [block[head] for layer in self.layers for block in self.blocks(flat, layer)]

    def running_of(self, flat: Tensor, number: int) -> Tensor:
        """BatchNorm's running mean and variance (2, g * outputs) of a layer."""
        before = sum(len(self.heads) * layer.outputs for layer in self.layers[:number] if layer.gamma is not None)
        return flat[:, before : before + len(self.heads) * self.layers[number].outputs]

    def regroup(self, is_active: Sequence[bool]) -> None:
        """From now on only active heads are stepped; those with equal settings in one call."""
        groups: dict[tuple[float, float, float], list[int]] = {}
        for head, config in enumerate(self.heads):
            if is_active[head]:
                groups.setdefault((config.learning_rate, config.decay, config.momentum), []).append(head)
        self._groups = [
            (settings, {name: [v for head in members for v in self._by_head[head][name]] for name in self._by_head[0]})
            for settings, members in groups.items()
        ]
        self._clipped = [head for head, config in enumerate(self.heads) if config.clip_norm and is_active[head]]

    def step(self, number: int, factor: float) -> None:
        """One step of the optimizer, as torch.optim's fused AdamW and SGD make it.

        Args:
            number: of the step, from 1.
            factor: of every learning rate.
        """
        import torch

        self._clip()
        count = torch.tensor(float(number), device=self.values.device)
        for (learning_rate, decay, momentum), tensors in self._groups:
            rate = learning_rate * factor
            values, gradients = tensors["values"], tensors["gradients"]
            if self.heads[0].optimizer == "sgd":
                sgd_step(values, gradients, tensors["first"], rate, momentum, decay)
            else:
                adamw_step(values, gradients, (tensors["first"], tensors["second"]), count, rate, _BETAS, _EPS, decay)

    def keep_best(self, head: int) -> None:
        """Remembers the head as it is now."""
        copy_all(self._by_head[head]["best"], self._by_head[head]["values"])
        for number, layer in enumerate(self.layers):
            if layer.gamma is not None:
                mine = slice(head * layer.outputs, (head + 1) * layer.outputs)
                self.running_of(self.best_running, number)[:, mine] = self.running_of(self.running, number)[:, mine]

    def _clip(self) -> None:
        from torch.nn.utils import get_total_norm

        for head in self._clipped:
            gradients = self._by_head[head]["gradients"]
            norm = float(get_total_norm(gradients))
            if norm > self.heads[head].clip_norm:
                for gradient in gradients:
                    gradient.mul_(self.heads[head].clip_norm / (norm + 1e-6))

    def _initialize(self, values: Tensor) -> None:
        """As torch.nn.Linear and BatchNorm begin; a head's numbers come from its own seed, so no other head matters.

        A linear head begins near 0: nothing learns away what lies in directions in which no training row goes.
        """
        import torch

        for head, config in enumerate(self.heads):
            for number, layer in enumerate(self.layers):
                random = torch.Generator().manual_seed(stream_key(config.seed, "weights", number))
                bound = (1 if config.hidden else _NEAR_0) / math.sqrt(layer.inputs)
                weight, bias, *norm = (block[head] for block in self.blocks(values, layer))
                for block in (weight, bias):
                    block.copy_(torch.empty(block.shape).uniform_(-bound, bound, generator=random))
                if norm:
                    norm[0].fill_(1)
