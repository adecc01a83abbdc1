"""An exported graph without the weights in it, and what is put back: the same bytes as torch's exporter gives, without torch.

The exporter keeps a weight as it is, turns it over for a product, or folds the normalization behind a convolution into it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .torch_roots import torch_roots

Tensors = Mapping[str, NDArray[np.float32]]

KEPT, TURNED, SCALED, SHIFTED = "kept", "turned", "scaled", "shifted"


class NoRootsError(Exception):
    """Normalization cannot be folded as the exporter does it: `torch_roots` gives none here."""


@dataclass(frozen=True)
class Hole:
    """Where numbers were cut out.

    Attributes:
        at: byte in the cut graph before which they belong.
        kind: KEPT: the tensor. TURNED: transposed. SCALED: times the factor of each channel that batch normalization multiplies
            by. SHIFTED: the bias, 0 where `tensor` is '', as that normalization moves it.
        tensor: its name.
        norm: the normalization's name.
        epsilon: that it adds to the variance.
    """

    at: int
    kind: str
    tensor: str = ""
    norm: str = ""
    epsilon: float = 0.0


def parse_holes(facts: Iterable[Mapping[str, Any]]) -> list[Hole]:
    """The ones that stand in a file of the package."""
    return [Hole(**each) for each in facts]


def filled(cut: bytes, holes: Sequence[Hole], tensors: Tensors) -> bytes:
    """The graph. Args: holes: in their order. Raises: NoRootsError where the exporter's numbers cannot be had."""
    parts, end = [], 0
    for hole in holes:
        parts += [cut[end : hole.at], hole_bytes(hole, tensors)]
        end = hole.at
    return b"".join([*parts, cut[end:]])


def hole_bytes(hole: Hole, tensors: Tensors) -> bytes:
    """What belongs there, step by step in float32 as the exporter computes it: another order gives other bits."""
    if hole.kind == KEPT:
        return tensors[hole.tensor].tobytes()
    if hole.kind == TURNED:
        return np.ascontiguousarray(tensors[hole.tensor].T).tobytes()
    roots = torch_roots(tensors[f"{hole.norm}.running_var"] + np.float32(hole.epsilon))
    if roots is None:
        raise NoRootsError
    scale = tensors[f"{hole.norm}.weight"] / roots
    if hole.kind == SCALED:
        weight = tensors[hole.tensor]
        return (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).tobytes()
    bias = tensors[hole.tensor] if hole.tensor else np.float32(0)
    return ((bias - tensors[f"{hole.norm}.running_mean"]) * scale + tensors[f"{hole.norm}.bias"]).tobytes()
