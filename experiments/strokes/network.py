"""The network that writes: recurrent layers over the points of a line, and a window that moves over its characters.

Graves 2013 (arXiv 1308.0850), section 5. Characters are numbers from 1; 0 fills up shorter texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mixture import NUMBERS_A_COMPONENT
from .window_layer import WindowLayer

_FIRST_STRIDE = 0.1  # characters that a window moves on at each point, before anything was learnt: ten points a character


@dataclass(frozen=True)
class Written:
    """Where the network stands after some points of b lines: what it goes on from.

    Attributes:
        hidden, cell: (b, width) of the first layer.
        place: (b, k) characters that each part of the window has moved.
        upper: hidden and cell of each other layer, (1, b, width).
        seen: (b, u) how much of it lies on each character.
    """

    hidden: Tensor
    cell: Tensor
    place: Tensor
    upper: tuple[tuple[Tensor, Tensor], ...]
    seen: Tensor


class SynthesisNetwork(nn.Module):
    """Attributes: first: the layer below the window; its weights read the pen's last step, the window and itself."""

    def __init__(self, width: int, windows: int, mixtures: int, symbols: int, layers: int = 3) -> None:
        """Args: symbols: different characters, without the filler."""
        super().__init__()
        self.width, self.windows, self.symbols = width, windows, symbols
        self.first = nn.LSTMCell(3 + symbols + 1, width)
        self.to_window = nn.Linear(width, 3 * windows)
        self.upper = nn.ModuleList(nn.LSTM(3 + symbols + 1 + width, width, batch_first=True) for _ in range(layers - 1))
        self.to_numbers = nn.Linear(layers * width, NUMBERS_A_COMPONENT * mixtures + 1)
        with torch.no_grad():
            stride = self.to_window.bias[2 * windows :]
            stride.copy_(torch.full_like(stride, _FIRST_STRIDE).expm1().log())  # softplus gives it back
            for layer in (self.first, *self.upper):
                for name, bias in layer.named_parameters():
                    if name.startswith("bias_ih"):
                        bias[width : 2 * width] = 1.0  # remember: Jozefowicz et al., ICML 2015

    def start(self, text: Tensor) -> Written:
        """Before the first point of lines with texts (b, u)."""
        rows, none = len(text), self.to_window.weight.new_zeros
        upper = tuple((none(1, rows, self.width), none(1, rows, self.width)) for _ in self.upper)
        seen = none(text.shape)
        return Written(none(rows, self.width), none(rows, self.width), none(rows, self.windows), upper, seen)

    def forward(self, steps: Tensor, text: Tensor, state: Written | None = None) -> tuple[Tensor, Written]:
        """Numbers (b, t, 6 m + 1) for the step after each of `steps` (b, t, 3), and where the network then stands.

        Args: text: (b, u) characters. state: where it stood; None: at the start.
        """
        state = self.start(text) if state is None else state
        characters = F.one_hot(text, self.symbols + 1).to(steps.dtype)
        characters[..., 0] = 0.0
        below, reading, state = self._first_layer(steps, text, characters, state)
        outputs, upper, inputs = [below], [], torch.cat([steps, reading], dim=2)
        for layer, before in zip(self.upper, state.upper, strict=True):
            below, after = layer(torch.cat([inputs, below], dim=2), before)
            outputs.append(below)
            upper.append(after)
        numbers: Tensor = self.to_numbers(torch.cat(outputs, dim=2))
        return numbers, Written(state.hidden, state.cell, state.place, tuple(upper), state.seen)

    def _first_layer(self, steps: Tensor, text: Tensor, characters: Tensor, state: Written) -> tuple[Tensor, Tensor, Written]:
        """What the window brings to the layer's gates is a mean of rows that are made once, one a character."""
        weight, to_window, is_there = self.first.weight_ih, self.to_window, (text > 0).to(steps.dtype)
        # In full precision whatever --amp says: far into a line, bfloat16 would round away the window's stride.
        with torch.autocast(steps.device.type, enabled=False):
            gates = F.linear(steps, weight[:, :3], self.first.bias_ih + self.first.bias_hh)  # (b, t, 4 h)
            keys = characters @ weight[:, 3:].T  # (b, u, 4 h)
            before = (state.hidden, state.cell, state.place, state.seen)
            weights = (self.first.weight_hh, to_window.weight, to_window.bias)
            hidden, seen, cell, place = WindowLayer.apply(gates, keys, *weights, is_there, *before)
            reading = torch.bmm(seen, characters)
        return hidden, reading, Written(hidden[:, -1], cell, place, state.upper, seen[:, -1])
