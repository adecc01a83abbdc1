"""Parts of networks that several recipes on designs are built of."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Recomputable(nn.Module):
    """A block of which training can keep the inputs alone, and compute the rest again when the backward pass asks for it."""

    is_recomputed = False

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As timm's models call it."""
        self.is_recomputed = enable

    def __call__(self, *given: Tensor) -> Tensor:
        if self.is_recomputed and torch.is_grad_enabled():
            return checkpoint(super().__call__, *given, use_reentrant=False)  # type: ignore[no-any-return]
        return super().__call__(*given)  # type: ignore[no-any-return]


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of (b, c, h, w), at each place by itself: no statistics of a batch."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ImageNorm(nn.GroupNorm):
    """Normalization of (b, c, h, w) over all places of an image and an eighth of its channels.

    A place keeps how much is there, which normalization of each place by itself takes away: what is flat looks like what is not.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(math.gcd(8, channels), channels)


class ConvBlock(Recomputable):
    """Two 3 x 3 convolutions, each behind normalization and SiLU, beside a shortcut. (b, inputs, h, w) to (b, outputs, h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([ImageNorm(inputs), ImageNorm(outputs)])
        self.convolutions = nn.ModuleList([nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)])
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, maps: Tensor) -> Tensor:
        after = maps
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            after = convolution(F.silu(norm(after)))
        return after + self.shortcut(maps)  # type: ignore[no-any-return]


def as_input(image: Tensor) -> Tensor:
    """uint8 (b, c, h, w) as float32 from -1 to 1, the channels of a pixel side by side in memory: convolutions are faster so."""
    return (image.float() / 127.5 - 1).to(memory_format=torch.channels_last)
