"""CIFAR-10's JPEG files as tensors, and what the training of the embedded encoder does to them."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

# 32x32 images are doubled, so that the /4 stem hands 16x16 to the first stage; mean and std are those of the training part.
TRANSFORM: dict[str, Any] = {
    "image_size": [64, 64],
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "crop_mode": "center",
    "mean": [0.4914, 0.4822, 0.4465],
    "std": [0.247, 0.2435, 0.2616],
}
HELD_OUT = 1000  # images of the training part that only tell how training goes


def read_part(archive: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Decodes `part/<class>/*.jpg` of the zip. Returns images (n, 3, 32, 32) uint8, labels (n,) int64 (classes sorted)."""
    with zipfile.ZipFile(archive) as source:
        names = sorted(name for name in source.namelist() if name.startswith(f"{part}/") and name.endswith(".jpg"))
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(source.read(name))).convert("RGB")) for name in names])
    folders = [name.split("/")[1] for name in names]
    classes = {folder: label for label, folder in enumerate(sorted(set(folders)))}
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor([classes[folder] for folder in folders])


def split_held_out(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Row numbers of the images that training never sees, and of all others; the same for the same seed."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[:HELD_OUT], order[HELD_OUT:]


def normalize(images: torch.Tensor) -> torch.Tensor:
    """(n, 3, h, w) uint8 to float32 with the encoder's mean and standard deviation."""
    mean, std = (torch.tensor(TRANSFORM[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (images.float() / 255 - mean) / std


def resize(images: torch.Tensor) -> torch.Tensor:
    """What the evaluation transform does to a 32x32 image: bilinear, no crop. Returns (n, 3, 64, 64) float32."""
    return F.interpolate(normalize(images), size=TRANSFORM["image_size"], mode="bilinear", align_corners=False)


def augment(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Zoom, shift, rotation, flip, colour, blur and cutout, all mild and each image its own; (n, 3, 64, 64) float32, normalized.

    Grey and blurred images are there because the encoder also meets others than CIFAR's: digits of 8x8 pixels, for one.
    """
    n, (height, width) = len(images), TRANSFORM["image_size"]

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=random)

    x = normalize(images)
    blurred = uniform(0, 1) < 0.1
    x[blurred] = F.interpolate(F.avg_pool2d(x[blurred], 2), scale_factor=2, mode="bilinear", align_corners=False)
    luma = x.mean(1, keepdim=True)
    saturation = uniform(0.6, 1.4, 1, 1, 1) * (uniform(0, 1, 1, 1, 1) > 0.1)
    x = (luma + (x - luma) * saturation) * uniform(0.8, 1.2, 1, 1, 1) + uniform(-0.2, 0.2, 1, 1, 1)
    zoom, angle, flip = uniform(0.7, 1.1), uniform(-0.15, 0.15), torch.sign(uniform(-1, 1))
    cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
    rows = torch.stack([cos * flip, -sin, uniform(-0.2, 0.2), sin * flip, cos, uniform(-0.2, 0.2)], 1)
    grid = F.affine_grid(rows.view(n, 2, 3), [n, 3, height, width], align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    side, top, left = height // 4, uniform(0, height * 0.75, 1), uniform(0, width * 0.75, 1)
    down, across = torch.arange(height), torch.arange(width)
    hole = ((down >= top) & (down < top + side))[:, None, :, None] & ((across >= left) & (across < left + side))[:, None, None, :]
    return x.masked_fill(hole, 0.0).contiguous(memory_format=torch.channels_last)
