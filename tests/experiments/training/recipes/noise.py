"""A small denoiser with everything that can go wrong in a resume: noise by key, dropout, batch statistics, a running mean,
augmentation that draws from torch's own generator, a step of several batches."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from headstart.experiments.training.data.sets import Items, Splits
from headstart.experiments.training.judging.metrics import gather, mean
from headstart.experiments.training.options import RecipeOptions, option


@dataclass(frozen=True)
class Options(RecipeOptions):
    levels: int = option(10, "of noise", at_least=1)
    dropout: float = option(0.2, "of the network", at_least=0, below=1)
    normed: bool = option(True, "with batch statistics")
    epochs: int = 4
    batch_size: int = 8
    accumulation: int = 2
    learning_rate: float = 5e-3
    ema: float = 0.8
    clip: float = 1.0
    schedule: str = "plateau"
    threads: int = 1


def item(row, key):
    image = torch.from_numpy(np.random.default_rng(row).normal(size=(1, 6, 6)).astype(np.float32))
    if key is not None:
        with key.seeding():
            image = image.flip(2) if torch.rand(()) < 0.5 else image
    return {"image": image}


def data(options, workspace) -> Splits:
    return Splits(Items(67, item, "noise 1"), Items(13, lambda row, key: item(row + 100, key), "noise val 1"))


def model(options, about):
    norm = nn.BatchNorm2d(4) if options.normed else nn.Identity()
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), norm, nn.ReLU(), nn.Dropout(options.dropout), nn.Conv2d(4, 1, 3, padding=1)
    )


def squared_errors(model, batch, step):
    level = step.integers("level", 1, step.options.levels + 1, len(batch)) / step.options.levels
    noise = step.normal("noise", batch.image.shape)
    level = level[:, None, None, None]
    noisy = batch.image * (1 - level) + noise * level
    return F.mse_loss(model(torch.cat([noisy, level.expand_as(noisy)], 1)), noise, reduction="none").mean((1, 2, 3))


def loss(model, batch, step):
    return squared_errors(model, batch, step).mean()


def evaluate(model, batches):
    found = np.concatenate([squared_errors(model, batch, step).cpu().numpy() for batch, step in batches.steps()])
    yield mean("error", found, better="lower")


def show(model, batches):
    from PIL import Image

    [images] = [gather(batches, lambda batch: batch.image)]
    yield "first", Image.fromarray(np.uint8(np.clip(images[0, 0] * 50 + 128, 0, 255)))
