"""A quantum circuit as the head of an encoder, simulated, beside a linear and an equally large classical head.

headstart train quantum encoder_mobilenetv2_100-1a2b3c4d --qubits 4 --layers 3

Features go through a linear layer to one number a qubit, BatchNorm and tanh to angles, the circuit, and a linear layer to
classes. The three heads share rows and steps but no weight, so each is what it would be alone (but for --clip, whose norm is that
of all). The epoch that is kept is the best of the quantum head. No advantage of the circuit is claimed: the numbers say which is
best.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headstart.experiments.data.named_features import find_features
from headstart.experiments.data.statistics import standardization_from
from headstart.experiments.heads.pennylane_circuit import SIMULATORS, circuit_of
from headstart.experiments.heads.quantum import MOST_QUBITS, EntanglingCircuit
from headstart.experiments.runs.experiment_data import data_of
from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.sets import Arrays, Splits
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, classification, gather, mean
from headstart.experiments.training.options import RecipeOptions, option
from headstart.pipeline.workspace import Workspace

_SET_ASIDE = 0.1  # of the training rows, where the data has no validation split
HEADS = ("quantum", "classical", "linear")


@dataclass(frozen=True)
class Options(RecipeOptions):
    data: str | None = option(None, "an encoder's folder with features of labelled images; none: the only one")
    qubits: int = option(4, "of the circuit", at_least=1, at_most=MOST_QUBITS)
    layers: int = option(3, "strongly entangling layers", at_least=1, at_most=64)
    simulator: str = option("torch", "what computes the circuit; pennylane: slower, to compare with", choices=SIMULATORS)
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    threads: int = 1


def data(options: Options, workspace: Workspace) -> Splits:
    cached, name = find_features(workspace, options.data)
    has_val = bool(cached.rows.split.is_("val").any())
    found = data_of(cached, "classification", (), (), 0.0 if has_val else _SET_ASIDE)
    rows, targets = found.data, found.data.targets
    standard = standardization_from(rows.source, rows.train)
    about = {
        "classes": list(targets.names),
        "mean": standard.mean.astype(np.float32).tolist(),
        "scale": standard.scale.astype(np.float32).tolist(),
        "encoder": cached.folder.name,
    }

    def part(positions: np.ndarray[Any, np.dtype[np.int64]]) -> Arrays:
        return Arrays(features=cached.take(positions), label=targets.codes[positions])

    test = part(found.test) if len(found.test) else None
    return Splits(part(rows.train), part(rows.val), test, about, found.notes, settled={"data": name})


class HeadsSideBySide(nn.Module):
    """The three heads on standardized features; called, it gives the logits (b, k) of the quantum one."""

    def __init__(self, options: Options, about: Facts) -> None:
        super().__init__()
        qubits, inputs, classes = options.qubits, len(about.mean), len(about.classes)
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.tensor(about.mean), persistent=False)
        self.register_buffer("scale", torch.tensor(about.scale), persistent=False)
        circuit = circuit_of(options.simulator, qubits, options.layers)
        width = max(1, round((circuit.weights.numel() - qubits) / (2 * qubits + 1)))
        between = nn.Sequential(nn.Linear(qubits, width), nn.Tanh(), nn.Linear(width, qubits))
        self.quantum = _head(inputs, qubits, classes, circuit)
        self.classical = _head(inputs, qubits, classes, between)
        self.linear = nn.Linear(inputs, classes)

    @property
    def circuit(self) -> EntanglingCircuit:
        for module in self.quantum:
            if isinstance(module, EntanglingCircuit):
                return module
        raise LookupError("a quantum head without a circuit")

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.quantum((features.float() - self.mean) / self.scale)
        return logits

    def each(self, features: Tensor) -> dict[str, Tensor]:
        """The logits of every head, in the order of HEADS."""
        rows = (features.float() - self.mean) / self.scale
        return {name: getattr(self, name)(rows) for name in HEADS}


class ToAngles(nn.Module):
    """(pi / 2) tanh."""

    def forward(self, numbers: Tensor) -> Tensor:
        return (math.pi / 2) * numbers.tanh()


def _head(inputs: int, qubits: int, classes: int, between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, qubits), nn.BatchNorm1d(qubits), ToAngles(), between, nn.Linear(qubits, classes))


def model(options: Options, about: Facts) -> HeadsSideBySide:
    return HeadsSideBySide(options, about)


def loss(model: HeadsSideBySide, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Any]]:
    losses = {name: F.cross_entropy(logits, batch.label) for name, logits in model.each(batch.features).items()}
    # A sum: no weight is shared, so each head is stepped as if it were alone.
    return torch.stack(list(losses.values())).sum(), {f"loss_{name}": value.detach() for name, value in losses.items()}


def evaluate(model: HeadsSideBySide, batches: Batches) -> Iterator[Metric | Table]:
    *logits, labels = gather(batches, lambda batch: (*model.each(batch.features).values(), batch.label))
    yield from classification(logits[0], labels, batches.about.classes)
    table = []
    for name, scores in zip(HEADS, logits, strict=True):
        is_right = scores.argmax(axis=1) == labels
        if name != HEADS[0]:
            yield mean(f"accuracy_{name}", is_right)
        parameters = sum(weight.numel() for weight in getattr(model, name).parameters())
        table.append({"head": name, "parameters": parameters, "accuracy": float(is_right.mean())})
    yield Table("heads", table)
    yield Table("circuit", _circuit(model), is_followed=True)


def _circuit(model: HeadsSideBySide) -> dict[str, float]:
    """The angles that the circuit turns by, in radians, by their names."""
    weights = model.circuit.weights.detach().cpu()
    places = itertools.product(range(weights.shape[0]), range(weights.shape[1]), enumerate(("phi", "theta", "omega")))
    return {
        f"{angle} of qubit {qubit}, layer {layer}": float(weights[layer, qubit, place]) for layer, qubit, (place, angle) in places
    }


def predict(model: HeadsSideBySide, files: Sequence[Path], options: Options, about: Facts) -> Iterator[Mapping[str, Any]]:
    from headstart.features.encoders.runtime import open_encoder
    from headstart.features.encoders.spec import read_encoder
    from headstart.features.extraction.memory_budget import plan_batching
    from headstart.features.extraction.new_images import encode_new_images, find_new_images
    from headstart.features.images.watch import picture_seconds

    encoder = Path(about.workspace) / "features" / about.encoder
    images = find_new_images(files)

    def open_batching() -> Any:
        return plan_batching(open_encoder(encoder, "cpu", picture_seconds()), None, None, None, 0)[0]

    for encoded in encode_new_images(images, read_encoder(encoder), open_batching):
        if encoded.features is None:
            yield {"error": str(encoded.error)}
            continue
        said = model(torch.from_numpy(encoded.features)[None]).softmax(1)[0]
        yield {"probabilities": dict(zip(about.classes, said.tolist(), strict=True))}


def example(options: Options, about: Facts) -> tuple[Tensor]:
    return (torch.zeros(2, len(about.mean)),)
