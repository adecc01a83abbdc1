"""A network that judges a design by its pixels alone: what it is for, and how well it is laid out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvBlock

_EDGE = 16  # of the maps that pixels are folded into


class CriticNetwork(nn.Module):
    """(b, 3, s, s) from -1 to 1, to (b, goals + formats + 1 + scores). Where things stand counts, so no map is averaged."""

    def __init__(self, image_size: int, width: int, features: int, outputs: tuple[int, int]) -> None:
        super().__init__()
        self.fold = max(1, image_size // _EDGE)
        self.stem = nn.Conv2d(3 * self.fold**2, width, 3, padding=1)
        self.blocks = nn.ModuleList([ConvBlock(width, width), ConvBlock(width, 2 * width)])
        self.squeeze = nn.Conv2d(2 * width, width // 2, 1)
        self.pooled = nn.Linear(width // 2 * (image_size // self.fold // 2) ** 2, features)
        self.heads = nn.ModuleList([nn.Linear(features, n) for n in outputs])

    def features(self, image: Tensor) -> Tensor:
        """(b, features), what the answers are read from."""
        maps = self.blocks[0](self.stem(F.pixel_unshuffle(image, self.fold)))
        maps = self.squeeze(F.silu(self.blocks[1](F.avg_pool2d(maps, 2))))
        return F.gelu(self.pooled(maps.flatten(1)))

    def answers(self, features: Tensor) -> Tensor:
        """What is read from features."""
        return torch.cat([head(features) for head in self.heads], 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.answers(self.features(image))
