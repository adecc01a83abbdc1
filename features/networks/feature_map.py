"""Feature maps: the one before pooling, averaged to a grid or not, or those of several strides brought to the finest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import reason_of

from .vector_parts import VectorParts, image_statistics, stage_statistics

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class FeatureMap:
    """The map that is kept of every image, besides its vector.

    Attributes:
        pool: edge of the grid that it is averaged to; None keeps it as the network makes it.
        shape: (channels, height, width), as kept.
        strides: pixels of the image from one place to the next, ascending, of the maps that it is made of; () for the map before
            pooling alone. Coarser maps are interpolated (bilinear) to the grid of the first, channels follow in this order.
    """

    pool: int | None
    shape: tuple[int, int, int]
    strides: tuple[int, ...] = ()

    @property
    def values(self) -> int:
        channels, height, width = self.shape
        return channels * height * width

    def facts(self) -> dict[str, Any]:
        """What `parse_map` reads, and what fingerprints are made of."""
        facts: dict[str, Any] = {"pool": self.pool, "shape": self.shape}
        if self.strides:  # they came later: what was fingerprinted without them keeps its fingerprint
            facts["strides"] = self.strides
        return facts


def parse_map(facts: Mapping[str, Any]) -> FeatureMap:
    """The FeatureMap that `FeatureMap.facts` and JSON wrote down. Raises: KeyError, TypeError or ValueError if it is none."""
    channels, height, width = map(int, facts["shape"])
    pool = None if facts["pool"] is None else int(facts["pool"])
    if min(channels, height, width) < 1 or pool not in (None, height) or pool not in (None, width):
        raise ValueError(f"a map of {facts['shape']} pooled to {pool}")
    strides = tuple(map(int, facts.get("strides", ())))
    if list(strides) != sorted({*strides}) or min(strides, default=1) < 1 or (strides and pool is not None):
        raise ValueError(f"maps of strides {strides} pooled to {pool}")
    return FeatureMap(pool, (channels, height, width), strides)


def outputs(
    network: Any,
    inputs: "torch.Tensor",
    spatial: FeatureMap | None,
    parts: VectorParts | None = None,
    pixels: "torch.Tensor | None" = None,
) -> "tuple[torch.Tensor, ...]":
    """What `network` makes of normalized (n, 3, h, w): vectors (n, d), and with `spatial` also maps (n, *spatial.shape).

    Args: parts: what a vector is made of; None: what the network pools. pixels: from 0 to 1, where `parts` has their statistics.
    """
    if parts is not None:
        return _with_parts(network, inputs, spatial, parts, pixels)
    if spatial is None:
        return (network(inputs),)
    if spatial.strides:
        return _vectors_and_maps(network, inputs, spatial.strides)
    features = network.forward_features(inputs)
    maps = _as_grid(network, features)
    return network.forward_head(features), maps if spatial.pool is None else _averaged(maps, spatial.pool)


def _with_parts(
    network: Any, inputs: "torch.Tensor", spatial: FeatureMap | None, parts: VectorParts, pixels: "torch.Tensor | None"
) -> "tuple[torch.Tensor, ...]":
    import torch

    if not parts.stages:
        pooled, *maps = outputs(network, inputs, spatial)
        vectors = [pooled.float()]
    else:
        places = _places_of(network)
        asked = sorted(places.values())
        features, stages = network.forward_intermediates(inputs, indices=asked, norm=True)
        vectors = [network.forward_head(features).float(), stage_statistics(stages)]
        maps = []
        if spatial is not None and spatial.strides:
            maps = [_joined([stages[asked.index(places[stride])] for stride in spatial.strides])]
        elif spatial is not None:
            grid = _as_grid(network, features)
            maps = [grid if spatial.pool is None else _averaged(grid, spatial.pool)]
    if parts.image_stats:
        assert pixels is not None
        vectors.append(image_statistics(pixels))
    return torch.cat(vectors, 1), *maps


def find_parts(
    network: Any, model: str, image_size: tuple[int, int], pooled: int, stages: bool, image_stats: bool
) -> VectorParts | None:
    """What --stages and --image-stats mean for `network`; None without both. Raises: HeadstartError if it gives no maps of its
    stages."""
    import torch

    if not stages:
        return VectorParts(pooled, (), True) if image_stats else None
    places = _places_of(network)
    inputs = torch.linspace(-1, 1, 3 * image_size[0] * image_size[1]).view(1, 3, *image_size)
    try:
        if not places or not hasattr(network, "forward_intermediates"):
            raise ValueError("timm does not say where its stages are")
        with torch.inference_mode():
            features, maps = network.forward_intermediates(inputs, indices=sorted(places.values()), norm=True)
            if any(one.ndim != 4 for one in maps):
                raise ValueError("what its stages give are no maps")
            if not torch.allclose(network.forward_head(features), network(inputs), rtol=1e-3, atol=1e-3):
                raise ValueError("its vectors are not made of its last map alone")
    except Exception as error:
        raise HeadstartError(
            f"--stages: {model} gives no maps of its stages: {reason_of(error)}. Leave --stages out, or choose another --encoder"
        ) from None
    return VectorParts(pooled, tuple(int(one.shape[1]) for one in maps), image_stats)


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


def find_maps(network: Any, model: str, image_size: tuple[int, int], strides: Sequence[int]) -> FeatureMap:
    """The map that --maps means for `network`. Raises: HeadstartError if it has no map of one of these strides."""
    import torch

    has = _places_of(network)
    if not has or not hasattr(network, "forward_intermediates"):
        raise HeadstartError(f"--maps: {model} gives no maps of its stages. Choose another --encoder, or keep one map: --spatial")
    unknown = [stride for stride in strides if stride not in has]
    if unknown:
        known = ", ".join(map(str, sorted(has)))
        raise HeadstartError(f"--maps {unknown[0]}: {model} has no map of that stride. Choose from {known}")
    inputs = torch.linspace(-1, 1, 3 * image_size[0] * image_size[1]).view(1, 3, *image_size)
    kept = tuple(sorted({*strides}))
    try:
        with torch.inference_mode():
            vectors, maps = _vectors_and_maps(network, inputs, kept)
            if not torch.allclose(vectors, network(inputs), rtol=1e-3, atol=1e-3):
                raise ValueError("its vectors are not made of its last map alone")
    except Exception as error:
        raise HeadstartError(
            f"--maps: {model} has no maps to keep: {reason_of(error)}. Choose another --encoder, or keep one map: --spatial"
        ) from None
    channels, height, width = map(int, maps.shape[1:])
    return FeatureMap(None, (channels, height, width), kept)


def _places_of(network: Any) -> dict[int, int]:
    """By stride, the last of the network's stages that has it."""
    stages = getattr(network, "feature_info", None) or []
    stages = stages if isinstance(stages, list) else stages.get_dicts()
    return {int(stage["reduction"]): number for number, stage in enumerate(stages)}


def _vectors_and_maps(network: Any, inputs: "torch.Tensor", strides: tuple[int, ...]) -> "tuple[torch.Tensor, torch.Tensor]":
    places = _places_of(network)
    # One pass for both. Ascending, as timm gives the maps back whatever the order it is asked in.
    features, maps = network.forward_intermediates(inputs, indices=[places[stride] for stride in strides], norm=True)
    return network.forward_head(features), _joined(maps)


def _joined(maps: "Sequence[torch.Tensor]") -> "torch.Tensor":
    """One map, on the grid of the first."""
    import torch

    size = tuple(map(int, maps[0].shape[2:]))
    return torch.cat([_brought_to(size, one) for one in maps], 1)


def _brought_to(size: tuple[int, ...], maps: "torch.Tensor") -> "torch.Tensor":
    # As `_averaged`: torch's bilinear interpolation (align_corners=False) as two matrix products, which a graph has as constants.
    import torch

    edges = tuple(map(int, maps.shape[2:]))
    if edges == size:
        return maps
    height, width = (torch.from_numpy(_bilinear(edge, wanted)).to(maps) for edge, wanted in zip(edges, size, strict=True))
    return height @ maps @ width.T


def _bilinear(edge: int, wanted: int) -> NDArray[np.float32]:
    """(wanted, edge): row i holds the weights of place i, whose centre lies between those of two of the `edge` places."""
    places = np.clip((np.arange(wanted) + 0.5) * edge / wanted - 0.5, 0, edge - 1)
    lower = np.minimum(places.astype(int), max(0, edge - 2))
    weights = np.zeros((wanted, edge), np.float32)
    weights[np.arange(wanted), lower] = 1 - (places - lower)
    if edge > 1:
        weights[np.arange(wanted), lower + 1] = places - lower
    return weights


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
