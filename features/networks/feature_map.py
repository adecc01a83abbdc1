"""The feature map before pooling: which networks have one, its shape, and averaging it to a coarser grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import reason_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class FeatureMap:
    """The map that is kept of every image, besides its vector.

    Attributes:
        pool: edge of the grid that it is averaged to; None keeps it as the network makes it.
        shape: (channels, height, width), as kept.
    """

    pool: int | None
    shape: tuple[int, int, int]

    @property
    def values(self) -> int:
        channels, height, width = self.shape
        return channels * height * width


def parse_map(facts: Mapping[str, Any]) -> FeatureMap:
    """The FeatureMap that `dataclasses.asdict` and JSON wrote down. Raises: KeyError, TypeError or ValueError if it is none."""
    channels, height, width = map(int, facts["shape"])
    pool = None if facts["pool"] is None else int(facts["pool"])
    if min(channels, height, width) < 1 or pool not in (None, height) or pool not in (None, width):
        raise ValueError(f"a map of {facts['shape']} pooled to {pool}")
    return FeatureMap(pool, (channels, height, width))


def outputs(network: Any, inputs: "torch.Tensor", spatial: FeatureMap | None) -> "tuple[torch.Tensor, ...]":
    """What `network` makes of normalized (n, 3, h, w): vectors (n, d), and with `spatial` also maps (n, *spatial.shape)."""
    if spatial is None:
        return (network(inputs),)
    features = network.forward_features(inputs)
    maps = _as_grid(network, features)
    return network.forward_head(features), maps if spatial.pool is None else _averaged(maps, spatial.pool)


def find_map(network: Any, model: str, image_size: tuple[int, int], pool: int | None) -> FeatureMap:
    """The map that --spatial means for `network`. Raises: HeadstartError if it has none, or it is smaller than `pool`."""
    import torch

    inputs = torch.linspace(-1, 1, 3 * image_size[0] * image_size[1]).view(1, 3, *image_size)
    try:
        with torch.inference_mode():
            features = network.forward_features(inputs)
            maps = _as_grid(network, features)
            if not torch.allclose(network.forward_head(features), network(inputs), rtol=1e-3, atol=1e-3):
                raise ValueError("its vectors are not made of its feature map alone")
    except Exception as error:
        raise HeadstartError(
            f"--spatial: {model} has no feature map to keep: {reason_of(error)}. Leave --spatial out, or choose another --encoder"
        ) from None
    channels, height, width = map(int, maps.shape[1:])
    if pool is None:
        return FeatureMap(None, (channels, height, width))
    if pool > min(height, width):
        raise HeadstartError(
            f"--spatial {pool}: the feature map of {model} has {height} x {width} places. "
            f"Pass at most {min(height, width)}, or a larger --image-size"
        )
    return FeatureMap(pool, (channels, pool, pool))


def _as_grid(network: Any, features: Any) -> "torch.Tensor":
    """(n, c, h, w) from what `forward_features` gave. Raises: ValueError if that is no grid."""
    import torch

    if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
        raise ValueError("its features before pooling are no map")
    if features.ndim == 4:
        maps = features.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "NCHW") == "NHWC" else features
        if maps.shape[1] != network.num_features:  # read in the wrong order, rows would pass for channels
            raise ValueError(f"its map has {maps.shape[1]} channels, expected {network.num_features}")
        return maps
    # Tokens lie row by row only where each is still the patch it began as; class and register tokens come first.
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    prefix = getattr(network, "num_prefix_tokens", 0)
    if grid is None or features.shape[1] != prefix + grid[0] * grid[1]:
        raise ValueError(f"it has {features.shape[1]} tokens that are no grid")
    return features[:, prefix:].transpose(1, 2).reshape(-1, int(network.num_features), *map(int, grid))


def _averaged(maps: "torch.Tensor", pool: int) -> "torch.Tensor":
    # Adaptive average pooling as two matrix products: ONNX can express it in no other way unless the edges divide evenly.
    import torch

    # numpy's, and int: while a graph is traced, what torch does to build them would become part of it, and wrongly.
    height, width = (torch.from_numpy(_means(int(edge), pool)).to(maps) for edge in maps.shape[2:])
    return height @ maps @ width.T


def _means(edge: int, pool: int) -> NDArray[np.float32]:
    """(pool, edge): row i averages what torch's adaptive_avg_pool2d averages for cell i."""
    weights = np.zeros((pool, edge), np.float32)
    for i in range(pool):
        start, stop = i * edge // pool, -(-(i + 1) * edge // pool)
        weights[i, start:stop] = 1 / (stop - start)
    return weights
