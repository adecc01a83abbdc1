"""The softmax likelihood of many linear heads, with its gradient, in one pass over the rows.

Blocks of rows are worked on beside each other, each in one thread, and added up in their order: the result does not depend on how
many cores there are.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.devices import cores

from .half import as_float32
from .source import FeatureSource
from .targets import Targets

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Likelihood:
    """Of p heads with k classes each, a row, float64.

    Attributes:
        loss: (p,) mean of minus the logarithm of the true class's probability.
        weights: (p, k, d), biases: (p, k): its gradient.
        indecision: (p, k) mean of q (1 - q) of each class's probability q, which is how curved the loss is.
    """

    loss: _Array
    weights: _Array
    biases: _Array
    indecision: _Array


class _Heads:
    """float32 copies of heads that take x - shift, wide: those of all heads and classes below each other."""

    def __init__(self, shift: NDArray[np.float64], weights: _Array, biases: _Array) -> None:
        self.shape = biases.shape
        self.shift = shift.astype(np.float32)
        self.weights = weights.reshape(biases.size, -1).astype(np.float32)
        self.biases = biases.reshape(-1, 1).astype(np.float32)

    def sums(self, half: NDArray[np.float16], codes: NDArray[np.int64]) -> tuple[NDArray[np.floating[Any]], ...]:
        """Sums over the rows of a block: loss, the gradients, indecision."""
        rows = as_float32(half)
        rows -= self.shift
        flat = self.weights @ rows.T
        flat += self.biases
        logits = flat.reshape(*self.shape, len(rows))
        logits -= logits.max(axis=1, keepdims=True)
        every = np.arange(len(rows))
        chosen = logits[:, codes, every]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        loss = (np.log(total[:, 0]) - chosen).sum(axis=1)
        logits /= total
        biases = logits.sum(axis=2)
        indecision = biases - np.einsum("pkb,pkb->pk", logits, logits)
        logits[:, codes, every] -= 1
        return loss, flat @ rows, biases - np.bincount(codes, minlength=self.shape[1]), indecision


def likelihood(
    source: FeatureSource, targets: Targets, positions: NDArray[np.int64], shift: _Array, weights: _Array, biases: _Array
) -> Likelihood:
    """Of heads that take x - shift.

    Args:
        positions: rows with a class, at least one.
        shift: (d,); weights: (p, k, d); biases: (p, k).
    """
    from threadpoolctl import threadpool_limits

    heads = _Heads(shift, weights, biases)
    sums = [np.zeros(len(weights)), np.zeros((biases.size, weights.shape[2])), np.zeros(biases.shape), np.zeros(biases.shape)]
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores(), "likelihood") as pool:
        under_way: deque[Future[tuple[NDArray[np.floating[Any]], ...]]] = deque()
        blocks: Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]] = source.blocks(positions)
        for found, half in blocks:
            under_way.append(pool.submit(heads.sums, half, targets.codes[found]))
            if len(under_way) > cores():
                _add(sums, under_way.popleft().result())
        while under_way:
            _add(sums, under_way.popleft().result())
    loss, product, bias, indecision = (each / len(positions) for each in sums)
    return Likelihood(loss, product.reshape(weights.shape), bias, indecision)


def _add(sums: list[_Array], block: tuple[NDArray[np.floating[Any]], ...]) -> None:
    for total, part in zip(sums, block, strict=True):
        np.add(total, part, out=total)
