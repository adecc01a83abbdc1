"""The rows of training in the order of an epoch, standardized, as float32 tensors; read ahead in a thread."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.config import TrainingOptions
from headstart.experiments.data.training_data import Scaling, TrainingData
from headstart.experiments.training.prefetch import ahead
from headstart.experiments.training.schedule import row_order

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK_ROWS = 2048
_SHUFFLED_ROWS = 16_384  # at once: many short steps of one thread would make the other one wait for the interpreter


@dataclass(frozen=True)
class Chunk:
    """Some consecutive batches, on the device; batch i has rows bounds[i] to bounds[i + 1]. Good until the next one is asked for.

    Attributes:
        features: (r, d) float16: `BatchReader.batch` makes float32 of a batch where it is used, in that core's cache.
        auxiliary: (r, a) float32 or None.
        targets: (k, r).
    """

    epoch: int
    first_batch: int
    bounds: list[int]
    features: Tensor
    auxiliary: Tensor | None
    targets: Tensor


class BatchReader:
    """Makes tensors of rows; the same bits wherever and whenever a row is read."""

    def __init__(self, data: TrainingData, scaling: Scaling, options: TrainingOptions) -> None:
        import torch

        self.data, self.scaling, self.options = data, scaling, options
        self._shift, self._factor = (torch.from_numpy(a).to(options.device) for a in (scaling.mean, scaling.inverse_scale))
        batch, count = options.batch_size, len(data.train)
        # A batch of one row has no variance for BatchNorm; rows are shuffled, so it is another one in each epoch.
        self.used = count - 1 if count % batch == 1 and count > 1 else count
        self.batches = -(-self.used // batch)
        self._chunk_batches = max(1, _CHUNK_ROWS // (batch * options.accumulation)) * options.accumulation
        self._shuffled = (-1, 0, np.empty(0, np.int64))  # an epoch, a place in it, and the rows from there on
        # One chunk is worked on while the next is read. The same memory each time: new pages cost more than the arithmetic.
        most = min(self._chunk_batches * batch, count)
        self._memory = itertools.cycle([np.empty((most, data.source.embed_dim), np.float16) for _ in range(2)])

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.batches // self.options.accumulation)

    def chunks(self, epoch: int, batch: int) -> Iterator[Chunk]:
        """From a place in the schedule to its end; the next one is read while the caller works on this one."""
        places = [
            (e, first, min(first + self._chunk_batches, self.batches))
            for e in range(epoch, self.options.epochs)
            for first in range(batch if e == epoch else 0, self.batches, self._chunk_batches)
        ]
        if places:  # the first step need not wait for more rows than its own
            e, first, last = places[0]
            middle = min(first + self.options.accumulation, last)
            places[:1] = [(e, first, middle), (e, middle, last)][: 1 + (middle < last)]
        return ahead(self._chunk, places)

    def rows(self, positions: NDArray[np.int64]) -> Tensor:
        """(len(positions), d + a) standardized float32."""
        import torch

        features, auxiliary = self._read(positions, None)
        return self._standardized(features, auxiliary, torch.empty(len(positions), self.data.inputs, device=self.options.device))

    def batch(self, chunk: Chunk, start: int, stop: int, out: Tensor) -> Tensor:
        """(stop - start, d + a) standardized float32 of the chunk's rows `start` to `stop`, in the first rows of `out`."""
        auxiliary = None if chunk.auxiliary is None else chunk.auxiliary[start:stop]
        return self._standardized(chunk.features[start:stop], auxiliary, out)

    def _standardized(self, features: Tensor, auxiliary: Tensor | None, out: Tensor) -> Tensor:
        result = out[: len(features)]
        result[:, : features.shape[1]] = features
        if auxiliary is not None:
            result[:, features.shape[1] :] = auxiliary
        return result.sub_(self._shift).mul_(self._factor)

    def targets(self, positions: NDArray[np.int64]) -> Tensor:
        """(k, len(positions)): one-hot, or numbers in units of their spread."""
        import torch

        dense = self.data.targets.dense(positions)
        if self.data.targets.task == "regression":
            dense = (dense - self.scaling.target_mean) / self.scaling.target_scale
        return torch.from_numpy(np.ascontiguousarray(dense.T))

    def _chunk(self, place: tuple[int, int, int]) -> Chunk:
        epoch, batch, last = place
        size = self.options.batch_size
        start, stop = batch * size, min(last * size, self.used)
        positions = self.data.train[self._order(epoch, start, stop)]
        bounds = [min(number * size, self.used) - start for number in range(batch, last + 1)]
        features, auxiliary = self._read(positions, next(self._memory)[: len(positions)])
        return Chunk(epoch, batch, bounds, features, auxiliary, self.targets(positions).to(self.options.device))

    def _order(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        known, first, order = self._shuffled
        if known != epoch or not first <= start <= stop <= first + len(order):
            end = max(stop, min(start + _SHUFFLED_ROWS, self.used))
            order = row_order(len(self.data.train), start, end, self.options.seed, epoch, self.options.by_blocks)
            first, self._shuffled = start, (epoch, start, order)
        return order[start - first : stop - first]

    def _read(self, positions: NDArray[np.int64], memory: NDArray[np.float16] | None) -> tuple[Tensor, Tensor | None]:
        import torch

        features = torch.from_numpy(self.data.source.take(positions, memory)).to(self.options.device)
        columns = self.data.auxiliary
        return features, None if columns is None else torch.from_numpy(columns[positions]).to(self.options.device)
