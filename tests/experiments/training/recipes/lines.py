"""Sequences of unequal length: batches by length, padding by the set, a loss that is a mean over points and not over rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from headstart.experiments.training.data.batch import Batch
from headstart.experiments.training.data.sets import Splits, Subset
from headstart.experiments.training.judging.metrics import gather, mean
from headstart.experiments.training.options import RecipeOptions, option


@dataclass(frozen=True)
class Options(RecipeOptions):
    cells: int = option(8, "width of the LSTM", at_least=1)
    epochs: int = 3
    batch_size: int = 8
    learning_rate: float = 1e-2
    clip: float = 1.0


class Lines:
    """Noisy sines of 10 to 30 points."""

    is_ready = True
    digest = "lines 1"

    def __init__(self, count):
        draw = np.random.default_rng(0)
        self.lengths = draw.integers(10, 30, count)
        self.lines = [np.sin(np.arange(n + 1) / 3 + draw.random()).astype(np.float32) for n in self.lengths]

    def __len__(self):
        return len(self.lines)

    def batches(self, key, size) -> Sequence[np.ndarray]:
        order = np.arange(len(self)) if key is None else key.numpy().permutation(len(self))
        by_length = order[np.argsort(self.lengths[order] // 5, kind="stable")]
        groups = np.array_split(by_length, -(-len(self) // size))
        return groups if key is None else [groups[i] for i in key.of("groups").numpy().permutation(len(groups))]

    def batch(self, rows, key) -> Batch:
        lines = [torch.from_numpy(self.lines[row]) for row in rows]
        if key is not None:
            lines = [line + float(key.of(int(row)).numpy().normal(0, 0.1)) for row, line in zip(rows, lines, strict=True)]
        points = torch.tensor([len(line) - 1 for line in lines])
        return Batch({"line": nn.utils.rnn.pad_sequence(lines, batch_first=True), "points": points}, weight=points)


class Lengths(Subset):
    """Some of them."""

    def batches(self, key, size):
        mine = Lines.__new__(Lines)
        mine.lengths, mine.lines = self.whole.lengths[self.rows], [self.whole.lines[i] for i in self.rows]
        return mine.batches(key, size)


def data(options, workspace) -> Splits:
    lines = Lines(83)
    return Splits(Lengths(lines, np.arange(60)), Lengths(lines, np.arange(60, 83)), about={"channels": 1})


def model(options, about) -> nn.Module:
    return nn.LSTM(about.channels, options.cells, batch_first=True, proj_size=1)


def errors(model, batch):
    said, _ = model(batch.line[:, :-1, None])
    is_there = torch.arange(said.shape[1], device=said.device)[None] < batch.points[:, None]
    return ((said[..., 0] - batch.line[:, 1:]) ** 2 * is_there).sum(1)


def loss(model, batch, step):
    return errors(model, batch).sum() / batch.points.sum(), {"longest": batch.points.max()}


def evaluate(model, batches):
    found, points = gather(batches, lambda batch: (errors(model, batch), batch.points))
    yield mean("error_per_point", found / points, points, better="lower", judged_by=True)
