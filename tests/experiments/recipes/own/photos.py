"""A small convolutional network on labelled images: what somebody writes who has copied `tiny` and needs more."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from headstart.experiments.training.data.images import find_labelled
from headstart.experiments.training.data.sets import Splits
from headstart.experiments.training.judging.metrics import classification, gather
from headstart.experiments.training.options import RecipeOptions, option


@dataclass(frozen=True)
class Options(RecipeOptions):
    data: str | None = option(None, "a data set of the workspace, or a folder of images")
    edge: int = option(12, "pixels of an edge", at_least=4)
    width: int = option(4, "channels of the network", at_least=1)
    epochs: int = 3
    batch_size: int = 12
    learning_rate: float = 1e-2
    threads: int = 1


def pixels(image, edge):
    values = np.asarray(image.convert("RGB").resize((edge, edge)), np.float32) / 255
    return torch.from_numpy(values).permute(2, 0, 1)


def data(options, workspace):
    found = find_labelled(workspace, options.data, options.seed)
    rows = {name: found.items(name, lambda image: pixels(image, options.edge), "1") for name in ("train", "val", "test")}
    return Splits(**rows, about={"classes": list(found.classes)}, settled={"data": found.name})


def model(options, about):
    layers = nn.Conv2d(3, options.width, 3), nn.ReLU(), nn.Dropout(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(options.width, len(about.classes)))


def loss(model, batch, step):
    return F.cross_entropy(model(batch.image), batch.label)


def evaluate(model, batches):
    logits, labels = gather(batches, lambda batch: (model(batch.image), batch.label))
    yield from classification(logits, labels, batches.about.classes)


def predict(model, files, options, about):
    for file in files:
        said = model(pixels(Image.open(file), options.edge)[None]).softmax(1)[0]
        yield {"probabilities": dict(zip(about.classes, said.tolist(), strict=True))}


def example(options, about):
    return (torch.zeros(2, 3, options.edge, options.edge),)
