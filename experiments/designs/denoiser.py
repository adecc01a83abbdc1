"""The network that takes noise from pictures of designs, with attention to what they are to be: goal, format and tone."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ChannelNorm, Recomputable

DENOISER_LEVELS = (1, 2, 2)  # channels of each, in widths
_WAVES = 16  # pairs of sine and cosine that a tone or a time is told by


def _waves(numbers: Tensor) -> Tensor:
    """(b,) from 0 to 1 as (b, 32)."""
    angles = numbers.float()[:, None] * torch.logspace(0, 3, _WAVES, device=numbers.device)
    return torch.cat([angles.sin(), angles.cos()], 1)


class TimedBlock(Recomputable):
    """Two convolutions between which the time is added, then attention to the tokens. (b, c, h, w), (b, t), (b, 3, t)."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(ChannelNorm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.time = nn.Linear(width, outputs)
        self.second = nn.Sequential(ChannelNorm(outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.norm, self.query = nn.LayerNorm(outputs), nn.Linear(outputs, outputs)
        self.key_value, self.out = nn.Linear(width, 2 * outputs), nn.Linear(outputs, outputs)

    def forward(self, maps: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        after: Tensor = self.second(self.first(maps) + self.time(time)[..., None, None]) + self.shortcut(maps)
        heads = after.shape[1] // 8
        query = self.query(self.norm(after.flatten(2).transpose(1, 2))).unflatten(2, (heads, 8)).transpose(1, 2)
        keys, values = (part.unflatten(2, (heads, 8)).transpose(1, 2) for part in self.key_value(tokens).chunk(2, 2))
        # Written out: of three tokens this is faster than the general function.
        seen = (query @ keys.transpose(2, 3) / math.sqrt(8)).softmax(3) @ values
        added: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return after + added.transpose(1, 2).reshape(after.shape)


class Denoiser(nn.Module):
    """(b, 3, s, s), time (b,) from 0 to 1, goal, format (b,), tone (b,), whether each is told (b,) to (b, 3, s, s)."""

    def __init__(self, patch: int, width: int, goals: int, formats: int) -> None:
        super().__init__()
        self.patch, told, channels = patch, 4 * width, [width * level for level in DENOISER_LEVELS]
        self.time = nn.Sequential(nn.Linear(2 * _WAVES, told), nn.SiLU(), nn.Linear(told, told), nn.SiLU())
        self.goal, self.format = nn.Embedding(goals, told), nn.Embedding(formats, told)
        self.tone = nn.Linear(2 * _WAVES, told)
        self.untold = nn.Parameter(torch.zeros(3, told))
        self.stem = nn.Conv2d(3 * patch * patch, width, 3, padding=1)
        pairs = list(zip([width, *channels], channels, strict=False))
        self.down = nn.ModuleList([TimedBlock(before, after, told) for before, after in pairs])
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.up = nn.ModuleList([TimedBlock(below + beside, beside, told) for below, beside in pairs])
        self.last = nn.Sequential(ChannelNorm(width), nn.SiLU(), nn.Conv2d(width, 3 * patch * patch, 3, padding=1))

    def forward(self, noisy: Tensor, time: Tensor, goal: Tensor, form: Tensor, tone: Tensor, is_told: Tensor) -> Tensor:
        tokens = torch.stack([self.goal(goal), self.format(form), self.tone(_waves(tone))], 1)
        tokens = torch.where(is_told[:, None, None], tokens, self.untold)
        at = self.time(_waves(time))
        maps, beside = self.stem(F.pixel_unshuffle(noisy, self.patch)), []
        for level, block in enumerate(self.down):
            maps = block(F.avg_pool2d(maps, 2) if level else maps, at, tokens)
            beside.append(maps)
        beside.pop()
        for block in self.up:
            maps = block(torch.cat([F.interpolate(maps, scale_factor=2.0, mode="nearest"), beside.pop()], 1), at, tokens)
        return F.pixel_shuffle(self.last(maps), self.patch)
