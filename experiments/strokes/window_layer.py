"""The recurrent layer below the window, with the window: point by point, for each depends on the other; its gradient by hand.

Autograd would keep every product of each point and add up the gradients of the weights point by point. Here what does not go
from one point to the next is computed once, for all points together.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class WindowLayer(torch.autograd.Function):
    """Graves 2013 (arXiv 1308.0850), equations 46 to 51, for b lines of t points and u characters, h units and k parts.

    Arguments of `apply`:
        gates: (b, t, 4 h) what the pen's steps and biases bring to entrance, forget, inner and exit gates.
        keys: (b, u, 4 h) what a window that lies on a character brings to them.
        recurrent: (4 h, h) weights of the layer before.
        weight, bias: (3 k, h) and (3 k,), from the layer to height, narrowness and stride of the window's parts.
        is_there: (b, u) 0 where a shorter text is filled up, else 1.
        hidden, cell: (b, h); place: (b, k); seen: (b, u): where it stands before the first point.

    Results: hidden (b, t, h) and seen (b, t, u) after each point, cell and place after the last.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gates: Tensor,
        keys: Tensor,
        recurrent: Tensor,
        weight: Tensor,
        bias: Tensor,
        is_there: Tensor,
        hidden: Tensor,
        cell: Tensor,
        place: Tensor,
        seen: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        width, positions = hidden.shape[1], _positions(is_there)
        opened = torch.empty_like(gates.transpose(0, 1), memory_format=torch.contiguous_format)  # (t, b, 4 h)
        hiddens, cells, seens, places, numbers = [hidden], [cell], [seen], list[Tensor](), list[Tensor]()
        for gate, now in zip(gates.unbind(dim=1), opened, strict=True):
            mixed = torch.addmm(gate + torch.bmm(seen[:, None], keys)[:, 0], hidden, recurrent.T)
            torch.sigmoid(mixed, out=now)
            entrance, forget, inner, leave = now.chunk(4, dim=1)
            inner.copy_(mixed[:, 2 * width : 3 * width].tanh())
            cell = torch.addcmul(forget * cell, entrance, inner)
            hidden = leave * cell.tanh()
            number = torch.addmm(bias, hidden, weight.T)
            height, narrow, stride = F.softplus(number).chunk(3, dim=1)
            place = place + stride
            gap = place[:, :, None] - positions
            seen = (height[:, :, None] * (-narrow[:, :, None] * gap * gap).exp()).sum(dim=1) * is_there
            for column, value in zip((hiddens, cells, seens, places, numbers), (hidden, cell, seen, place, number), strict=True):
                column.append(value)
        columns = [torch.stack(column) for column in (hiddens, cells, seens, places, numbers)]
        ctx.save_for_backward(keys, recurrent, weight, is_there, opened, *columns)
        return columns[0][1:].transpose(0, 1), columns[2][1:].transpose(0, 1), cell, place

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_hidden: Tensor, of_seen: Tensor, of_cell: Tensor, of_place: Tensor) -> tuple[Tensor | None, ...]:
        keys, recurrent, weight, is_there, opened, hiddens, cells, seens, places, numbers = ctx.saved_tensors
        count, parts = len(opened), places.shape[2]
        by_cell, to_cell, by_hidden = _slopes_of_gates(opened, cells)
        of_window, of_stride = _slopes_of_window(numbers, places, is_there)
        of_gates, of_numbers = torch.empty_like(opened), torch.empty_like(numbers)
        forget = opened.chunk(4, dim=2)[1]
        by_characters = keys.transpose(1, 2)
        hidden, seen = torch.zeros_like(hiddens[0]), torch.zeros_like(seens[0])  # what comes from the point behind
        cell, place = of_cell, of_place
        for point in range(count - 1, -1, -1):
            seen = seen + of_seen[:, point]
            window = torch.bmm(of_window[point], seen[:, :, None])[:, :, 0]
            place = place + window[:, 2 * parts :]
            of_number = of_numbers[point]
            of_number[:, : 2 * parts] = window[:, : 2 * parts]
            torch.mul(place, of_stride[point], out=of_number[:, 2 * parts :])
            hidden = torch.addmm(hidden + of_hidden[:, point], of_number, weight)
            cell = torch.addcmul(cell, hidden, to_cell[point])
            of_gate = of_gates[point].view(len(cell), 4, -1)
            torch.mul(cell[:, None], by_cell[point], out=of_gate[:, :3])
            torch.mul(hidden, by_hidden[point], out=of_gate[:, 3])
            cell = cell * forget[point]
            hidden = of_gates[point] @ recurrent
            seen = torch.bmm(of_gates[point][:, None], by_characters)[:, 0]
        gates = of_gates.transpose(0, 1)
        of_keys = torch.bmm(seens[:-1].permute(1, 2, 0), gates)
        flat_gates, flat_numbers = of_gates.flatten(0, 1), of_numbers.flatten(0, 1)
        of_recurrent, of_weight = flat_gates.T @ hiddens[:-1].flatten(0, 1), flat_numbers.T @ hiddens[1:].flatten(0, 1)
        return gates, of_keys, of_recurrent, of_weight, flat_numbers.sum(dim=0), None, hidden, cell, place, seen


def _positions(is_there: Tensor) -> Tensor:
    return torch.arange(1, is_there.shape[1] + 1, device=is_there.device, dtype=is_there.dtype)


def _slopes_of_gates(opened: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the cell by what goes into its three gates (t, b, 3, h), of the output by cell and gate (t, b, h)."""
    entrance, forget, inner, leave = opened.chunk(4, dim=2)
    bent = cells[1:].tanh()
    by_cell = torch.stack(
        [inner * entrance * (1 - entrance), cells[:-1] * forget * (1 - forget), entrance * (1 - inner * inner)], dim=2
    )
    return by_cell, leave * (1 - bent * bent), bent * leave * (1 - leave)


def _slopes_of_window(numbers: Tensor, places: Tensor, is_there: Tensor) -> tuple[Tensor, Tensor]:
    """Of the window by heights, narrownesses and places (t, b, 3 k, u), of places by strides (t, b, k)."""
    height, narrow, _ = F.softplus(numbers)[..., None].chunk(3, dim=2)
    by_height, by_narrow, by_stride = numbers.sigmoid()[..., None].chunk(3, dim=2)
    gap = places[..., None] - _positions(is_there)
    bump = (-narrow * gap * gap).exp() * is_there[:, None]
    raised = height * bump * gap
    return torch.cat([by_height * bump, -by_narrow * gap * raised, -2 * narrow * raised], dim=2), by_stride[..., 0]
