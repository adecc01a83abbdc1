"""What a layout is, and how good it is: four scores from 0 to 1 that are functions of its boxes, sizes and colours alone.

Boxes are (left, top, right, bottom) in pixels, right and bottom exclusive.

    alignment   mean over all pairs of elements in one column of 1 - min(d, 8) / 8, where d is the smallest distance of their left
                edges, centres or right edges; in one column are two whose widths overlap by at least half of the narrower; 1
                without such a pair
    contrast    mean over text, weighted by the area of its lines, of ln(ratio) / ln(21), where ratio is that of WCAG 2.2,
                (L1 + 0.05) / (L2 + 0.05) with relative luminances L1 >= L2
    whitespace  max(0, 1 - |e - 0.6| / 0.4), where e is the part of the page that no box covers
    hierarchy   mean over successive levels of text that are there (title, subtitle, body) of ln(s1 / s2) / ln(2), cut to 0 ... 1,
                where s1 and s2 are the mean sizes of their letters; 0 if there is only one level
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

Box = tuple[int, int, int, int]
Colour = tuple[int, int, int]

TITLE, SUBTITLE, BODY = 0, 1, 2
_NEAR = 8  # pixels
_BEST_EMPTY, _EMPTY_RANGE = 0.6, 0.4


@dataclass(frozen=True)
class Paint:
    """A colour as drawn, and the name of its id."""

    name: str
    rgb: Colour


@dataclass(frozen=True)
class Line:
    """Of text: its words and the box that they fill."""

    words: str
    box: Box


@dataclass(frozen=True)
class Element:
    """What is on a page.

    Attributes:
        kind: text, button, picture, round (a picture cut to an ellipse) or chart.
        lines, size, level, ink, ground: of text and buttons; letters are `size` pixels high from ascender to descender.
        has_bullets: a dot stands before each line.
    """

    kind: str
    box: Box
    lines: tuple[Line, ...] = ()
    size: int = 0
    level: int = BODY
    ink: Paint | None = None
    ground: Paint | None = None
    has_bullets: bool = False


@dataclass(frozen=True)
class Layout:
    """A page and what is on it, from behind to front.

    Attributes:
        around, paper, accent: colours of what is around the page, of the page, of band, buttons and bullets.
        band: a stripe of accent along an edge. frame: an outline inside the page, or None.
    """

    page: Box
    around: Paint
    paper: Paint
    accent: Paint
    band: Box
    frame: Box | None
    elements: tuple[Element, ...]


def scores(layout: Layout) -> dict[str, float]:
    """The four by name, rounded to 4 decimals."""
    said = {
        "alignment": alignment([element.box for element in layout.elements]),
        "contrast": contrast(layout.elements),
        "whitespace": whitespace(layout.page, [element.box for element in layout.elements]),
        "hierarchy": hierarchy(layout.elements),
    }
    return {name: round(value, 4) for name, value in said.items()}


def alignment(boxes: list[Box]) -> float:
    """See the top of this file."""
    said = []
    for first, second in itertools.combinations(boxes, 2):
        shared = min(first[2], second[2]) - max(first[0], second[0])
        if 2 * shared < min(first[2] - first[0], second[2] - second[0]):
            continue
        centres = abs(first[0] + first[2] - second[0] - second[2]) / 2
        distance = min(abs(first[0] - second[0]), centres, abs(first[2] - second[2]))
        said.append(1 - min(distance, _NEAR) / _NEAR)
    return sum(said) / len(said) if said else 1.0


def contrast(elements: tuple[Element, ...]) -> float:
    """See the top of this file; 0 without text."""
    total, area = 0.0, 0
    for element in elements:
        if element.ink is None or element.ground is None:
            continue
        pixels = sum((line.box[2] - line.box[0]) * (line.box[3] - line.box[1]) for line in element.lines)
        total += pixels * math.log(ratio(element.ink.rgb, element.ground.rgb)) / math.log(21)
        area += pixels
    return total / area if area else 0.0


def ratio(first: Colour, second: Colour) -> float:
    """Contrast of two colours, 1 to 21. WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: Colour) -> float:
    """Relative luminance of sRGB, 0 to 1."""
    parts = (value / 255 for value in colour)
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def whitespace(page: Box, boxes: list[Box]) -> float:
    """See the top of this file."""
    left, top, right, bottom = page
    is_empty = np.ones((bottom - top, right - left), bool)
    for box in boxes:
        is_empty[max(0, box[1] - top) : max(0, box[3] - top), max(0, box[0] - left) : max(0, box[2] - left)] = False
    return max(0.0, 1 - abs(float(is_empty.mean()) - _BEST_EMPTY) / _EMPTY_RANGE)


def hierarchy(elements: tuple[Element, ...]) -> float:
    """See the top of this file."""
    sizes = []
    for level in (TITLE, SUBTITLE, BODY):
        there = [element.size for element in elements if element.lines and element.level == level]
        if there:
            sizes.append(sum(there) / len(there))
    steps = [min(1.0, max(0.0, math.log(first / second) / math.log(2))) for first, second in itertools.pairwise(sizes)]
    return sum(steps) / len(steps) if steps else 0.0
