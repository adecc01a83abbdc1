"""The network that judges layouts by their structure: lines of text and pictures as boxes, and how each pair of them lies.

A score is about pairs: whether two lines begin at one place, how much larger one is than another. So boxes are read at full
resolution, and for every pair how far their edges, centres and rows are from each other. What is left, page and band, is seen in
profiles along rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .description import CHANNELS, COLOURS

_COLOUR_CHANNELS = 6
_PLANES = len(CHANNELS) - 1 + _COLOUR_CHANNELS
_GEOMETRY = 15  # numbers of a pair, see pair_geometry
_VIEWS = 4  # of a pair, each with weights of its own
_NEAR = 8 / 256  # of the edge of a design: what is farther apart is not meant to be aligned
_PROFILE_STEP = 4  # a profile is a mean over every fourth pixel


@dataclass(frozen=True)
class Boxes:
    """Lines of text, pictures and charts of designs, the widest first.

    edges (b, k, 4): left, top, right, bottom, 0 to 1; is_there (b, k) bool; inside (b, k, 4) uint8: the structure in the middle
    of the top row; ground (b, k) uint8: the colour above its left end.
    """

    edges: Tensor
    is_there: Tensor
    inside: Tensor
    ground: Tensor


def boxes_of(structure: Tensor, most: int) -> Boxes:
    """The runs of pixels of text or image in a row that have none above them, and how far it goes down below their middle.

    A rectangle is one such run; an ellipse is its top, which has the same centre, and short ones beside it.
    Args: structure: (b, 4, s, s) uint8. most: k, at most s * s.
    """
    size = structure.shape[-1]
    places = torch.arange(size, dtype=torch.int16, device=structure.device)
    is_covered = (structure[:, 0] > 0) | (structure[:, 1] > 0)
    is_top = is_covered & ~F.pad(is_covered, (0, 0, 1, 0))[:, :-1]
    lengths = (is_top & ~F.pad(is_top, (1, 0))[:, :, :-1]) * (_next_without(is_top, places) - places)
    widths, at = lengths.flatten(1).topk(most, 1)
    top, left = at // size, at % size
    middle, each = left + widths.long() // 2, torch.arange(len(structure), device=structure.device)[:, None]
    bottom = _next_without(is_covered.transpose(1, 2), places)[each, middle, top]
    edges = torch.stack([left, top, left + widths, bottom], 2) / size
    inside = structure[each, :, top, middle]
    return Boxes(edges, widths > 0, inside, structure[each, 2, (top - 1).clamp(min=0), left])


def _next_without(mask: Tensor, places: Tensor) -> Tensor:
    """(b, s, s): for each pixel the first place from it on, along the last axis, where the mask is not; s if it is to the end."""
    return torch.where(mask, len(places), places).flip(-1).cummin(-1).values.flip(-1)


def pair_geometry(edges: Tensor) -> Tensor:
    """(b, k, k, 15): how each box lies to each other one. Args: edges: (b, k, 4).

    Of left edges, centres and right edges the distance, cut where it is far; the least of them; the distances with signs, cut and
    whole; the part of the narrower width that both share; distances of tops, and of top and bottom; log2 of the ratio of heights.
    """
    left, top, right, bottom = edges.unbind(-1)
    across = torch.stack([left, (left + right) / 2, right], -1)
    apart = across[:, :, None] - across[:, None]
    near = (apart.abs() / _NEAR).clamp(max=1)
    shared = torch.minimum(right[:, :, None], right[:, None]) - torch.maximum(left[:, :, None], left[:, None])
    narrower = torch.minimum((right - left)[:, :, None], (right - left)[:, None]).clamp(min=1e-3)
    down, gap = top[:, :, None] - top[:, None], ((top[:, :, None] - bottom[:, None]) / _NEAR).clamp(-2, 2)
    heights = (bottom - top).clamp(min=1e-3).log2()
    larger = (heights[:, :, None] - heights[:, None]).clamp(-2, 2)
    parts = [(shared / narrower).clamp(-1, 1), 4 * down, gap, gap.transpose(1, 2), larger]
    return torch.cat([near, near.amin(-1, keepdim=True), (apart / _NEAR).clamp(-1, 1), 4 * apart, torch.stack(parts, -1)], -1)


class Relations(nn.Module):
    """What pairs of boxes have in common, in weighted means: of each box with the others, or over all pairs.

    Boxes (b, k, width), geometry (b, k, k, 15) and is_pair (b, k, k) become (b, k, views * (width // 2)), or without the k.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.one, self.other = nn.Linear(width, width // 2), nn.Linear(width, width // 2, bias=False)
        self.geometry = nn.Linear(_GEOMETRY, width // 2, bias=False)
        self.weight = nn.Linear(width // 2, _VIEWS)

    def forward(self, boxes: Tensor, geometry: Tensor, is_pair: Tensor, over_all: bool) -> Tensor:
        boxes = self.norm(boxes)
        pairs = F.gelu(self.one(boxes)[:, :, None] + self.other(boxes)[:, None] + self.geometry(geometry))
        weights = self.weight(pairs).masked_fill(~is_pair[..., None], -1e4)
        if over_all:
            pairs, weights = pairs.flatten(1, 2), weights.flatten(1, 2)
        return torch.matmul(weights.softmax(-2).transpose(-1, -2), pairs).flatten(-2)


class Abstractor(nn.Module):
    """(b, 4, s, s) uint8 to (b, goals + formats + 1 + scores)."""

    def __init__(self, size: int, width: int, boxes: int, rounds: int, outputs: tuple[int, int]) -> None:
        """Args: size: pixels of an edge. width: numbers of a box. boxes: of a design at most. rounds: in which boxes hear of each
        other. outputs: of the head for the meta data, and of that for the scores."""
        super().__init__()
        self.most = boxes
        self.colours = nn.Embedding(len(COLOURS), _COLOUR_CHANNELS)
        self.boxes = nn.Sequential(nn.Linear(6 + _PLANES + _COLOUR_CHANNELS, width), nn.GELU(), nn.Linear(width, width))
        self.relations = nn.ModuleList([Relations(width) for _ in range(rounds + 1)])
        self.heard = nn.ModuleList([nn.Linear(_VIEWS * (width // 2), width) for _ in range(rounds)])
        self.profiles = nn.Sequential(nn.Linear(2 * size * (_PLANES + 1), 2 * width), nn.GELU())
        pooled = _VIEWS * (width // 2) + 2 * width
        self.heads = nn.ModuleList([nn.Sequential(nn.Linear(pooled, width), nn.GELU(), nn.Linear(width, n)) for n in outputs])

    def forward(self, structure: Tensor) -> Tensor:
        found = boxes_of(structure, self.most)
        # Letters are few pixels high: their size, which hierarchy is about, would hardly be seen unscaled.
        extent = (found.edges[..., 2:] - found.edges[..., :2]) * found.edges.new_tensor([4, 16])
        parts = [2 * found.edges - 1, extent, self._planes(found.inside), self.colours(found.ground.long())]
        boxes, geometry = self.boxes(torch.cat(parts, -1)), pair_geometry(found.edges)
        is_pair = found.is_there[:, :, None] & found.is_there[:, None]
        for relations, heard in zip(self.relations[:-1], self.heard, strict=True):
            boxes = boxes + heard(relations(boxes, geometry, is_pair, over_all=False))
        pooled = self.relations[-1](boxes, geometry, is_pair, over_all=True)
        pooled = torch.cat([pooled, self.profiles(self._profiles(structure))], 1)
        return torch.cat([head(pooled) for head in self.heads], 1)

    def _planes(self, structure: Tensor) -> Tensor:
        """(..., 4) uint8 to (..., planes): masks, prominence, and what is learnt of colours."""
        masks, prominence = structure[..., :2].float(), structure[..., 3:].float() / 255
        return torch.cat([masks, prominence, self.colours(structure[..., 2].long())], -1)

    def _profiles(self, structure: Tensor) -> Tensor:
        """(b, 2 s (planes + 1)): of each row and column the mean, and the part of its colours that the one before has not."""
        lines = torch.stack([structure[..., ::_PROFILE_STEP], structure[:, :, ::_PROFILE_STEP].transpose(2, 3)], 1)
        masks, prominence = lines[:, :, :2].float().mean(-1), lines[:, :, 3:].float().mean(-1) / 255
        # Counted first: an embedding of every pixel, and its gradient, took half of the time of a step.
        shares = _shares(lines[:, :, 2])
        changes = F.pad(shares.diff(dim=2).abs().sum(-1, keepdim=True) / 2, (0, 0, 1, 0))
        means = torch.cat([masks, prominence], 2).transpose(2, 3)
        return torch.cat([means, shares @ self.colours.weight, changes], -1).flatten(1)


def _shares(colours: Tensor) -> Tensor:
    """(..., n) colour ids to (..., colours): the part of the n that each has."""
    lines = colours.flatten(0, -2).long()
    places = lines + len(COLOURS) * torch.arange(len(lines), device=colours.device)[:, None]
    counts = torch.bincount(places.flatten(), minlength=len(COLOURS) * len(lines))
    return counts.view(*colours.shape[:-1], len(COLOURS)) / colours.shape[-1]
