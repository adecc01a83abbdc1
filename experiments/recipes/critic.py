"""What a small picture of a design is for and how well it is laid out, from its pixels: to judge what diffusion draws.

headstart make examples/designs/designs.py --count 8000
headstart train critic --image-size 32 --seed 1
headstart evaluate RUN --judge N
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from headstart.experiments.designs.blocks import as_input
from headstart.experiments.designs.critic_network import CriticNetwork
from headstart.experiments.designs.data_set import DesignOptions, find_designs, require_size
from headstart.experiments.designs.judgement import judgement_loss, judgement_metrics, judgement_of, judgement_sizes
from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.sets import Splits
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table
from headstart.experiments.training.options import option
from headstart.pipeline.workspace import Workspace


@dataclass(frozen=True)
class Options(DesignOptions):
    width: int = option(64, "channels of the first maps", at_least=8, at_most=512)
    features: int = option(96, "numbers that all answers are read from", at_least=8, at_most=2048)
    grammar_weight: float = option(4.0, "of the scores' error in the loss, and of tone's", at_least=0)
    epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 1e-3
    clip: float = 1.0


def data(options: Options, workspace: Workspace) -> Splits:
    require_size(options.image_size, 2)
    return find_designs(workspace, options.made).splits(options.image_size)


def model(options: Options, about: Facts) -> CriticNetwork:
    return CriticNetwork(options.image_size, options.width, options.features, judgement_sizes(about))


def loss(model: CriticNetwork, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Any]]:
    said = judgement_of(model(as_input(batch.image)), step.about)
    return judgement_loss(said, batch, step.options.grammar_weight)


def evaluate(model: CriticNetwork, batches: Batches) -> Iterator[Metric | Table]:
    yield from judgement_metrics(batches, lambda batch: judgement_of(model(as_input(batch.image)), batches.about))
