"""A small head on cached feature maps: a class for each pixel.

headstart enqueue street.csv --encoder mobilenetv2_100 --image-size 360x480 --maps 8,16,32
headstart work
headstart train segment --masks mask --void 11 --head conv

With `--patches 256 --overlap 64` instead of `--image-size` it learns on patches at the images' own resolution. A
linear head, or 1x1, 3x3 and 1x1 convolutions. The loss is taken on a grid finer than the maps; masks are judged pixel by pixel.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.masked_maps import VOID, MaskedMaps, MaskOptions, Whole, find_masked
from headstart.experiments.training.data.sets import Splits, Subset
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.mask_metrics import boundary_f1, class_colours, confusion, segmentation
from headstart.experiments.training.judging.metrics import Metric, Table
from headstart.experiments.training.options import RecipeOptions, option
from headstart.features.images.decode import ImageError
from headstart.features.images.masks import read_palette
from headstart.features.images.stitching import stitch
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

_SHOWN = 24


@dataclass(frozen=True)
class Options(RecipeOptions):
    data: str | None = option(None, "a data set of the workspace whose maps are there")
    encoder: str | None = option(None, "whose maps; none: the only encoder that keeps some")
    patches: str = option("", "a version of them, such as v001; none: whole images, or patches where there is nothing else")
    masks: str = option("", "folder of masks with the stems of the images, or the column of the table with their paths")
    void: int = option(255, "value of pixels that count nowhere", at_least=0, at_most=65535)
    classes: tuple[str, ...] = option((), "names of the values 0, 1, ...; none: the values of the training masks")
    palette: Path | None = option(None, "for masks in colours: a file with a line a class, 'R G B name'")
    head: str = option("linear", "what is trained", choices=("linear", "conv"))
    hidden: int = option(128, "channels of a conv head", at_least=1)
    dropout: float = option(0.1, "part of the channels that a conv head drops", at_least=0, below=1)
    fineness: int = option(2, "of the grid that the loss is taken on, relative to the maps", at_least=1, at_most=32)
    flip: float = option(0.5, "part of the maps that are mirrored", at_least=0, at_most=1)
    crop: float = option(
        1.0, "edge of the part of the maps that is learned on, another one in each epoch; 1: all", at_least=0.05, at_most=1
    )
    class_weights: str = option("none", "of the loss", choices=("none", "balanced"))
    dice: float = option(1.0, "weight of the Dice loss besides cross-entropy: rare classes count as much in it", at_least=0)
    focal: float = option(0.0, "exponent of the focal loss; 0: cross-entropy", at_least=0)
    epochs: int = 10
    batch_size: int = 8
    learning_rate: float = 3e-3


def data(options: Options, workspace: Workspace) -> Splits:
    if options.palette is not None and options.classes:
        raise HeadstartError("--palette names the classes, and so does --classes. Leave one of them out")
    palette = None if options.palette is None else read_palette(options.palette)
    how = MaskOptions(options.masks, options.void, options.classes, palette)
    masked = find_masked(workspace, options.data, options.encoder, how, options.patches)
    about: dict[str, Any] = {"classes": list(masked.classes), "pixel_values": list(masked.values)}
    about |= {"channels": masked.maps.shape[0], "encoder": masked.encoder}
    if options.class_weights == "balanced":
        about["class_weights"] = masked.class_weights()
    train = masked.split("train", options.fineness, options.flip, options.crop)
    val, test = (masked.split(name, options.fineness) for name in ("val", "test"))
    settled = {"data": masked.name, "encoder": masked.encoder}
    if masked.maps.cut is not None:
        about["window"] = [masked.maps.cut.size, masked.maps.cut.overlap]
        settled["patches"] = masked.maps.cut.version
    return Splits(train, val, test if len(test) else None, about, masked.notes, settled)


def model(options: Options, about: Facts) -> nn.Module:
    # Channels of different stages differ by orders of magnitude; their statistics are the head's, not the encoder's.
    layers: list[nn.Module] = [nn.BatchNorm2d(about.channels)]
    width = about.channels
    if options.head == "conv":
        width = options.hidden
        layers += [nn.Conv2d(about.channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Dropout2d(options.dropout)]
    return _Head(*layers, nn.Conv2d(width, len(about.classes), 1))


class _Head(nn.Sequential):
    """Its first two layers, a normalization and a 1x1 convolution, are one product: maps are large, weights are small.

    Maps are given and need no gradient, so neither they nor what is derived from them is written a second time.
    """

    def forward(self, maps: Tensor) -> Tensor:
        norm, first, *rest = self
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(first, nn.Conv2d)
        mean, variance = _statistics(norm, maps)
        scale = norm.weight / torch.sqrt(variance + norm.eps)
        weight = first.weight * scale[:, None, None]
        bias = first.weight[..., 0, 0] @ (norm.bias - mean * scale)
        values = F.conv2d(maps, weight, bias if first.bias is None else bias + first.bias)
        for layer in rest:
            values = layer(values)
        return values


def _statistics(norm: nn.BatchNorm2d, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (c,) that `norm` takes: in training those of `maps`, which its running ones then follow."""
    running_mean, running_var, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert running_mean is not None
    assert running_var is not None
    assert batches is not None
    assert norm.momentum is not None
    if not norm.training:
        return running_mean, running_var
    if maps[:, 0].numel() == 1:
        raise HeadstartError("a batch of one place has no variance. Give a larger --batch-size, or a larger --crop")
    batches.add_(1)
    with torch.no_grad():  # var_mean takes several times as long
        mean, variance = torch.batch_norm_update_stats(maps, running_mean, running_var, norm.momentum)
    return mean, variance


def loss(model: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Any]]:
    options: Options = step.options
    target = batch.target.long()
    logits = F.interpolate(model(batch.maps), size=target.shape[1:], mode="bilinear")
    known = target != VOID
    classes = target[known]
    # Once for all that follows: on the fine grid each pass over every class takes longer than the head itself.
    chances = logits.float().log_softmax(1)
    true = chances.gather(1, target.masked_fill(~known, 0)[:, None])[:, 0][known]
    points = -true
    if "class_weights" in step.about:
        points = points * torch.tensor(step.about["class_weights"], device=logits.device)[classes]
    if options.focal:
        # Lin et al., ICCV 2017: what is nearly right counts for less.
        points = points * (1 - torch.exp(true)) ** options.focal
    value = points.sum() / max(1, len(classes))
    if options.dice:
        value = value + options.dice * _dice_loss(chances, true, known, classes)
    with torch.no_grad():
        right = (chances.max(1).indices == target)[known].float()
    return value, {"pixel_accuracy": right.mean() if len(right) else 0.0}


def _dice_loss(chances: Tensor, true: Tensor, known: Tensor, classes: Tensor) -> Tensor:
    """1 - the Dice coefficient, a mean over the classes that are there. Milletari et al., 3DV 2016.

    Args:
        chances: (n, k, h, w), logarithms.
        known: (n, h, w) bool, which places count; `classes` (m,) and `true` (m,) have of each the class and its chance.
    """
    said = (chances.exp() * known[:, None]).sum((0, 2, 3))
    both = torch.zeros_like(said).index_add(0, classes, true.exp())
    counts = torch.bincount(classes, minlength=len(said))
    there = counts > 0
    return 1 - (2 * both / (said + counts).clamp(min=1e-6))[there].mean() if bool(there.any()) else said.sum() * 0


_Codes = np.ndarray[Any, np.dtype[np.uint8]]


def _masks(model: nn.Module, batches: Batches) -> Iterator[tuple[int, _Codes, _Codes]]:
    """Of each image a row, what the model says of each pixel, and its mask; images in patches are stitched."""
    is_all = not isinstance(batches.rows, Subset)
    rows = batches.rows.whole if isinstance(batches.rows, Subset) else batches.rows
    assert isinstance(rows, MaskedMaps)
    said = _logits(model, batches)
    for row, logits, mask in said:
        whole = rows.whole(row) if is_all else None
        if whole is None:
            true = rows.truth(row) if mask is None else mask
            # Not argmax, which takes several times as long over the first axis.
            yield row, _enlarged(logits, true.shape).max(0).indices.to(torch.uint8).cpu().numpy(), true
        else:
            yield row, _stitched(whole, itertools.chain([logits], (one for _, one, _ in said))), whole.truth


def _logits(model: nn.Module, batches: Batches) -> Iterator[tuple[int, Tensor, _Codes | None]]:
    """Of each row what the model says at the places of its map, and its mask where the batch has it."""
    for batch in batches:
        masks = batch.mask if "mask" in batch.columns else [None] * len(batch)
        yield from zip(batch.row, model(batch.maps).float(), masks, strict=True)


def _enlarged(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(logits[None], size=size, mode="bilinear")[0]


def _stitched(whole: Whole, patches: Iterator[Tensor]) -> _Codes:
    """Takes as many of `patches` as the image has, in the order in which windows come."""
    edges = whole.patch, whole.patch
    strips = stitch(whole.size, edges, whole.overlap, lambda top, left: _enlarged(next(patches), edges).cpu().numpy())
    return np.concatenate([strip.argmax(0).astype(np.uint8) for _, strip in strips])


def evaluate(model: nn.Module, batches: Batches) -> Iterator[Metric | Table]:
    names = batches.about.classes
    confusions, boundaries = [], []
    for _, said, true in _masks(model, batches):
        confusions.append(confusion(true, said, len(names)))
        boundaries.append(boundary_f1(true, said, len(names)))
    yield from segmentation(np.stack(confusions), boundaries, names)


def show(model: nn.Module, batches: Batches) -> Iterator[tuple[str, Any]]:
    """The worst third and an even choice of the others, each as image, truth, what the model says over the image, and errors."""
    names, rows = batches.about.classes, batches.rows
    assert isinstance(rows, MaskedMaps)
    judged: list[tuple[float, int, Any, Any]] = []
    for row, said, true in _masks(model, batches):
        [iou] = [
            one.value for one in segmentation(confusion(true, said, len(names))[None], [math.nan], names) if one.name == "miou"
        ]
        judged.append((float(iou), row, said, true))
    judged.sort(key=lambda one: one[:2])
    worst, others = judged[: _SHOWN // 3], judged[_SHOWN // 3 :]
    wanted = min(len(others), _SHOWN - len(worst))
    chosen = [*worst, *(others[len(others) * number // wanted] for number in range(wanted))]
    lines = []
    for number, (iou, row, said, true) in enumerate(chosen):
        name = f"{number:02d}{'_worst' if number < len(worst) else ''}"
        lines.append(f"{name}\t{iou:.4f}\t{rows.name(row)}")
        try:
            image = rows.image(row)
        except ImageError as error:
            lines[-1] += f"\tno picture: {error}"
            continue
        yield name, _panel(image, said, true)
    yield "masks", "picture\tmean IoU of the image\timage\n" + "\n".join(lines) + "\n"


def _panel(image: Image.Image, said: Any, true: Any) -> Image.Image:
    pixels = np.asarray(image.resize((true.shape[1], true.shape[0])))
    known = (true != VOID)[..., None]
    over = [(0.4 * pixels + 0.6 * class_colours(256)[mask]).astype(np.uint8) for mask in (true, said)]
    errors = np.where(((said != true)[..., None]) & known, np.array([220, 30, 30]), pixels // 3).astype(np.uint8)
    truth = np.where(known, over[0], 0).astype(np.uint8)
    return Image.fromarray(np.concatenate([np.concatenate([pixels, truth], 1), np.concatenate([over[1], errors], 1)]))
