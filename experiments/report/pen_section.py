"""Lines that a recipe wrote beforehand, `strokes.json` among what it shows: chosen on the page and drawn stroke by stroke."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headstart.pipeline.doors import records

from .markup import tag, text
from .page import Section

FILE = "strokes.json"
_MOST_LINES, _MOST_POINTS = 200, 100_000


@dataclass(frozen=True)
class PenLines:
    """Attributes: lines: text, bias, hand and strokes of each, as the page's script reads them; the section that shows them."""

    lines: Sequence[dict[str, Any]]
    section: Section


def pen_lines(data: bytes) -> PenLines | None:
    """What `{"lines": [{"text", "bias", "hand", "strokes": [[[x, y], ...], ...]}, ...]}` says; None if it is not that."""
    try:
        lines = [_line(one) for one in records.parse(data, FILE)["lines"][:_MOST_LINES]]
    except (records.DamagedError, KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return None
    if not lines or sum(len(stroke) for line in lines for stroke in line["strokes"]) > _MOST_POINTS:
        return None
    texts = "".join(tag("option", {"value": one}) for one in dict.fromkeys(line["text"] for line in lines))
    controls = (
        f'<div class="controls" id="pen-controls" hidden><label>text <input id="pen-text" list="pen-texts" size="28"></label>'
        f'<datalist id="pen-texts">{texts}</datalist>{_choice("bias", [line["bias"] for line in lines])}'
        f'{_choice("hand", [line["hand"] for line in lines])}<button type="button" id="pen-write">write</button></div>'
    )
    paper = '<svg id="paper" role="img" aria-label="the line that was chosen, drawn as a pen wrote it"></svg>'
    how = "Lines that were written beforehand. Type a part of one, choose how tidy it is and in which hand, and see its strokes."
    return PenLines(
        lines, Section("pen", "How it writes", how, f'{controls}{paper}<p class="soft" id="pen-said" role="status"></p>')
    )


def _choice(name: str, values: Sequence[str]) -> str:
    options = "".join(f"<option>{text(value)}</option>" for value in dict.fromkeys(values))
    return f'<label>{name} <select id="pen-{name}">{options}</select></label>'


def _line(said: Any) -> dict[str, Any]:
    strokes = [[[round(float(x), 2), round(float(y), 2)] for x, y in stroke] for stroke in said["strokes"] if stroke]
    if not strokes or not all(math.isfinite(number) for stroke in strokes for point in stroke for number in point):
        raise ValueError("strokes that cannot be drawn")
    return {**{name: str(said[name])[:120] for name in ("text", "bias", "hand")}, "strokes": strokes}
