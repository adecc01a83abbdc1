"""A layout as pixels, and as the structure that a network is to see in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from composing import EDGE
from grammar import Box, Element, Layout, Paint
from lettering import baseline, font
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from headstart.experiments.designs.description import CHANNELS, COLOURS

_IDS = {name: number for number, name in enumerate(COLOURS)}
_LARGEST = 40  # letters of this size and larger are as prominent as anything can be
_SCENES = 4


def structure(layout: Layout) -> NDArray[np.uint8]:
    """(4, 256, 256): text, image, colour, hierarchy.

    The masks are 1 in the boxes of lines of text, and of pictures and charts. The colour is an id, of text that of its letters.
    Hierarchy is how prominent a thing is, 0 to 255: text by the size of its letters, pictures by the square root of their part
    of the page.
    """
    said = np.zeros((len(CHANNELS), EDGE, EDGE), np.uint8)
    text, image, colour, prominence = said
    _fill(colour, layout.page, _IDS[layout.paper.name])
    _fill(colour, layout.band, _IDS[layout.accent.name])
    for element in layout.elements:
        if element.kind in ("picture", "round", "chart"):
            part = _area(element.box) / _area(layout.page)
            for plane, value in ((image, 1), (colour, _IDS["picture"]), (prominence, round(255 * min(1.0, part) ** 0.5))):
                _fill(plane, element.box, value, is_round=element.kind == "round")
        if element.kind == "button":
            _fill(colour, element.box, _IDS[layout.accent.name])
        for line in element.lines:
            assert element.ink is not None
            _fill(text, line.box, 1)
            _fill(colour, line.box, _IDS[element.ink.name])
            _fill(prominence, line.box, round(255 * min(1.0, element.size / _LARGEST)))
    return said


def _fill(plane: NDArray[np.uint8], box: Box, value: int, is_round: bool = False) -> None:
    left, top, right, bottom = box
    inside = plane[top:bottom, left:right]
    inside[ellipse(right - left, bottom - top) if is_round else slice(None)] = value


def ellipse(width: int, height: int) -> NDArray[np.bool_]:
    """(height, width): the pixels whose centres the ellipse has that touches all four edges."""
    rows, columns = np.mgrid[:height, :width]
    return np.asarray(((2 * columns + 1 - width) / width) ** 2 + ((2 * rows + 1 - height) / height) ** 2 <= 1)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def drawn(layout: Layout, draw: np.random.Generator) -> NDArray[np.uint8]:
    """(256, 256, 3) RGB. Args: draw: of what is in pictures and charts."""
    canvas = Image.new("RGB", (EDGE, EDGE), layout.around.rgb)
    pen = ImageDraw.Draw(canvas)
    _rectangle(pen, layout.page, layout.paper)
    _rectangle(pen, layout.band, layout.accent)
    if layout.frame is not None:
        left, top, right, bottom = layout.frame
        pen.rectangle((left, top, right - 1, bottom - 1), outline=layout.accent.rgb)
    for element in layout.elements:
        _draw_element(canvas, pen, element, layout, draw)
    return np.asarray(canvas)


def _rectangle(pen: Any, box: Box, paint: Paint) -> None:
    pen.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=paint.rgb)


def _draw_element(canvas: Any, pen: Any, element: Element, layout: Layout, draw: np.random.Generator) -> None:
    left, top, right, bottom = element.box
    if element.kind in ("picture", "round"):
        pixels = scene(right - left, bottom - top, draw)
        mask = Image.fromarray(ellipse(right - left, bottom - top).astype(np.uint8) * 255) if element.kind == "round" else None
        canvas.paste(Image.fromarray(pixels), (left, top), mask)
    if element.kind == "chart":
        canvas.paste(Image.fromarray(chart(right - left, bottom - top, layout.accent.rgb, draw)), (left, top))
    if element.kind == "button":
        _rectangle(pen, element.box, layout.accent)
    for line in element.lines:
        assert element.ink is not None
        x, y = line.box[0], baseline(line.box[1], element.size)
        if element.has_bullets:
            middle = y - round(0.3 * element.size)
            pen.ellipse((x - 7, middle - 2, x - 4, middle + 1), fill=layout.accent.rgb)
        pen.text((x, y), line.words, font=font(element.size), fill=element.ink.rgb, anchor="ls")


def scene(width: int, height: int, draw: np.random.Generator) -> NDArray[np.uint8]:
    """A picture (height, width, 3): hills below a sky, a head and shoulders, things on a table, or a texture; with grain."""
    kind, colours = int(draw.integers(_SCENES)), draw.integers(20, 236, (6, 3))
    rows = np.linspace(0, 1, height)[:, None, None]
    pixels = (colours[0] * (1 - rows) + colours[1] * rows) * np.ones((1, width, 1))
    canvas = Image.fromarray(pixels.astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    if kind == 0:
        side = int(draw.integers(min(width, height) // 6, min(width, height) // 3))
        x, y = int(draw.integers(0, width - side)), int(draw.integers(0, max(1, height // 3)))
        pen.ellipse((x, y, x + side, y + side), fill=tuple(colours[2].tolist()))
        for number in range(3):
            level = height * (0.45 + 0.18 * number)
            heights = [
                (int(place * width / 6), int(level + int(draw.integers(-height // 8, height // 8 + 1)))) for place in range(7)
            ]
            pen.polygon([*heights, (width, height), (0, height)], fill=tuple(colours[3 + number].tolist()))
    elif kind == 1:
        middle, side = width * (0.35 + 0.3 * int(draw.integers(101)) / 100), min(width, height)
        pen.ellipse((middle - 0.42 * side, 0.62 * height, middle + 0.42 * side, 1.6 * height), fill=tuple(colours[2].tolist()))
        pen.ellipse((middle - 0.2 * side, 0.18 * height, middle + 0.2 * side, 0.7 * height), fill=tuple(colours[3].tolist()))
        pen.pieslice(
            (middle - 0.22 * side, 0.14 * height, middle + 0.22 * side, 0.64 * height), 180, 360, tuple(colours[4].tolist())
        )
    elif kind == 2:
        pen.rectangle((0, 0.7 * height, width, height), fill=tuple(colours[2].tolist()))
        for number in range(3):
            x, wide = int(draw.integers(width)), int(draw.integers(width // 8 + 1, width // 4 + 2))
            tall = int(draw.integers(height // 4, height * 2 // 3 + 1))
            shape = pen.ellipse if draw.integers(2) else pen.rectangle
            shape(
                (x - wide // 2, round(0.85 * height) - tall, x + wide // 2, round(0.85 * height)),
                fill=tuple(colours[3 + number].tolist()),
            )
    else:
        coarse = np.clip(colours[2] + draw.integers(-90, 91, (6, 6, 1)), 0, 255).astype(np.uint8)
        canvas = Image.blend(canvas, Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), 0.75)
    grain = draw.integers(-10, 11, (height, width, 1), dtype=np.int16)
    return np.clip(np.asarray(canvas).astype(np.int16) + grain, 0, 255).astype(np.uint8)


def chart(width: int, height: int, colour: tuple[int, int, int], draw: np.random.Generator) -> NDArray[np.uint8]:
    """Bars, or a line, on a light panel with axes (height, width, 3)."""
    canvas = Image.new("RGB", (width, height), (236, 238, 240))
    pen = ImageDraw.Draw(canvas)
    left, bottom, count = 8, height - 8, int(draw.integers(4, 8))
    for level in range(1, 4):
        pen.line((left, bottom * level // 4, width - 5, bottom * level // 4), fill=(208, 212, 216))
    values = [int(draw.integers(height // 6, bottom - 5)) for _ in range(count)]
    pitch = (width - left - 8) / count
    if draw.integers(2):
        for number, value in enumerate(values):
            x = left + 3 + number * pitch
            pen.rectangle((round(x), bottom - value, round(x + 0.65 * pitch), bottom), fill=colour)
    else:
        points = [(round(left + 3 + (number + 0.5) * pitch), bottom - value) for number, value in enumerate(values)]
        pen.line(points, fill=colour, width=2)
        for x, y in points:
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
    pen.line([(left, 4), (left, bottom), (width - 5, bottom)], fill=(90, 94, 100))
    return np.asarray(canvas)
