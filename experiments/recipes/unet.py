"""Where text and pictures of a design are, in which colours and how prominent: a U-Net from pixels to structure.

headstart make examples/designs/designs.py --count 8000
headstart train unet --image-size 256 --amp bfloat16
headstart predict --run N poster.png

Four levels with skips. --fold 4 puts squares of 4 x 4 pixels into channels before the first level, which is what makes 256 x 256
affordable on a CPU. Ronneberger, Fischer & Brox, MICCAI 2015 (arXiv 1505.04597).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from headstart.experiments.designs.data_set import DesignOptions, find_designs, require_size
from headstart.experiments.designs.description import COLOURS
from headstart.experiments.designs.new_designs import read_designs, structure_words
from headstart.experiments.designs.unet_network import MASKS, UNET_LEVELS, FoldedStructure, UNet, structure_of
from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.sets import Splits
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, from_sums, ratio
from headstart.experiments.training.options import option
from headstart.features.accelerators import as_float64
from headstart.features.images.decode import ImageError
from headstart.pipeline.workspace import Workspace

_SHOWN = 12


@dataclass(frozen=True)
class Options(DesignOptions):
    image_size: int = 256
    fold: int = option(4, "edge of the squares of pixels that become channels first", at_least=1, at_most=8)
    width: int = option(16, "channels of the levels: 2, 4, 8 and 8 times as many", at_least=4, at_most=256)
    dice: float = option(
        2.0, "weight of the Dice loss of the masks; cross-entropy stands beside it, because Dice alone starts slowly", at_least=0
    )
    colour_weight: float = option(0.5, "of the cross-entropy of colours; that of the masks is 1", at_least=0)
    hierarchy_weight: float = option(1.0, "of the squared error of prominence", at_least=0)
    epochs: int = 3
    batch_size: int = 4
    learning_rate: float = 3e-3
    clip: float = 1.0


def data(options: Options, workspace: Workspace) -> Splits:
    require_size(options.image_size, options.fold * 2 ** (len(UNET_LEVELS) - 1))
    return find_designs(workspace, options.made).splits(options.image_size)


def model(options: Options, about: Facts) -> UNet:
    return UNet(options.fold, options.width, len(about.colours))


def loss(model: UNet, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Any]]:
    options: Options = step.options
    said, truth = model.folded(batch.image), _folded(batch.structure, model.fold)
    masks, colours = truth[:, :2].float(), truth[:, 2].permute(0, 2, 3, 1)
    parts = {
        "entropy": F.binary_cross_entropy_with_logits(said.masks, masks) * len(MASKS),
        "dice": _dice_loss(said.masks, masks),
        "colour": F.cross_entropy(said.colours.flatten(0, 3), colours.flatten().long()),
        "hierarchy": F.mse_loss(said.prominence.sigmoid(), truth[:, 3] / 255),
    }
    weights = {"entropy": 1.0, "dice": options.dice, "colour": options.colour_weight, "hierarchy": options.hierarchy_weight}
    total = torch.stack([weights[name] * value for name, value in parts.items()]).sum()
    return total, {f"loss_{name}": value.detach() for name, value in parts.items()}


def _folded(structure: Tensor, fold: int) -> Tensor:
    """(b, 4, s, s) as (b, 4, fold * fold, h, w)."""
    squares = F.pixel_unshuffle(structure, fold)
    return squares.view(len(squares), structure.shape[1], fold * fold, *squares.shape[2:])


def _dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - the Dice coefficient of each mask of each image, a mean over images, a sum over masks. Milletari et al., 3DV 2016."""
    said = logits.sigmoid()
    both, all_ = ((said * masks).flatten(2).sum(2), (said + masks).flatten(2).sum(2))
    # A square's worth of pixels is added: a mask without a pixel would else have a gradient of its own size.
    return (1 - (2 * both + 16) / (all_ + 16)).mean(0).sum()


def evaluate(model: UNet, batches: Batches) -> Iterator[Metric | Table]:
    """IoU of each mask over all pixels, part of the pixels whose colour is right, mean error of prominence: of all pixels, and of
    those that have any."""
    sums = np.concatenate([_sums(model.folded(batch.image), _folded(batch.structure, model.fold)) for batch in batches])
    yield from_sums("text_iou", sums[:, 0:2], ratio, judged_by=True)
    yield from_sums("image_iou", sums[:, 2:4], ratio)
    yield from_sums("colour_accuracy", sums[:, 4:6], ratio)
    yield from_sums("hierarchy_error", sums[:, 6:8], ratio, better="lower")
    yield from_sums("hierarchy_error_inside", sums[:, 8:10], ratio, better="lower")


def _sums(said: FoldedStructure, truth: Tensor) -> NDArray[np.float64]:
    """(b, 10): five times what is counted and what it is divided by."""
    masks, claimed = truth[:, :2] > 0, said.masks > 0
    right = said.colours.argmax(4) == truth[:, 2].permute(0, 2, 3, 1)
    error, inside = (said.prominence.sigmoid() - truth[:, 3] / 255).abs(), truth[:, 3] > 0
    both, either, everywhere = claimed & masks, claimed | masks, torch.ones_like(right)
    counted = [both[:, 0], either[:, 0], both[:, 1], either[:, 1], right, everywhere, error, everywhere, error * inside, inside]
    return torch.stack([as_float64(one).flatten(1).sum(1) for one in counted], 1).cpu().numpy()


def show(model: UNet, batches: Batches) -> Iterator[tuple[str, Any]]:
    """An even choice of the split: each image, what is true, what the network says, colours and prominence as it sees them."""
    chosen = batches.subset(_SHOWN)
    for batch in chosen:
        said = structure_of(model, batch.image)
        for place, number in enumerate(batch.number.tolist()):
            pixels = batch.image[place].permute(1, 2, 0).cpu().numpy()
            truth = batch.structure[place].cpu().numpy()
            masks = (said.masks[place] > 0).cpu().numpy()
            colours = np.array(list(COLOURS.values()), np.uint8)[said.colours[place].argmax(0).cpu().numpy()]
            grey = (255 * said.hierarchy[place]).round().to(torch.uint8).cpu().numpy()[..., None].repeat(3, -1)
            row = [pixels, overlay(pixels, truth[:2] > 0), overlay(pixels, masks), colours, grey]
            yield f"design_{number:06}", Image.fromarray(np.concatenate(row, 1))


def overlay(pixels: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Text in red, pictures in blue over the faded image. Args: masks: (2, h, w)."""
    faded = 0.45 * pixels + 0.2 * 255
    faded[..., 0] += 0.35 * 255 * masks[0]
    faded[..., 2] += 0.35 * 255 * masks[1]
    return faded.clip(0, 255).astype(np.uint8)


def predict(model: UNet, files: Sequence[Path], options: Options, about: Facts) -> Iterator[Mapping[str, Any]]:
    """Boxes of text and pictures in pixels of the file, (left, top, right, bottom), and the part of it that each colour has."""
    for design in read_designs(files, about.image_size):
        if isinstance(design, ImageError):
            yield {"error": str(design)}
            continue
        small, size = design
        said = structure_of(model, small)
        yield structure_words(said.masks[0] > 0, said.colours[0].argmax(0), size)


def example(options: Options, about: Facts) -> tuple[Tensor]:
    return (torch.zeros(2, 3, about.image_size, about.image_size),)
