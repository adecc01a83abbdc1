"""What a feature vector is made of: what the network pools, and beside it how its stages and the image itself are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# In this order, of an image's pixels from 0 to 1 as the network gets them. Luma is 0.299 R + 0.587 G + 0.114 B; a step is the
# distance of a pixel's luma to those of its right and lower neighbours; colours are counted in 8 x 8 x 8 cells.
IMAGE_STATISTICS = (
    "luma_mean",
    "luma_deviation",
    "white",  # part of the pixels whose darkest channel is above 0.95
    "black",  # part whose luma is below 0.05
    "saturation_mean",  # of the brightest channel less the darkest
    "saturation_deviation",
    "step_mean",
    "step_deviation",
    "edges",  # part with a step above 0.1
    "strong_edges",  # above 0.3
    "slopes",  # from 0.003 to 0.05: soft changes of colour
    "flat",  # below 0.003
    "laplacian_mean",  # absolute, of luma
    "colours",  # part of the 512 cells that hold more than one pixel of 2,000
    "colour_entropy",  # of the cells, as part of the largest possible
    "main_colour",  # part of the pixels in the fullest cell
)
_CELLS = 8


@dataclass(frozen=True)
class VectorParts:
    """Lengths of the parts of a vector, in their order.

    Attributes:
        pooled: what the network gives without any of this.
        stages: channels of each stage; the mean of every channel of every stage follows, then their deviations in that order.
        image_stats: whether IMAGE_STATISTICS come last.
    """

    pooled: int
    stages: tuple[int, ...] = ()
    image_stats: bool = False

    @property
    def length(self) -> int:
        return self.pooled + 2 * sum(self.stages) + self.image_stats * len(IMAGE_STATISTICS)

    def places(self) -> dict[str, slice]:
        """Where `pooled`, `stages` and `image_stats` stand; what is not there has no entry."""
        last = self.pooled + 2 * sum(self.stages)
        places = {"pooled": slice(0, self.pooled)}
        places |= {"stages": slice(self.pooled, last)} if self.stages else {}
        return places | ({"image_stats": slice(last, self.length)} if self.image_stats else {})

    def facts(self) -> dict[str, Any]:
        """What `parse_parts` reads, and what fingerprints are made of."""
        return {"pooled": self.pooled, "stages": list(self.stages), "image_stats": self.image_stats}


def parse_parts(facts: Mapping[str, Any]) -> VectorParts:
    """The VectorParts that `VectorParts.facts` and JSON wrote down. Raises: KeyError, TypeError or ValueError if it is none."""
    pooled, stages, image_stats = int(facts["pooled"]), tuple(map(int, facts["stages"])), facts["image_stats"]
    if pooled < 1 or min(stages, default=1) < 1 or not isinstance(image_stats, bool) or not (stages or image_stats):
        raise ValueError(f"a vector of {dict(facts)}")
    return VectorParts(pooled, stages, image_stats)


def stage_statistics(maps: list[torch.Tensor]) -> torch.Tensor:
    """Means, then deviations, of all channels of all maps (n, c, h, w): (n, 2 * channels)."""
    import torch

    means = [one.float().mean((2, 3), keepdim=True) for one in maps]
    variances = [((one.float() - mean) ** 2).mean((2, 3)) for one, mean in zip(maps, means, strict=True)]
    return torch.cat([*(mean.flatten(1) for mean in means), *(variance.sqrt() for variance in variances)], 1)


def image_statistics(pixels: torch.Tensor) -> torch.Tensor:
    """(n, 16) IMAGE_STATISTICS of pixels (n, 3, h, w) from 0 to 1."""
    import torch

    red, green, blue = pixels.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    least, most = pixels.amin(1), pixels.amax(1)
    saturation = most - least
    middle = luma[:, :-1, :-1]
    right, down = luma[:, :-1, 1:] - middle, luma[:, 1:, :-1] - middle
    steps = (right**2 + down**2).sqrt()
    inner = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    cells = _colour_cells(pixels)
    entropy = -(cells * cells.clamp(min=1e-12).log()).sum(1) / torch.log(torch.tensor(float(_CELLS**3)))
    columns = [
        _mean(luma),
        _deviation(luma),
        _part(least > 0.951),
        _part(luma < 0.0497),
        _mean(saturation),
        _deviation(saturation),
        _mean(steps),
        _deviation(steps),
        _part(steps > 0.1),
        _part(steps > 0.3),
        _part((steps >= 0.003) & (steps <= 0.05)),
        _part(steps < 0.003),
        _mean((around - 4 * inner).abs()),
        (cells > 1 / 2000).float().mean(1),
        entropy,
        cells.amax(1),
    ]
    return torch.stack(columns, 1)


def _colour_cells(pixels: torch.Tensor) -> torch.Tensor:
    """(n, 512): part of the pixels whose colour is in each cell."""
    import torch

    levels = (pixels * _CELLS * 0.9999).floor().long().clamp(0, _CELLS - 1)
    places = ((levels[:, 0] * _CELLS + levels[:, 1]) * _CELLS + levels[:, 2]).flatten(1)
    ones = torch.ones_like(places, dtype=torch.float32)
    counts = torch.zeros(places.shape[0], _CELLS**3, device=pixels.device).scatter_add(1, places, ones)
    return counts / float(pixels.shape[2] * pixels.shape[3])


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean((1, 2))


def _deviation(values: torch.Tensor) -> torch.Tensor:
    return ((values - values.mean((1, 2), keepdim=True)) ** 2).mean((1, 2)).sqrt()


def _part(is_so: torch.Tensor) -> torch.Tensor:
    return is_so.float().mean((1, 2))
