"""A network cut into a front and a back part: what lies before its last blocks, and these with all that follows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headstart.pipeline.errors import HeadstartError

if TYPE_CHECKING:
    import torch

_LISTS = ("blocks", "stages", "layers")
_BLOCK = re.compile(r"(blocks|stages|layers)\.\d+|layer\d+")
_AFTER = ("global_pool", "head", "fc", "classifier", "head_drop", "fc_norm", "norm_head")


def split_names(network: Any, blocks: int, image_size: tuple[int, int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the modules before the last `blocks` blocks, and of these and what follows up to the feature map.

    Run one after the other they are `network.forward_features`; that is tried out.
    Raises: HeadstartError if the network has fewer blocks, or is no such chain.
    """
    import torch

    names = list(_chain(network))
    places = [place for place, name in enumerate(names) if _BLOCK.fullmatch(name)]
    if not 1 <= blocks < len(places):
        raise HeadstartError(f"--blocks is {blocks}, expected 1 to {len(places) - 1}: the network has {len(places)} blocks")
    cut = places[-blocks]
    front, back = tuple(names[:cut]), tuple(names[cut:])
    probe = torch.linspace(-1, 1, 3 * image_size[0] * image_size[1]).view(1, 3, *image_size)
    with torch.inference_mode():
        try:
            is_chain = torch.allclose(
                run_chain(network, back, run_chain(network, front, probe)), network.forward_features(probe), atol=1e-5
            )
        except Exception:  # a network that is no chain may do anything
            is_chain = False
    if not is_chain:
        raise HeadstartError(
            "this network is no chain of blocks and cannot be cut before its last ones. Take a convolutional one"
        )
    return front, back


def run_chain(network: Any, names: tuple[str, ...], values: torch.Tensor) -> torch.Tensor:
    """These modules one after the other."""
    for name in names:
        values = network.get_submodule(name)(values)
    return values


def _chain(network: Any) -> Any:
    for name, child in network.named_children():
        if name in _AFTER:
            return
        if name in _LISTS:
            yield from (f"{name}.{place}" for place, _ in child.named_children())
        else:
            yield name
