"""The last blocks of an encoder, trained on from its best head: better than any head on the same features.

headstart train finetune --blocks 2

Everything before these blocks keeps every bit. By default it is computed once, as jobs, and training runs from what it gives
("the cut"): a step takes a fraction of the time, and a mirrored copy of each image stands in for augmentation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from headstart.experiments.heads.trained_head import TrainedHead, read_head
from headstart.experiments.runs.catalog import choose_run
from headstart.experiments.runs.experiment_data import ExperimentData, experiment_data
from headstart.experiments.runs.head_experiment import HeadExperiment, head_path, read_head_experiment
from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.images import names_of
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.data.sets import DataSet, Items, Rows, Splits
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, classification, gather
from headstart.experiments.training.optimizer import Group, layer_decay, make_optimizer
from headstart.experiments.training.options import RecipeOptions, option
from headstart.experiments.training.plan import Way, timed
from headstart.experiments.training.step_memory import step_memory
from headstart.features.accelerators import device_kind
from headstart.features.devices import cores
from headstart.features.encoders.saved import read_weights
from headstart.features.encoders.spec import EncoderSpec, read_encoder
from headstart.features.extraction.new_images import read_named_file
from headstart.features.images.decode import ImageError, decode
from headstart.features.images.reader import open_reader
from headstart.features.images.transform import Transform, parse_transform
from headstart.features.images.watch import read_within
from headstart.features.manifest.reading import open_manifest
from headstart.features.networks.architectures import build, load
from headstart.features.networks.stages import run_chain, split_names
from headstart.features.store.activations import Activations, ActivationSpec, works_for
from headstart.pipeline.enqueue import Work
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.memory import current_rss_bytes
from headstart.pipeline.workspace import Workspace

_TRIED = 8  # images, for the plan


@dataclass(frozen=True)
class Options(RecipeOptions):
    head: str = option("best", "the head to start from: a run's number, or the best")
    blocks: int = option(2, "of the encoder, the last ones, that are trained", at_least=1)
    way: str = option("cut", "from images, or from what the encoder makes of them before these blocks", choices=("cut", "images"))
    copies: int = option(2, "2: each image and its mirror image", at_least=1, at_most=2)
    decay: float = option(0.7, "a block learns so many times as fast as the one after it", at_least=0.01, at_most=1)
    softening: float = option(
        8.0,
        "what the head's logits are divided by when training begins: one that is sure of every row teaches nothing",
        at_least=1,
    )
    label_smoothing: float = option(0.1, "of the targets", at_least=0, below=1)
    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 1e-3
    judge_start: bool = True


@dataclass(frozen=True)
class Base:
    """What fine-tuning starts from: a trained head, the rows it learnt from, and its encoder."""

    workspace: Workspace
    experiment: HeadExperiment
    name: str

    @cached_property
    def head(self) -> TrainedHead:
        head = read_head(head_path(self.experiment, self.name))
        if head.task != "classification" or self.experiment.auxiliary:
            raise HeadstartError(
                f"{self.experiment.folder.name} is not of classes on features alone. Name a head that is: --head N"
            )
        return head

    @cached_property
    def rows(self) -> ExperimentData:
        return experiment_data(self.workspace, self.experiment)

    @cached_property
    def encoder(self) -> EncoderSpec:
        return read_encoder(self.experiment.encoder)

    def cut(self, options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
        spec = self.encoder
        return split_names(build(spec.model, spec.model_args), options.blocks, spec.transform.image_size)

    def activations(self, options: Options) -> ActivationSpec:
        encoder = self.workspace.relative(self.experiment.encoder)
        return ActivationSpec(encoder, self.encoder.fingerprint, options.blocks, self.cut(options)[0], options.copies)

    def positions(self) -> Mapping[str, Rows]:
        return {"train": self.rows.data.train, "val": self.rows.data.val, "test": self.rows.test}


def base(options: Options, workspace: Workspace) -> Base:
    folder, is_settled, name = options.head.partition("/")
    if is_settled:
        return Base(workspace, read_head_experiment(workspace, workspace.experiments / folder), name)
    chosen = choose_run(workspace, options.head)
    return Base(workspace, chosen.experiment, chosen.run.head)


def needs(options: Options, workspace: Workspace) -> list[Work]:
    start_from = base(options, workspace)
    if options.way == "images":
        return []
    return works_for(workspace, start_from.activations(options), start_from.rows.features.rows.datasets)


def data(options: Options, workspace: Workspace) -> Splits:
    found = base(options, workspace)
    splits: dict[str, DataSet]
    facts = about_of(found, options)
    if options.way == "cut":
        stored = Activations(workspace, found.activations(options))
        splits = {name: FromCut(found, stored, places, options.copies) for name, places in found.positions().items()}
    else:
        splits = {name: from_images(found, places) for name, places in found.positions().items()}
    settled = {"head": f"{found.experiment.folder.name}/{found.name}"}
    return Splits(
        splits["train"], splits["val"], splits["test"] if len(splits["test"]) else None, facts, found.rows.notes, settled
    )


def about_of(found: Base, options: Options) -> dict[str, Any]:
    """What the model must know of head and encoder."""
    head, spec = found.head, found.encoder
    front, back = found.cut(options)
    return {
        "classes": names_of(head.names),
        "model": spec.model,
        "model_args": dict(spec.model_args),
        "fingerprint": spec.fingerprint,
        "transform": spec.transform.facts(),
        "front": list(front),
        "back": list(back),
        "layers": [list(weight.shape) for weight, _ in head.layers],
        "activation": head.config.activation,
        "head": head.digest,
    }


def plan(options: Options, workspace: Workspace) -> list[Way]:
    """Both ways, tried on a few training images on the CPU with all of torch's threads."""
    found = base(options, workspace)
    network = model(options, Facts(about_of(found, options))).train()
    optimizer = make_optimizer(network, groups(network, options), options)
    places = found.positions()
    images = from_images(found, places["train"])
    few = np.arange(min(_TRIED, len(images)))
    read_s, batch = timed(lambda: images.batch(few, Key((options.seed,))))
    front_s, maps = timed(lambda: network.before_cut(batch.image))
    back_s, _ = timed(lambda: F.cross_entropy(network.from_cut(maps), batch.label).backward())  # type: ignore[no-untyped-call]
    read, front, back = (seconds / len(batch) for seconds in (read_s, front_s, back_s))

    def loss_of(way: str, rows: int) -> Tensor:
        logits = network.from_cut(maps[:rows]) if way == "cut" else network(batch.image[:rows])
        return F.cross_entropy(logits, batch.label[:rows])

    def way(name: str, row: float, judged: float, before: float, disk: int) -> Way:
        memory = step_memory(network, optimizer, lambda rows: loss_of(name, rows), len(batch)).of(options.batch_size)
        size = options.batch_size * options.accumulation
        epoch = -(-len(images) // size)
        steps = min(options.epochs * epoch, options.max_steps or options.epochs * epoch)
        judging = -(-steps // epoch) * len(places["val"]) + len(places["test"])
        seconds = steps * size * row + judging * judged
        chosen = options.way == name
        return Way(name, chosen, steps, memory + current_rss_bytes(), size * row, before, seconds, disk)

    count = sum(map(len, places.values()))
    stored = Activations(workspace, found.activations(options))
    cached = found.rows.features.rows
    missing = sum(
        not stored.has(cached.datasets[cached.dataset[place]], int(cached.index[place]))
        for part in places.values()
        for place in part
    )

    # Where a second core is free, rows are read while the step before computes. Judging is a third of a step: no backward pass.
    def together(one: float, other: float) -> float:
        return max(one, other) if cores() > 1 else one + other

    return [
        way(
            "cut", back, back / 3, missing * together(read, options.copies * front), 2 * count * options.copies * maps[0].numel()
        ),
        way("images", together(read, front + back), together(read, front + back / 3), 0.0, 0),
    ]


@dataclass(frozen=True)
class FromCut:
    """Rows as activations; in training one of an image's copies, drawn by its key."""

    base: Base
    stored: Activations
    places: Rows
    copies: int
    is_ready: bool = field(default=True, init=False)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def digest(self) -> str:
        return rows_digest(self.base, self.places, f"cut {self.copies}")

    def batch(self, rows: Rows, key: Key | None) -> Batch:
        cached, codes = self.base.rows.features.rows, self.base.rows.data.targets.codes
        maps, labels, broken = [], [], {}
        for row in rows.tolist():
            place = int(self.places[row])
            where = cached.datasets[cached.dataset[place]], int(cached.index[place])
            if not self.stored.has(*where):
                broken[row] = "there are no activations of it; run headstart work, or see headstart status --failed"
                continue
            maps.append(self.stored.take(*where, 0 if key is None else key.of(row).number % self.copies))
            labels.append(int(codes[place]))
        if not maps:
            return Batch({}, broken=broken)
        return Batch({"activations": torch.from_numpy(np.stack(maps)), "label": torch.tensor(labels)}, broken=broken)


def from_images(found: Base, places: Rows) -> DataSet:
    """Rows as images that are decoded as for the features, half of them mirrored in training."""
    cached, codes = found.rows.features.rows, found.rows.data.targets.codes
    manifests = [open_manifest(found.workspace.root / name) for name in cached.datasets]
    columns = [manifest.read_all() for manifest in manifests]
    readers = [open_reader(manifest.dataset, found.encoder.transform) for manifest in manifests]

    def make(number: int, key: Key | None) -> Mapping[str, Any]:
        place = int(places[number])
        which = int(cached.dataset[place])
        pixels = readers[which](columns[which].row(int(cached.index[place])))
        is_mirrored = key is not None and key.number % 2 == 1
        return {"image": np.ascontiguousarray(pixels[:, ::-1] if is_mirrored else pixels), "label": codes[place]}

    return Items(len(places), make, rows_digest(found, places, "images"))


def rows_digest(found: Base, places: Rows, says: str) -> str:
    facts = f"{found.experiment.data} {found.encoder.fingerprint} {says}"
    return hashlib.sha256(facts.encode() + places.tobytes()).hexdigest()


class Tuned(nn.Module):
    """Encoder and head as one: (n, h, w, 3) uint8 images to (n, classes) logits; `front` is what is frozen."""

    mean: Tensor
    std: Tensor
    sharpness: Tensor  # what logits are multiplied by
    network: Any  # timm's networks have methods that torch's do not

    def __init__(self, network: nn.Module, head: nn.Sequential, about: Facts) -> None:
        super().__init__()
        self.network, self.head = network, head
        self.front, self.back = tuple(about.front), tuple(about.back)
        transform = parse_transform(about.transform)
        for name, values in (("mean", transform.mean), ("std", transform.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("sharpness", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.from_cut(self.before_cut(images))

    @torch.no_grad()
    def before_cut(self, images: Tensor) -> Tensor:
        colours = images.permute(0, 3, 1, 2).float().contiguous(memory_format=device_kind(images.device.type).layout())
        inputs = colours.div(255).sub(self.mean).div(self.std)
        return run_chain(self.network, self.front, inputs)

    def from_cut(self, maps: Tensor) -> Tensor:
        pooled = self.network.forward_head(run_chain(self.network, self.back, maps))
        logits: Tensor = self.head(pooled)
        return logits * self.sharpness

    def of(self, batch: Batch) -> Tensor:
        if "activations" in batch.columns:
            # Laid out as maps from images are; otherwise four blocks of convolutions take half as long again on a CPU.
            maps = batch.activations
            return self.from_cut(maps.to(torch.float32, memory_format=device_kind(maps.device.type).layout()))
        return self.forward(batch.image)


def model(options: Options, about: Facts) -> Tuned:
    modules: list[nn.Module] = []
    for outputs, inputs in about.layers:
        modules += [nn.Linear(inputs, outputs), nn.ReLU() if about.activation == "relu" else nn.GELU()]
    return Tuned(build(about.model, about.model_args), nn.Sequential(*modules[:-1]), about)


def start(model: Tuned, options: Options, about: Facts, workspace: Workspace) -> None:
    found = base(options, workspace)
    load(model.network, read_weights(found.experiment.encoder, found.encoder))
    model.head.load_state_dict(found.head.module().state_dict())
    # Before the first step it says what the head says: a division by a power of two loses no bit.
    with torch.no_grad():
        for parameter in model.head[-1].parameters():
            parameter.div_(options.softening)
    model.sharpness.fill_(options.softening)


def groups(model: Tuned, options: Options) -> Sequence[Group]:
    """The blocks, the last one with what follows it, such as a closing convolution; then the head, which learns as fast."""
    modules = [model.network.get_submodule(name) for name in model.back]
    blocks = [*modules[: options.blocks - 1], nn.ModuleList(modules[options.blocks - 1 :])]
    return [*layer_decay(blocks, options.decay), Group(model.head)]


def loss(model: Tuned, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Any]]:
    # A head that is sure of every row that it learnt from has a loss of 0, and blocks before it would get no gradient.
    model.sharpness.fill_(1.0)
    logits = model.of(batch)
    value = F.cross_entropy(logits, batch.label, label_smoothing=step.options.label_smoothing)
    return value, {"accuracy": (logits.argmax(1) == batch.label).float().mean()}


def evaluate(model: Tuned, batches: Batches) -> Iterator[Metric | Table]:
    logits, labels = gather(batches, lambda batch: (model.of(batch), batch.label))
    yield from classification(logits, labels, batches.about.classes)


def _decoded(file: Path, transform: Transform) -> NDArray[np.uint8]:
    return read_within(lambda: decode(read_named_file(file), transform))


def predict(model: Tuned, files: Sequence[Path], options: Options, about: Facts) -> Iterator[Mapping[str, Any]]:
    transform = parse_transform(about.transform)
    for file in files:
        try:
            pixels = _decoded(file, transform)
        except ImageError as error:
            yield {"error": str(error)}
            continue
        said = model(torch.from_numpy(pixels.copy())[None]).softmax(1)[0]
        yield {"probabilities": dict(zip(about.classes, said.tolist(), strict=True))}


def example(options: Options, about: Facts) -> tuple[Tensor]:
    height, width = parse_transform(about.transform).image_size
    return (torch.zeros(2, height, width, 3, dtype=torch.uint8),)
