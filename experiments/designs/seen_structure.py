"""What a U-Net sees of designs, brought into the form of true structure: lines of text are boxes, each of one colour."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .unet_network import structure_of

_LEAST = 4  # pixels: smaller regions are no line of text and no picture
_FULL = 0.85  # part of its box that a rectangle fills at least; an ellipse fills 0.79


def seen_structure(network: nn.Module, image: Tensor) -> Tensor:
    """(b, 4, s, s) uint8, as of `Designs.batch`. Args: network: of a run of unet. image: (b, 3, s, s) uint8."""
    said = structure_of(network, image)
    masks, colours = said.masks > 0, said.colours.argmax(1, keepdim=True)
    planes = torch.cat([masks, colours, (255 * said.hierarchy).round()[:, None]], 1).to(torch.uint8)
    tidied = [tidied_structure(one) for one in planes.cpu().numpy()]
    return torch.from_numpy(np.stack(tidied)).to(image.device)


def tidied_structure(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(4, s, s): each region of a mask as the box that it fills, with its commonest colour and its mean prominence.

    A ragged edge would make many short boxes of one. What fills less of its box than a rectangle does keeps its shape.
    """
    from scipy.ndimage import find_objects, label

    result = planes.copy()
    result[:2] = 0
    for mask in (0, 1):
        regions, _ = label(planes[mask])
        for number, where in enumerate(find_objects(regions), 1):
            inside = regions[where] == number
            if min(inside.shape) < 2 or inside.sum() < _LEAST:
                continue
            filled = np.ones_like(inside) if inside.mean() >= _FULL else inside
            result[mask][where] |= filled.astype(np.uint8)
            result[2][where][filled] = np.bincount(planes[2][where][inside]).argmax()
            result[3][where][filled] = round(float(planes[3][where][inside].mean()))
    return result
