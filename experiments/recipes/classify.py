"""A timm model end to end on labelled images.

headstart train classify photos/ --encoder resnet10t --image-size 64 --epochs 5
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from PIL.Image import Image as PillowImage
from timm.data.mixup import Mixup
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.images import find_labelled, names_of
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.data.sets import DataSet, Rows, Splits
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, classification, gather
from headstart.experiments.training.options import RecipeOptions, option
from headstart.features.extraction.new_images import read_named_file
from headstart.features.images.decode import ImageError, open_rgb
from headstart.features.images.watch import read_within
from headstart.features.networks.architectures import classifier_names, require_known
from headstart.features.networks.weights import resolve_weights
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace


@dataclass(frozen=True)
class Options(RecipeOptions):
    data: str | None = option(None, "a data set of the workspace, or a folder, table or HDF5 file")
    encoder: str = option("resnet18", "timm's name of the model")
    weights: Path | None = option(None, "file of weights to start from; none: drawn, or --pretrained")
    pretrained: bool = option(False, "start from timm's weights")
    image_size: int = option(64, "pixels of an edge", at_least=8)
    crop: float = option(0.35, "smallest part of an image that a crop keeps; 1: no crop", at_least=0.01, at_most=1)
    flip: float = option(0.5, "part of the images that are mirrored", at_least=0, at_most=1)
    auto_augment: str = option("", "timm's recipe of augmentation, such as rand-m9-mstd0.5")
    erase: float = option(0.0, "part of the images of which a piece is erased", at_least=0, at_most=1)
    drop: float = option(0.0, "part of the features that is dropped", at_least=0, below=1)
    label_smoothing: float = option(0.0, "of the targets", at_least=0, below=1)
    mixup: float = option(0.0, "mix images: alpha of the mixing factor", at_least=0)
    cutmix: float = option(0.0, "paste a piece of another image: alpha of its size", at_least=0)
    class_weights: str = option("none", "of the loss", choices=("none", "balanced"))
    batch_size: int = 64
    weight_decay: float = 0.05


def data(options: Options, workspace: Workspace) -> Splits:
    require_known(options.encoder)
    found = find_labelled(workspace, options.data, options.seed)
    config = timm.get_pretrained_cfg(options.encoder, allow_unregistered=True)
    mean, std = (tuple(getattr(config, name, None) or usual) for name, usual in (("mean", (0.5,) * 3), ("std", (0.5,) * 3)))
    scaling = {"image_size": options.image_size, "mean": mean, "std": std}
    train = create_transform(
        options.image_size,
        is_training=True,
        scale=(options.crop, 1.0),
        hflip=options.flip,
        color_jitter=None,  # type: ignore[arg-type]
        auto_augment=options.auto_augment or None,
        re_prob=options.erase,
        mean=mean,
        std=std,
        no_aug=options.crop == 1 and not options.flip and not options.auto_augment,
    )
    said = f"{options.crop} {options.flip} {options.auto_augment} {options.erase} {sorted(scaling.items())}"
    rows: DataSet = found.items("train", train, f"train {said}")
    if options.mixup or options.cutmix:
        rows = Mixed(rows, options, len(found.classes))
    judged = [found.items(split, _judging(scaling), f"judged {said}") for split in ("val", "test")]
    about = {
        "classes": names_of(found.classes),
        **{key: list(value) if isinstance(value, tuple) else value for key, value in scaling.items()},
    }
    if options.class_weights == "balanced":
        about["class_weights"] = found.class_weights()
    return Splits(rows, judged[0], judged[1] if len(judged[1]) else None, about, settled={"data": found.name})


def _judging(scaling: Mapping[str, Any]) -> Any:
    return create_transform(scaling["image_size"], mean=tuple(scaling["mean"]), std=tuple(scaling["std"]), crop_pct=1.0)


class Mixed:
    """A data set whose batches are mixed by timm's Mixup; `target` (rows, classes) takes the place of labels."""

    def __init__(self, rows: DataSet, options: Options, classes: int) -> None:
        self._rows, self._options, self._classes = rows, options, classes

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def digest(self) -> str:
        return self._rows.digest  # what is mixed how is said by the options

    def batch(self, rows: Rows, key: Key | None) -> Batch:
        batch = self._rows.batch(rows, key)
        if key is None or len(batch) < 2:
            return batch
        even = batch[: len(batch) - len(batch) % 2]  # timm mixes pairs
        mixup = Mixup(  # type: ignore[no-untyped-call]
            self._options.mixup, self._options.cutmix, label_smoothing=self._options.label_smoothing, num_classes=self._classes
        )
        with key.of("mixup", *(int(row) for row in rows[:2])).seeding():
            image, target = mixup(even.image, even.label)
        return Batch({"image": image, "label": even.label, "target": target}, broken=batch.broken)


def model(options: Options, about: Facts) -> nn.Module:
    network: nn.Module = timm.create_model(options.encoder, num_classes=len(about.classes), drop_rate=options.drop)
    return network


def start(model: nn.Module, options: Options, about: Facts, workspace: Workspace) -> None:
    if options.weights is None and not options.pretrained:
        return
    weights = resolve_weights(options.encoder, {}, "hub" if options.weights is None else str(options.weights))
    result = model.load_state_dict(dict(weights.tensors), strict=False)
    wrong = [*result.unexpected_keys, *(set(result.missing_keys) - classifier_names(options.encoder, {}))]
    wrong = [name for name in wrong if not name.endswith("num_batches_tracked")]
    if wrong:
        raise HeadstartError(
            f"--weights: {options.encoder} has no tensor {wrong[0]}, or it is missing. Give weights of that model"
        )


def loss(model: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Any]]:
    logits = model(batch.image)
    options: Options = step.options
    weight = torch.tensor(step.about["class_weights"], device=logits.device) if "class_weights" in step.about else None
    if "target" in batch.columns:
        value = F.cross_entropy(logits, batch.target, weight)
    else:
        value = F.cross_entropy(logits, batch.label, weight, label_smoothing=options.label_smoothing)
    return value, {"accuracy": (logits.argmax(1) == batch.label).float().mean()}


def evaluate(model: nn.Module, batches: Batches) -> Iterator[Metric | Table]:
    logits, labels = gather(batches, lambda batch: (model(batch.image), batch.label))
    yield from classification(logits, labels, batches.about.classes)


def _opened(file: Path) -> PillowImage:
    return read_within(lambda: open_rgb(read_named_file(file)))


def predict(model: nn.Module, files: Sequence[Path], options: Options, about: Facts) -> Iterator[Mapping[str, Any]]:
    transform = _judging(about)
    for file in files:
        try:
            image = transform(_opened(file))
        except ImageError as error:
            yield {"error": str(error)}
            continue
        said = model(image[None]).float().softmax(1)[0]
        yield {"probabilities": dict(zip(about.classes, said.tolist(), strict=True))}


def example(options: Options, about: Facts) -> tuple[Tensor]:
    return (torch.zeros(2, 3, about.image_size, about.image_size),)
