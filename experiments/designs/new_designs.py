"""Pictures of designs that a user names: how they come to a network, and how the structure that it sees is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from headstart.features.extraction.new_images import read_named_file
from headstart.features.images.decode import ImageError, open_rgb
from headstart.features.images.watch import read_within

from .description import COLOURS
from .unet_network import MASKS

_LEAST_PART = 0.005  # of a design, below which a colour is not named


def read_designs(files: Iterable[Path], size: int) -> Iterator[tuple[Tensor, tuple[int, int]] | ImageError]:
    """Of each file its pixels, (1, 3, size, size) uint8, and its own width and height; or why it is no image."""
    for file in files:
        try:
            yield _read_design(file, size)
        except ImageError as error:
            yield error


def _read_design(file: Path, size: int) -> tuple[Tensor, tuple[int, int]]:
    image = read_within(lambda: open_rgb(read_named_file(file)))
    small = image.resize((size, size), Image.Resampling.BOX if min(image.size) >= size else None)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None], image.size


def structure_words(masks: Tensor, colours: Tensor, size: tuple[int, int]) -> dict[str, Any]:
    """Boxes of text and pictures in pixels of the file, (left, top, right, bottom), and the part of it that each colour has.

    Args: masks: (2, s, s) bool; colours: (s, s) ids; size: width and height of the file.
    """
    counts = torch.bincount(colours.flatten().long(), minlength=len(COLOURS)) / colours.numel()
    return {
        **{name: region_boxes(mask, size) for name, mask in zip(MASKS, masks.cpu().numpy(), strict=True)},
        "colours": {name: round(part, 3) for name, part in zip(COLOURS, counts.tolist(), strict=True) if part >= _LEAST_PART},
    }


def region_boxes(mask: NDArray[np.bool_], size: tuple[int, int]) -> list[list[int]]:
    """(left, top, right, bottom) of each connected region. Args: mask: (h, w); size: width and height that boxes are told in."""
    from scipy.ndimage import find_objects, label

    across, down = size[0] / mask.shape[1], size[1] / mask.shape[0]
    regions = [(columns, rows) for rows, columns in find_objects(label(mask)[0])]
    return [
        [round(columns.start * across), round(rows.start * down), round(columns.stop * across), round(rows.stop * down)]
        for columns, rows in regions
    ]
