"""Small pictures for a page: side by side in sheets, or one by one, as JPEG in base64."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.features.images.reader import Pixels

_GREY = 128
_A_SHEET = 1024


@dataclass(frozen=True)
class Sheets:
    """Attributes:
    edge: of a tile in pixels.
    columns: tiles in a row of a sheet; of: tiles in a sheet, the last one apart.
    images: JPEG, base64.
    """

    edge: int
    columns: int
    of: int
    images: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        return {"edge": self.edge, "columns": self.columns, "of": self.of, "images": list(self.images)}


def tile_edge(count: int) -> int:
    """So that all tiles together stay within about 5 MB."""
    return 88 if count <= 700 else 64 if count <= 2500 else 32 if count <= 7000 else 24


def jpeg(pixels: Pixels, quality: int = 78) -> str:
    """Base64."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def squared(pixels: Pixels, edge: int) -> Pixels:
    """Scaled to a square of `edge` pixels, from the middle of what is no square."""
    from PIL import Image

    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(square.resize((edge, edge), Image.Resampling.BILINEAR))


def sheets_of(tiles: Sequence[Pixels], edge: int, columns: int = 32, quality: int = 72) -> Sheets:
    """Tiles side by side in as few JPEGs as decode quickly."""
    images = []
    for start in range(0, len(tiles), _A_SHEET):
        mine = tiles[start : start + _A_SHEET]
        rows = -(-len(mine) // columns)
        sheet = np.full((rows * edge, columns * edge, 3), _GREY, np.uint8)
        for number, tile in enumerate(mine):
            top, left = number // columns * edge, number % columns * edge
            sheet[top : top + edge, left : left + edge] = tile
        images.append(jpeg(sheet, quality))
    return Sheets(edge, columns, _A_SHEET, tuple(images))
