"""The network that sees the structure of designs: four levels with skips, of which the first reads squares of pixels.

Ronneberger, Fischer & Brox, MICCAI 2015 (arXiv 1505.04597).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvBlock, ImageNorm, as_input

UNET_LEVELS = (2, 4, 8, 8)  # channels of each, in widths
MASKS = ("text", "image")


@dataclass(frozen=True)
class Structure:
    """What the network says, (b, ..., s, s): logits of the masks (2) and of the colours (k), and prominence."""

    masks: Tensor
    colours: Tensor
    hierarchy: Tensor


@dataclass(frozen=True)
class FoldedStructure:
    """The same before squares of f x f pixels are laid out: what a training compares, as laying out 19 channels takes its time.

    masks (b, 2, f * f, h, w) and prominence (b, f * f, h, w) as logits, colours (b, h, w, f * f, k).
    """

    masks: Tensor
    colours: Tensor
    prominence: Tensor


class UNet(nn.Module):
    """(b, 3, s, s) from -1 to 1 to (b, 2 + k + 1, s, s), where s is a multiple of eight folds."""

    def __init__(self, fold: int, width: int, colours: int) -> None:
        super().__init__()
        channels = [width * level for level in UNET_LEVELS]
        self.fold, self.colours = fold, colours
        self.stem = nn.Conv2d(3 * fold * fold, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            [ConvBlock(before, after) for before, after in zip(channels[:1] + channels, channels, strict=False)]
        )
        self.up = nn.ModuleList(
            [ConvBlock(below + beside, beside) for below, beside in zip(channels[:0:-1], channels[-2::-1], strict=True)]
        )
        self.norm = ImageNorm(channels[0])
        self.widened = nn.Conv2d(channels[0], 2 * channels[0], 3, padding=1)
        self.planes = nn.Conv2d(2 * channels[0], (len(MASKS) + 1) * fold * fold, 1)
        self.coloured = nn.Conv2d(2 * channels[0], colours * fold * fold, 1)

    def forward(self, image: Tensor) -> Tensor:
        planes, coloured = self._seen(image)
        planes = F.pixel_shuffle(planes, self.fold)
        b, _, h, w = coloured.shape
        squares = coloured.permute(0, 2, 3, 1).reshape(b, h, w, self.fold, self.fold, self.colours)
        colours = squares.permute(0, 5, 1, 3, 2, 4).reshape(b, self.colours, h * self.fold, w * self.fold)
        return torch.cat([planes[:, : len(MASKS)], colours, planes[:, len(MASKS) :]], 1)

    def _seen(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.stem(F.pixel_unshuffle(image, self.fold).to(memory_format=torch.channels_last))
        beside = []
        for level, block in enumerate(self.down):
            maps = block(F.avg_pool2d(maps, 2) if level else maps)
            beside.append(maps)
        beside.pop()
        for block in self.up:
            maps = block(torch.cat([F.interpolate(maps, scale_factor=2.0, mode="nearest"), beside.pop()], 1))
        maps = F.silu(self.widened(F.silu(self.norm(maps))))
        return self.planes(maps), self.coloured(maps)

    def folded(self, image: Tensor) -> FoldedStructure:
        """Args: image: (b, 3, s, s) uint8."""
        planes, coloured = self._seen(as_input(image))
        b, _, h, w = planes.shape
        planes = planes.float().reshape(b, len(MASKS) + 1, self.fold**2, h, w)
        # Of a pixel the colours lie side by side in memory: their softmax is several times as fast so.
        colours = coloured.permute(0, 2, 3, 1).reshape(b, h, w, self.fold**2, self.colours).float()
        return FoldedStructure(planes[:, : len(MASKS)], colours, planes[:, len(MASKS)])


def structure_of(network: nn.Module, image: Tensor) -> Structure:
    """What the network sees. Args: image: (b, 3, s, s) uint8."""
    said = network(as_input(image)).float()
    return Structure(said[:, : len(MASKS)], said[:, len(MASKS) : -1], said[:, -1].sigmoid())
