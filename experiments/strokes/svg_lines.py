"""Strokes of an SVG that was drawn by hand: paths, polylines and lines in the order of the file, curves as short lines.

Groups that are turned or skewed are refused by their names; nothing outside the file is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from xml.parsers import expat

import numpy as np

from headstart.pipeline.errors import HeadstartError

from .line import Floats, LineError, coordinates_of

_PIECES = 12  # short lines that a curve becomes; what follows takes points at equal distances anyway
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TRANSFORM = re.compile(r"\s*(\w+)\s*\(([^)]*)\)\s*,?")


def svg_strokes(data: bytes) -> list[Floats]:
    """Points of each stroke, (k, 2), y down, in units of the file. Raises: LineError for what is damaged or not understood."""
    strokes: list[Floats] = []
    placed: list[Floats] = [np.eye(3)]

    def begin(name: str, attributes: dict[str, str]) -> None:
        placed.append(coordinates_of(placed[-1] @ coordinates_of(_transform(attributes.get("transform", "")))))
        for stroke in _drawn(name.rpartition(":")[2], attributes):
            strokes.append(coordinates_of(stroke) @ placed[-1][:2, :2].T + placed[-1][:2, 2])

    def refuse(name: str, system: str | None, public: str | None, has_entities: bool) -> None:
        if has_entities:
            raise LineError("SVG that declares entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.StartDoctypeDeclHandler = begin, refuse
    parser.EndElementHandler = lambda name: placed.pop()
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, KeyError, ValueError, IndexError) as error:
        if isinstance(error, LineError):
            raise
        raise LineError("SVG that is damaged") from None
    return strokes


def _drawn(name: str, attributes: dict[str, str]) -> Iterator[Floats]:
    if name == "path":
        yield from _path(attributes.get("d", ""))
    elif name in ("polyline", "polygon"):
        points = np.array(re.findall(_NUMBER, attributes["points"]), np.float64).reshape(-1, 2)
        yield np.concatenate([points, points[:1]]) if name == "polygon" else points
    elif name == "line":
        yield np.array([[float(attributes.get(axis + end, 0)) for axis in "xy"] for end in "12"])


def _transform(said: str) -> Floats:
    """(3, 3). Raises: LineError for one that is not understood."""
    whole = np.eye(3)
    for name, numbers in _TRANSFORM.findall(said):
        given = [float(number) for number in re.findall(_NUMBER, numbers)]
        if name == "translate":
            a, b, c, d, e, f = 1.0, 0.0, 0.0, 1.0, given[0], given[1] if len(given) > 1 else 0.0
        elif name == "scale":
            a, b, c, d, e, f = given[0], 0.0, 0.0, given[-1], 0.0, 0.0
        elif name == "matrix":
            a, b, c, d, e, f = given
        else:
            raise LineError(f"SVG with {name}()")
        whole = whole @ np.array([[a, c, e], [b, d, f], [0.0, 0.0, 1.0]])
    return whole


def _path(said: str) -> Iterator[Floats]:
    """Each part of a path that begins with the pen put down."""
    try:
        from svg.path import Close, Line, Move, parse_path
    except ImportError:
        raise HeadstartError(
            "a line drawn as SVG needs the package svg.path: pip install 'headstart[handwriting]'. Or give it as .npz or .jsonl"
        ) from None
    points = list[complex]()
    for segment in parse_path(said):
        if isinstance(segment, Move):
            if len(points) > 1:
                yield _pairs(points)
            points = [segment.end]
        elif isinstance(segment, Close | Line):
            points.append(segment.end)
        else:
            points += [segment.point(piece / _PIECES) for piece in range(1, _PIECES + 1)]
    if points:
        yield _pairs(points)


def _pairs(points: Sequence[complex]) -> Floats:
    return np.array(points).view(np.float64).reshape(-1, 2)
