"""The course of a training as a picture: loss and what it is judged by, on training and validation rows.

Drawn with Pillow, which is there for the images anyway: a picture of two panels pays for no library of plots, and its bytes are a
function of the history.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from headstart.pipeline.text import printable

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _RIGHT = 560, 380, 76, 40, 44, 16
_COLOURS = {"train": (36, 86, 201), "val": (194, 65, 12)}
_INK, _SOFT, _GRID, _PAPER = (29, 28, 26), (106, 104, 98), (230, 227, 220), (252, 251, 249)
_LINES = 4  # of the grid


def draw_curves(entries: Sequence[Mapping[str, Any]], judged_by: str) -> bytes:
    """A PNG. Args: entries: of the history, at least one of them with a finite number; judged_by: what chooses."""
    names = ["loss", judged_by] if judged_by != "loss" else ["loss"]
    names = [name for name in names if any(_points(entries, split, name) for split in _COLOURS)]
    image = Image.new("RGB", (_WIDTH * len(names), _HEIGHT), _PAPER)
    for number, name in enumerate(names):
        _panel(ImageDraw.Draw(image), number * _WIDTH, entries, name)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _points(entries: Sequence[Mapping[str, Any]], split: str, name: str) -> list[tuple[float, float]]:
    values = [(entry["epoch"], entry[split].get(name)) for entry in entries]
    return [(epoch, value) for epoch, value in values if value is not None and math.isfinite(value)]


def _panel(draw: ImageDraw.ImageDraw, left: int, entries: Sequence[Mapping[str, Any]], name: str) -> None:
    small, font = ImageFont.load_default(13), ImageFont.load_default(15)
    lines = {split: _points(entries, split, name) for split in _COLOURS}
    values = [value for points in lines.values() for _, value in points]
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    first, last = entries[0]["epoch"], max(entries[-1]["epoch"], entries[0]["epoch"] + 1e-9)
    x0, x1, y0, y1 = left + _LEFT, left + _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, _TOP

    def place(epoch: float, value: float) -> tuple[float, float]:
        return x0 + (x1 - x0) * (epoch - first) / (last - first), y0 + (y1 - y0) * (value - low) / (high - low)

    for number in range(_LINES + 1):
        value = low + (high - low) * number / _LINES
        y = place(first, value)[1]
        draw.line([(x0, y), (x1, y)], _GRID)
        draw.text((x0 - 8, y), f"{value:.3g}", _SOFT, small, anchor="rm")
    draw.text((x0, y0 + 10), f"{first:.4g}", _SOFT, small, anchor="mt")
    draw.text((x1, y0 + 10), f"{last:.4g}", _SOFT, small, anchor="rt")
    draw.text(((x0 + x1) / 2, y0 + 10), "epoch", _SOFT, small, anchor="mt")
    draw.text((x0, 10), printable(name), _INK, font)
    for number, (split, points) in enumerate(reversed([*lines.items()])):
        colour = _COLOURS[split]
        if not points:
            continue
        draw.text((x1 - 64 * number, 10), split, colour, font, anchor="ra")
        places = [place(*point) for point in points]
        draw.line(places, colour, 2, joint="curve")
        for x, y in places:
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], colour)
