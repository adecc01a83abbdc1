"""Pictures of numbers, drawn with Pillow: points of pairs, how numbers are distributed, and a number with its intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from headstart.pipeline.text import printable

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _RIGHT = 560, 420, 72, 40, 56, 20
_INK, _SOFT, _GRID, _PAPER, _BLUE, _RED = (
    (29, 28, 26),
    (106, 104, 98),
    (230, 227, 220),
    (252, 251, 249),
    (36, 86, 201),
    (194, 65, 12),
)
_LINES = 4
_MOST_POINTS = 4000
_BINS = 40


def points_plot(x: NDArray[Any], y: NDArray[Any], x_name: str, y_name: str, diagonal: bool = False) -> Image.Image:
    """A point a pair, of many an even choice; the line of medians of ten equal parts over it, or the diagonal."""
    image, draw, place = _axes(_bounds(x), _bounds(y) if not diagonal else _bounds(np.concatenate([x, y])), x_name, y_name)
    chosen = np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).astype(int)
    for one, other in zip(x[chosen].tolist(), y[chosen].tolist(), strict=True):
        left, top = place(one, other)
        draw.ellipse([left - 1, top - 1, left + 1, top + 1], _BLUE)
    if diagonal:
        low, high = max(x.min(), y.min()), min(x.max(), y.max())
        draw.line([place(low, low), place(high, high)], _RED, 2)
        return image
    parts = [part for part in np.array_split(np.argsort(x, kind="stable"), 10) if len(part)]
    draw.line([place(float(np.median(x[part])), float(np.median(y[part]))) for part in parts], _RED, 2)
    return image


def bars_plot(values: Mapping[str, NDArray[Any]], name: str) -> Image.Image:
    """Histograms, one below the other, of numbers by the name of their kind."""
    every = np.concatenate(list(values.values()))
    bounds = _bounds(every)
    panels = []
    for kind, numbers in values.items():
        counts, edges = np.histogram(numbers, _BINS, bounds)
        title = f"{printable(kind)} {name}".strip()
        image, draw, place = _axes(bounds, (0.0, max(1.0, float(counts.max()))), title, "results")
        for count, low, high in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            draw.rectangle([place(low, count), place(high, 0)], _BLUE if count else _PAPER)
        panels.append(image)
    whole = Image.new("RGB", (_WIDTH, _HEIGHT * len(panels)), _PAPER)
    for number, panel in enumerate(panels):
        whole.paste(panel, (0, _HEIGHT * number))
    return whole


def curve_plot(points: Sequence[tuple[float, float, float, float]], x_name: str, y_name: str) -> Image.Image:
    """A line through points (x, y), each with the interval that its last two numbers are; at least one point."""
    numbers = np.array(points, np.float64)
    image, draw, place = _axes(_bounds(numbers[:, 0]), _bounds(numbers[:, 1:]), x_name, y_name)
    for x, y, low, high in points:
        draw.line([place(x, low), place(x, high)], _SOFT)
        left, top = place(x, y)
        draw.ellipse([left - 3, top - 3, left + 3, top + 3], _BLUE)
    draw.line([place(x, y) for x, y, *_ in points], _BLUE, 2)
    return image


def _bounds(values: NDArray[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _axes(
    x: tuple[float, float], y: tuple[float, float], x_name: str, y_name: str
) -> tuple[Image.Image, ImageDraw.ImageDraw, Any]:
    image = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    draw = ImageDraw.Draw(image)
    small, font = ImageFont.load_default(13), ImageFont.load_default(15)
    x0, x1, y0, y1 = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, _TOP

    def place(one: float, other: float) -> tuple[float, float]:
        return x0 + (x1 - x0) * (one - x[0]) / (x[1] - x[0]), y0 + (y1 - y0) * (other - y[0]) / (y[1] - y[0])

    for number in range(_LINES + 1):
        across, up = (low + (high - low) * number / _LINES for low, high in (x, y))
        left, top = place(across, up)
        draw.line([(x0, top), (x1, top)], _GRID)
        draw.text((x0 - 8, top), f"{up:.3g}", _SOFT, small, anchor="rm")
        draw.text((left, y0 + 8), f"{across:.3g}", _SOFT, small, anchor="mt")
    draw.text((x0, 12), printable(y_name), _INK, font)
    draw.text(((x0 + x1) / 2, _HEIGHT - 22), printable(x_name), _INK, font, anchor="mt")
    return image, draw, place
