"""Strokes of an SVG that was drawn by hand: paths, polylines and lines in the order of the file, curves as short lines.

What cannot be read as a pen's movement (arcs, skewed groups) is refused by its name; nothing outside the file is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from xml.parsers import expat

import numpy as np

from .line import Floats, LineError

_PIECES = 12  # short lines that a curve becomes; what follows takes points at equal distances anyway
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TOKENS = re.compile(rf"[A-Za-z]|{_NUMBER}")
_TAKES = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "Z": 0}  # numbers that a command takes
_TRANSFORM = re.compile(r"\s*(\w+)\s*\(([^)]*)\)\s*,?")


def svg_strokes(data: bytes) -> list[Floats]:
    """Points of each stroke, (k, 2), y down, in units of the file. Raises: LineError for what is damaged or not understood."""
    strokes: list[Floats] = []
    placed = [np.eye(3)]

    def begin(name: str, attributes: dict[str, str]) -> None:
        placed.append(placed[-1] @ _transform(attributes.get("transform", "")))
        for stroke in _drawn(name.rpartition(":")[2], attributes):
            strokes.append(stroke @ placed[-1][:2, :2].T + placed[-1][:2, 2])

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
    points = list[Floats]()
    here = begun = control = np.zeros(2)
    for command, numbers in _commands(said):
        kind, base = command.upper(), here if command.islower() else np.zeros(2)
        if kind == "M":
            if len(points) > 1:
                yield np.array(points)
            here = begun = base + numbers
            points, control = [here], here
            continue
        if kind == "Z":
            ends = [here, begun]
        elif kind == "H":
            ends = [here, np.array([base[0] + numbers[0], here[1]])]
        elif kind == "V":
            ends = [here, np.array([here[0], base[1] + numbers[0]])]
        else:
            ends = [here, *(base + numbers.reshape(-1, 2))]
            if kind in "ST":  # the first control point mirrors the one before
                ends.insert(1, 2 * here - control)
        points += _curve(ends)
        here = ends[-1]
        control = ends[-2] if kind in "CSQT" else here
    if points:
        yield np.array(points)


def _commands(said: str) -> Iterator[tuple[str, Floats]]:
    tokens, place, command = _TOKENS.findall(said), 0, ""
    while place < len(tokens):
        if tokens[place].isalpha():
            command, place = tokens[place], place + 1
            if command.upper() not in _TAKES:
                raise LineError(f"SVG with the path command {command}")
        elif command in "Zz":
            raise LineError("SVG that is damaged")
        count = _TAKES[command.upper()]
        numbers = np.array(tokens[place : place + count], np.float64)
        if len(numbers) < count:
            raise LineError("SVG that is damaged")
        yield command, numbers
        place += count
        command = {"M": "L", "m": "l"}.get(command, command)  # more pairs behind a move are lines


def _curve(ends: Sequence[Floats]) -> list[Floats]:
    """Points of a Bezier curve behind its first one: de Casteljau, for a line the end alone."""
    if len(ends) == 2:
        return [ends[1]]
    at = np.linspace(0, 1, _PIECES + 1)[1:, None, None]
    row = np.repeat(np.stack(ends)[None], _PIECES, axis=0)
    while row.shape[1] > 1:
        row = (1 - at) * row[:, :-1] + at * row[:, 1:]
    return list(row[:, 0])
