"""Strokes of a pen become text: a small network that reads lines, to judge handwriting by.

headstart train recogniser                           on lines composed from fonts, in 24 made-up hands
headstart train recogniser --lines lines.npz         on lines of people
headstart evaluate RUN --reader N                    how well it reads what a run of handwriting writes

Graves et al., "Connectionist Temporal Classification", ICML 2006.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from headstart.experiments.strokes.data_set import Alphabet
from headstart.experiments.strokes.legibility import legibility
from headstart.experiments.strokes.line_splits import LineOptions, line_parts
from headstart.experiments.strokes.recogniser import BLANK, RecogniserNetwork, spelt
from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.sets import Splits
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, mean
from headstart.experiments.training.options import option
from headstart.pipeline.workspace import Workspace


@dataclass(frozen=True)
class Options(LineOptions):
    rnn_size: int = option(96, "units of each layer and direction", at_least=8, at_most=512)
    layers: int = option(2, "recurrent layers", at_least=1, at_most=4)
    drop: float = option(0.2, "part of what a layer says that is left out in training", at_least=0, below=1)
    distortion: float = option(0.1, "of slant and size of each line in training, a standard deviation", at_least=0, at_most=1)
    epochs: int = 15
    batch_size: int = 16
    optimizer: str = "adam"
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    clip: float = 1.0
    threads: int = 1


def data(options: Options, workspace: Workspace) -> Splits:
    return line_parts(options).splits({})


def model(options: Options, about: Facts) -> RecogniserNetwork:
    return RecogniserNetwork(options.rnn_size, options.layers, len(about.alphabet), options.drop)


def _nats_of_lines(logs: Tensor, frames: Tensor, text: Tensor) -> Tensor:
    """(b,) of each line's text, 0 where a line has too few frames for it. Args: text: (b, u) with the end, filled up with 0."""
    characters = (text > 0).sum(dim=1) - 1
    # On the CPU wherever the network is: torch's gradient of this on a GPU is not the same from run to run.
    return F.ctc_loss(
        logs.cpu().transpose(0, 1), text.cpu(), frames.cpu(), characters.cpu(), BLANK, reduction="none", zero_infinity=True
    )


def _distorted(steps: Tensor, step: Step) -> Tensor:
    """The lines of other hands: each slanted, and drawn out in both directions, by its own numbers."""
    drawn = step.normal("hand", (len(steps), 3)) * step.options.distortion
    x, y, end = steps.unbind(dim=2)
    slant, width, height = (drawn[:, place, None] for place in range(3))
    return torch.stack([(x + slant * y) * width.exp(), y * height.exp(), end], dim=2)


def loss(model: RecogniserNetwork, batch: Batch, step: Step) -> Tensor:
    logs, frames = model(_distorted(batch.steps, step), batch.points)
    value: Tensor = _nats_of_lines(logs, frames, batch.text).sum() / batch.points.sum().cpu()
    return value


def evaluate(model: RecogniserNetwork, batches: Batches) -> Iterator[Metric | Table]:
    alphabet, read, true, nats, points = Alphabet(batches.about.alphabet), [], [], [], []
    for batch in batches:
        logs, frames = model(batch.steps, batch.points)
        read += spelt(logs, frames, alphabet)
        true += [
            "".join(alphabet.characters[symbol - 1] for symbol in row if 0 < symbol < alphabet.end) for row in batch.text.tolist()
        ]
        nats.append(_nats_of_lines(logs, frames, batch.text).cpu())
        points.append(batch.points.cpu())
    yield from legibility(read, true)
    per_line, counts = torch.cat(nats).double().numpy(), torch.cat(points).numpy()
    yield mean("nats_per_point", per_line / counts, weights=counts, better="lower")
    yield Table("read", [{"text": text, "read": said} for text, said in list(zip(true, read, strict=True))[:20]])
