"""What is said of a design: goal, format, tone and four scores, as JSON, and the colours by which its structure is coded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headstart.pipeline.doors import records
from headstart.pipeline.errors import HeadstartError

GOALS = ("sell", "inform", "teach", "invite")
DESIGN_FORMATS = ("poster", "slide", "card")
SCORES = ("alignment", "contrast", "whitespace", "hierarchy")
CHANNELS = ("text", "image", "colour", "hierarchy")
# Of each colour id its RGB as drawn, give or take a shade; what is around the page and what is inside pictures have an id, too.
COLOURS: dict[str, tuple[int, int, int]] = {
    "around": (214, 214, 218),
    "picture": (120, 130, 130),
    "white": (252, 252, 250),
    "cream": (246, 236, 212),
    "silver": (190, 194, 200),
    "grey": (124, 128, 136),
    "slate": (62, 68, 80),
    "black": (22, 22, 26),
    "red": (206, 44, 48),
    "orange": (240, 132, 38),
    "yellow": (248, 208, 60),
    "green": (46, 140, 80),
    "teal": (30, 150, 160),
    "blue": (40, 84, 180),
    "purple": (110, 60, 160),
    "pink": (236, 110, 160),
}


@dataclass(frozen=True)
class Description:
    """Attributes: goal, format: of GOALS and DESIGN_FORMATS. tone: 0 calm to 1 loud. scores: 0 to 1, in the order of SCORES."""

    goal: str
    format: str
    tone: float
    scores: tuple[float, ...]


def read_description(text: str, where: str) -> Description:
    """What JSON says of a design. Raises: HeadstartError with `where` and what is wrong: missing, unknown, outside its range."""
    said = records.parse(text, where, is_finite=False)
    if not isinstance(said, dict):
        raise HeadstartError(f"{where}: the metadata are no JSON object. Write {{'goal': ..., 'format': ..., 'tone': ...}}")
    goal, form = (_one_of(said, name, known, where) for name, known in (("goal", GOALS), ("format", DESIGN_FORMATS)))
    grammar = said.get("grammar")
    if not isinstance(grammar, dict):
        raise HeadstartError(f"{where}: the metadata have no 'grammar', expected an object with {', '.join(SCORES)}")
    return Description(goal, form, _part(said, "tone", where), tuple(_part(grammar, name, where) for name in SCORES))


def _one_of(said: Mapping[str, Any], name: str, known: tuple[str, ...], where: str) -> str:
    value = said.get(name)
    if value not in known:
        what = f"no '{name}'" if name not in said else f"{name} {str(value)[:40]!r}"
        raise HeadstartError(f"{where}: the metadata have {what}, expected one of {', '.join(known)}")
    return str(value)


def _part(said: Mapping[str, Any], name: str, where: str) -> float:
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        what = f"no '{name}'" if name not in said else f"{name} {str(value)[:40]}"
        raise HeadstartError(f"{where}: the metadata have {what}, expected a number from 0 to 1")
    return float(value)
