"""The map of the images as a picture beside the page."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

_TABLEAU = ("4e79a7", "f28e2b", "59a14f", "e15759", "76b7b2", "b07aa1", "9c755f", "d4a900", "ff9da7", "8c8c8c")
_EDGE, _MARGIN, _FINE = 1200, 40, 2  # drawn twice as large and scaled down: Pillow's own circles have steps
_Color = tuple[int, int, int]


def class_color(code: int) -> _Color:
    """Tableau's ten, then hues by the golden angle, as the page has them; grey where there is no class."""
    if code < 0:
        return 0xC9, 0xC6, 0xBF
    if code < len(_TABLEAU):
        return tuple(bytes.fromhex(_TABLEAU[code]))  # type: ignore[return-value]
    red, green, blue = colorsys.hls_to_rgb(code * 137.508 % 360 / 360, 0.45 if code % 2 else 0.58, 0.55)
    return round(red * 255), round(green * 255), round(blue * 255)


def map_picture(points: NDArray[np.floating[Any]], codes: NDArray[np.integer[Any]], is_wrong: NDArray[np.bool_] | None) -> Image:
    """Args: points: (m, 2) in 0 to 1; codes: (m,) class, below 0 for none; is_wrong: (m,) gets a ring."""
    from PIL import Image, ImageDraw

    size = _EDGE * _FINE
    image = Image.new("RGB", (size, size), (0xFC, 0xFB, 0xF9))
    draw = ImageDraw.Draw(image)
    places = (_MARGIN + points * (_EDGE - 2 * _MARGIN)) * _FINE
    radius = (2 if len(points) > 20000 else 3 if len(points) > 4000 else 5) * _FINE / 1.4
    for (x, y), code in zip(places.tolist(), codes.tolist(), strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=class_color(code))
    if is_wrong is not None:
        ring = radius + 3 * _FINE
        for x, y in places[is_wrong].tolist():
            draw.ellipse((x - ring, y - ring, x + ring, y + ring), outline=(0xC2, 0x41, 0x0C), width=_FINE)
    return image.resize((_EDGE, _EDGE), Image.Resampling.BOX)
