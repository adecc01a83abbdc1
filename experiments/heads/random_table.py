"""Random numbers at the price of reading them: stretches of one long table, each from a place of its own.

To draw them anew for each batch costs a head with noise a tenth of its time. Two batches may get overlapping stretches; then the
same numbers meet other rows and other channels, and nothing can be learnt from that.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.experiments.training.schedule import stream_key

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 1 << 20
_APART = 16  # floats: every stretch begins where a cache line does


def uniform(key: int, shape: Sequence[int], device: str) -> Tensor:
    """float32 of that shape, from 0 to below 1: a function of key and shape. A view of the table, to be read only."""
    return _stretch("uniform", key, shape, device)


def normal(key: int, shape: Sequence[int], device: str) -> Tensor:
    """As `uniform`, of mean 0 and variance 1."""
    return _stretch("normal", key, shape, device)


def forget_tables() -> None:
    """Gives their memory back; they are made again when they are asked for."""
    _table.cache_clear()


def _stretch(kind: str, key: int, shape: Sequence[int], device: str) -> Tensor:
    count = math.prod(shape)
    start = key % (_BLOCK // _APART) * _APART
    table = _table(kind, device, 1 + -(-count // _BLOCK))
    return table[start : start + count].view(tuple(shape))


@functools.cache
def _table(kind: str, device: str, blocks: int) -> Tensor:
    """Each block from a key of its own, so that a longer table begins as a shorter one does."""
    import torch

    random = torch.Generator(device)
    table = torch.empty(blocks * _BLOCK, device=device)
    for number in range(blocks):
        block = table[number * _BLOCK : (number + 1) * _BLOCK]
        random.manual_seed(stream_key("table", kind, number))
        if kind == "uniform":
            block.uniform_(generator=random)
        else:
            block.normal_(generator=random)
    return table
