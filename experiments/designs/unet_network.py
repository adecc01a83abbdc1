"""The network that sees the structure of designs: four levels with skips, of which the first reads squares of pixels.

Ronneberger, Fischer & Brox, MICCAI 2015 (arXiv 1505.04597).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ChannelNorm, ConvBlock, as_input

UNET_LEVELS = (2, 4, 8, 8)  # channels of each, in widths
MASKS = ("text", "image")


@dataclass(frozen=True)
class Structure:
    """What the network says, (b, ..., s, s): logits of the masks (2) and of the colours (k), and prominence."""

    masks: Tensor
    colours: Tensor
    hierarchy: Tensor


class UNet(nn.Module):
    """(b, 3, s, s) from -1 to 1 to (b, 2 + k + 1, s, s), where s is a multiple of eight folds."""

    def __init__(self, fold: int, width: int, outputs: int) -> None:
        super().__init__()
        channels = [width * level for level in UNET_LEVELS]
        self.fold = fold
        self.stem = nn.Conv2d(3 * fold * fold, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            [ConvBlock(before, after) for before, after in zip(channels[:1] + channels, channels, strict=False)]
        )
        self.up = nn.ModuleList(
            [ConvBlock(below + beside, beside) for below, beside in zip(channels[:0:-1], channels[-2::-1], strict=True)]
        )
        self.norm = ChannelNorm(channels[0])
        self.last = nn.Conv2d(channels[0], outputs * fold * fold, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.stem(F.pixel_unshuffle(image, self.fold))
        beside = []
        for level, block in enumerate(self.down):
            maps = block(F.avg_pool2d(maps, 2) if level else maps)
            beside.append(maps)
        beside.pop()
        for block in self.up:
            maps = block(torch.cat([F.interpolate(maps, scale_factor=2.0, mode="nearest"), beside.pop()], 1))
        return F.pixel_shuffle(self.last(F.silu(self.norm(maps))), self.fold)


def structure_of(network: nn.Module, image: Tensor) -> Structure:
    """What the network sees. Args: image: (b, 3, s, s) uint8."""
    said = network(as_input(image)).float()
    return Structure(said[:, : len(MASKS)], said[:, len(MASKS) : -1], said[:, -1].sigmoid())
