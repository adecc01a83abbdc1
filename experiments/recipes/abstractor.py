"""What a design is for and how well it is laid out, from its structure: goal, format, tone and four scores of its grammar.

headstart make examples/designs/designs.py --count 8000
headstart train abstractor --image-size 64

Every row and every column of the structure is a token, so that where an edge is along it is never averaged away, and attention
compares them: whether lines begin at one place is a question about pairs. A head for the meta data, one for the grammar.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from headstart.experiments.designs.data_set import find_designs, require_size
from headstart.experiments.designs.description import CHANNELS, COLOURS, SCORES
from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.sets import Splits
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, from_sums, gather, mean
from headstart.experiments.training.options import RecipeOptions, option
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

_COLOUR_CHANNELS = 6
_PLANES = len(CHANNELS) - 1 + _COLOUR_CHANNELS


@dataclass(frozen=True)
class Options(RecipeOptions):
    made: str | None = option(None, "what headstart make made of designs, by the name of its folder or file; none: the only one")
    image_size: int = option(64, "pixels of an edge that designs are reduced to", at_least=16, at_most=256)
    width: int = option(96, "numbers of a token, a multiple of 4", at_least=8, at_most=1024)
    layers: int = option(2, "of attention", at_least=1, at_most=12)
    grammar_weight: float = option(4.0, "of the scores' error in the loss, and of tone's", at_least=0)
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    clip: float = 1.0


@dataclass(frozen=True)
class Abstract:
    """What the network says, (b, ...): logits of goals and formats; tone (b,) and scores (b, 4) from 0 to 1."""

    goal: Tensor
    format: Tensor
    tone: Tensor
    scores: Tensor


class Abstractor(nn.Module):
    """(b, 4, s, s) uint8 to (b, goals + formats + 1 + scores)."""

    def __init__(self, size: int, width: int, layers: int, outputs: tuple[int, int]) -> None:
        super().__init__()
        self.colours = nn.Embedding(len(COLOURS), _COLOUR_CHANNELS)
        self.tokens = nn.ModuleList([nn.Linear(_PLANES * size, width) for _ in range(2)])
        self.positions = nn.Parameter(0.1 * torch.randn(2 * size, width))
        self.layers = nn.ModuleList(
            [
                nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
                for _ in range(layers)
            ]
        )
        self.norm = nn.LayerNorm(2 * width)
        self.heads = nn.ModuleList([nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, n)) for n in outputs])

    def forward(self, structure: Tensor) -> Tensor:
        colours = self.colours(structure[:, 2].long()).permute(0, 3, 1, 2)
        masks, prominence = structure[:, :2].float(), structure[:, 3:4].float() / 255
        planes = torch.cat([masks, prominence, colours], 1)
        rows, columns = (planes.permute(0, along, 1, 5 - along).flatten(2) for along in (2, 3))
        tokens = torch.cat([self.tokens[0](rows), self.tokens[1](columns)], 1) + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        pooled = self.norm(torch.cat([half.mean(1) for half in tokens.chunk(2, 1)], 1))
        return torch.cat([head(pooled) for head in self.heads], 1)


def data(options: Options, workspace: Workspace) -> Splits:
    require_size(options.image_size, 1)
    if options.width % 4:
        raise HeadstartError(f"--width {options.width} is no multiple of 4, the number of attention's heads")
    return find_designs(workspace, options.made).splits(options.image_size)


def model(options: Options, about: Facts) -> Abstractor:
    outputs = (len(about.goals) + len(about.formats) + 1, len(SCORES))
    return Abstractor(about.image_size, options.width, options.layers, outputs)


def abstract_of(network: nn.Module, structure: Tensor, about: Facts) -> Abstract:
    """What the network makes of structures. Args: structure: (b, 4, s, s) uint8."""
    said = network(structure).float()
    goal, form, tone, scores = said.split([len(about.goals), len(about.formats), 1, len(SCORES)], 1)
    return Abstract(goal, form, tone[:, 0].sigmoid(), scores.sigmoid())


def loss(model: Abstractor, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Any]]:
    said = abstract_of(model, batch.structure, step.about)
    meta = F.cross_entropy(said.goal, batch.goal) + F.cross_entropy(said.format, batch.format)
    tone, grammar = F.l1_loss(said.tone, batch.tone), F.l1_loss(said.scores, batch.scores)
    total = meta + step.options.grammar_weight * (tone + grammar * len(SCORES))
    return total, {"loss_meta": meta.detach(), "tone_error": tone.detach(), "grammar_error": grammar.detach()}


def evaluate(model: Abstractor, batches: Batches) -> Iterator[Metric | Table]:
    """Judged by the mean error of the scores; of each score its error, and how it goes with the truth (Pearson)."""

    def said(batch: Batch) -> tuple[Tensor, ...]:
        one = abstract_of(model, batch.structure, batches.about)
        rights = ((one.goal.argmax(1) == batch.goal), (one.format.argmax(1) == batch.format))
        return (*rights, (one.tone - batch.tone).abs(), one.scores, batch.scores)

    goal, form, tone, scores, truth = gather(batches, said)
    errors = np.abs(scores - truth)
    yield mean("grammar_error", errors.mean(1), better="lower", judged_by=True)
    yield mean("goal_accuracy", goal)
    yield mean("format_accuracy", form)
    yield mean("tone_error", tone, better="lower")
    for place, name in enumerate(SCORES):
        yield mean(f"{name}_error", errors[:, place], better="lower")
        yield from_sums(f"{name}_correlation", _moments(scores[:, place], truth[:, place]), _correlation)
    guessed = np.abs(truth - np.median(truth, 0)).mean(0)
    yield Table("error_of_guessing_the_median", dict(zip(SCORES, guessed.tolist(), strict=True)))


def _moments(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    a, b = first.astype(np.float64), second.astype(np.float64)
    return np.stack([np.ones_like(a), a, b, a * a, b * b, a * b], 1)


def _correlation(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's, from sums of 1, a, b, a a, b b and a b; 0 where one of them never changes."""
    count, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
    spread = np.sqrt(np.maximum(0, count * aa - a * a) * np.maximum(0, count * bb - b * b))
    return np.asarray(np.divide(count * ab - a * b, spread, out=np.zeros_like(spread), where=spread > 1e-9))
