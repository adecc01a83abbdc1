"""Written lines as files: SVG of centre lines in millimetres, G-code, a picture, JSON lines or numbers."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.pipeline.errors import HeadstartError

from .line import Floats, PenLine
from .sources import as_json_lines

_LINE_SPACING = 1.6  # of the height that letters have
_LETTER_UNITS = 4.0  # a lower-case letter's height, about, in units
_DOT_MM = 0.01
_LONG_UNITS = 80.0  # a shorter line has no direction that could be told from its letters


@dataclass(frozen=True)
class DrawingPage:
    """Attributes, in millimetres: width and height of the page (height 0: as high as it takes), its margin, height of a small
    letter, and where a line stands between the margins: 'left', 'center' or 'right'.
    """

    width: float = 210.0
    height: float = 0.0
    margin: float = 15.0
    letter: float = 3.0
    align: str = "left"


@dataclass(frozen=True)
class PenCommands:
    """G-code around the strokes; free text, because plotters lift their pens in many ways."""

    up: str = "M3 S0"
    down: str = "M3 S90"
    feed: float = 3000.0  # mm a minute


@dataclass(frozen=True)
class Laid:
    """Strokes on a page: points of each (k, 2) in millimetres from its upper left corner."""

    strokes: tuple[Floats, ...]
    width: float
    height: float


def laid_out(lines: Sequence[PenLine], page: DrawingPage) -> Laid:
    """Each line below the one before, none beyond the margins: one that is too long makes all of them smaller.

    Raises: HeadstartError if the page is too low for them, or has no room between its margins.
    """
    room = page.width - 2 * page.margin
    if not room > 0:
        raise HeadstartError(f"a page of {page.width:g} mm has no room between margins of {page.margin:g} mm. Take a wider one")
    parts = [_upright(line) for line in lines]
    widest = max((float(np.ptp(np.concatenate(part)[:, 0])) for part in parts), default=1.0)
    scale = min(page.letter / _LETTER_UNITS, room / max(widest, 1e-9))
    strokes, top = list[Floats](), page.margin
    for part in parts:
        points = np.concatenate(part) * scale
        low, high = points.min(axis=0), points.max(axis=0)
        left = page.margin + {"left": 0.0, "center": 0.5, "right": 1.0}[page.align] * (room - (high[0] - low[0]))
        strokes += [stroke * scale - low + (left, top) for stroke in part]
        top += max(high[1] - low[1], _LINE_SPACING * page.letter) + _LINE_SPACING * page.letter / 2
    bottom = max((float(stroke[:, 1].max()) for stroke in strokes), default=top) + page.margin
    if page.height and bottom > page.height + 1e-9:
        raise HeadstartError(
            f"the lines need a page of {bottom:.0f} mm, and it has {page.height:g}. Take --height {bottom:.0f}, or fewer lines"
        )
    return Laid(tuple(strokes), page.width, page.height or bottom)


def _upright(line: PenLine) -> list[Floats]:
    """Strokes turned so that the line runs level: by the slope of a straight line through its points."""
    strokes = line.strokes
    points = np.concatenate(strokes)
    spread = points[:, 0] - points[:, 0].mean()
    slope = float((spread * points[:, 1]).sum() / (spread**2).sum()) if np.ptp(points[:, 0]) > _LONG_UNITS else 0.0
    return [np.stack([stroke[:, 0], stroke[:, 1] - slope * stroke[:, 0]], axis=1) for stroke in strokes]


def as_svg(laid: Laid) -> bytes:
    """One path a stroke, without fill; sizes in millimetres."""
    paths = "".join(f'<path d="M{_points(stroke)}"/>\n' for stroke in laid.strokes)
    size = f'width="{laid.width:.2f}mm" height="{laid.height:.2f}mm" viewBox="0 0 {laid.width:.2f} {laid.height:.2f}"'
    style = 'fill="none" stroke="black" stroke-width="0.35" stroke-linecap="round" stroke-linejoin="round"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<g {style}>\n{paths}</g>\n</svg>\n'.encode()


def _points(stroke: Floats) -> str:
    """A dot is a very short line: vpype leaves out what has no length."""
    points = [f"{x:.3f} {y:.3f}" for x, y in stroke]
    if len(set(points)) == 1:
        points = [points[0], f"{stroke[0, 0] + _DOT_MM:.3f} {stroke[0, 1]:.3f}"]
    return "L".join(points)


def as_gcode(laid: Laid, pen: PenCommands) -> bytes:
    """Strokes in the order of writing, y upwards from the lower left corner; the pen is up whenever it travels."""
    lines = ["G21 ; millimetres", "G90 ; absolute", pen.up]
    for stroke in laid.strokes:
        (x, y), *others = [(float(x), laid.height - float(y)) for x, y in stroke]
        lines += [f"G0 X{x:.3f} Y{y:.3f}", pen.down]
        lines += [f"G1 X{x:.3f} Y{y:.3f} F{pen.feed:g}" for x, y in others]
        lines.append(pen.up)
    return "\n".join([*lines, "G0 X0 Y0", ""]).encode()


def as_png(laid: Laid, dots_a_mm: float = 6.0) -> bytes:
    from PIL import Image, ImageDraw

    size = (max(1, round(laid.width * dots_a_mm)), max(1, round(laid.height * dots_a_mm)))
    if size[0] * size[1] > 100_000_000:
        raise HeadstartError(f"a picture of {size[0]:,} x {size[1]:,} pixels is too large. Take fewer lines, or --format svg")
    picture = Image.new("L", size, 255)
    pencil = ImageDraw.Draw(picture)
    for stroke in laid.strokes:
        points = [(float(x), float(y)) for x, y in (stroke if len(stroke) > 1 else np.repeat(stroke, 2, axis=0)) * dots_a_mm]
        pencil.line(points, fill=0, width=max(1, round(0.35 * dots_a_mm)), joint="curve")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def as_numbers(lines: Sequence[PenLine]) -> bytes:
    """An array (points, 4) float32 for numpy: number of the line, x and y from the point before, 1 at the end of a stroke."""
    rows = [
        np.column_stack([np.full(len(line), number), line.offsets, line.ends]).astype(np.float32)
        for number, line in enumerate(lines)
    ]
    buffer = io.BytesIO()
    np.save(buffer, np.concatenate(rows).astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def drawn_as(form: str, lines: Sequence[PenLine], page: DrawingPage, pen: PenCommands) -> bytes:
    """The bytes of a file of that form: one of FORMS."""
    drawings: dict[str, Callable[[], bytes]] = {
        "svg": lambda: as_svg(laid_out(lines, page)),
        "png": lambda: as_png(laid_out(lines, page)),
        "gcode": lambda: as_gcode(laid_out(lines, page), pen),
        "json": lambda: "".join(f"{line}\n" for line in as_json_lines(lines)).encode(),
        "npy": lambda: as_numbers(lines),
    }
    return drawings[form]()


FORMS = ("svg", "png", "gcode", "json", "npy")
