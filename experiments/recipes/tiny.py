"""A small network on the 1,797 handwritten digits of scikit-learn: the recipe to copy.

headstart train tiny
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.sets import Arrays, Splits, split
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, classification, gather
from headstart.experiments.training.options import RecipeOptions, option
from headstart.pipeline.workspace import Workspace


@dataclass(frozen=True)
class Options(RecipeOptions):
    hidden: int = option(64, "width of the hidden layer", at_least=1)
    epochs: int = 20
    learning_rate: float = 3e-3
    threads: int = 1


def data(options: Options, workspace: Workspace) -> Splits:
    digits = load_digits()
    return split(Arrays(image=digits.data / 16, label=digits.target), val=0.1, test=0.2, stratify="label")


def model(options: Options, about: Facts) -> nn.Module:
    return nn.Sequential(nn.Linear(64, options.hidden), nn.ReLU(), nn.Linear(options.hidden, 10))


def loss(model: nn.Module, batch: Batch, step: Step) -> Tensor:
    return F.cross_entropy(model(batch.image), batch.label)


def evaluate(model: nn.Module, batches: Batches) -> Iterator[Metric | Table]:
    logits, labels = gather(batches, lambda batch: (model(batch.image), batch.label))
    yield from classification(logits, labels)
