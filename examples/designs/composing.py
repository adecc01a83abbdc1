"""From a description to a layout: where things stand, how large they are, and in which colours, drawn at random.

How far a layout keeps the rules is drawn, too: misplacement, strength of contrast, fullness and the ratio of sizes are
independent of goal, format and tone, so that no score can be guessed from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from grammar import BODY, SUBTITLE, TITLE, Box, Colour, Element, Layout, Line, Paint, ratio
from lettering import line_width

from headstart.experiments.designs.description import COLOURS, DESIGN_FORMATS, GOALS

EDGE = 256
PAGES = {"poster": (186, 248), "slide": (248, 168), "card": (216, 216)}
# From calm to loud: papers and accents of the four quarters of tone; neighbours share colours, so that no colour alone tells.
PAPERS = (
    ("white", "silver", "slate"),
    ("white", "cream", "blue"),
    ("cream", "teal", "purple"),
    ("yellow", "pink", "red", "orange"),
)
ACCENTS = (
    ("grey", "slate", "blue"),
    ("blue", "teal", "green"),
    ("green", "purple", "orange"),
    ("red", "pink", "yellow", "purple"),
)
INKS = tuple(name for name in COLOURS if name not in ("around", "picture"))
CONTRASTS = (1.6, 2.2, 3.0, 4.0, 5.5, 7.5, 10.0, 14.0, 21.0)  # evenly in their logarithm
WORDS = """
light summer open garden market music river house city night paper travel coffee winter school people story water green morning
space theatre street window field colour number island season journey letter dance bread forest project science history health
energy value plan team result change simple better early first today new our the and for with from
"""
_LEAST = 24  # pixels of an edge of a picture
HEADLINES = {
    "sell": "Sale Offer Fresh Deal Half Price New Best Save More Summer Winter Style Shoes Coffee Bikes",
    "inform": "Report Update City News Facts Water Health Energy Budget Traffic Weather Notice Results Annual",
    "teach": "How To Learn Basics Guide Steps Lesson Growth Methods Explained Part One Practice Maths",
    "invite": "Party Concert Opening Gala Join Us Together Night Jazz Dance Wedding Festival Friends",
}


@dataclass(frozen=True)
class Manner:
    """How a layout is made: misplacement in pixels, wished contrast (1 to 21), fullness 0 to 1, ratio of letters' sizes."""

    misplaced: int
    contrast: float
    fullness: float
    step: float
    body: int


@dataclass
class Column:
    """Where elements are put one below the other, until it is full."""

    left: int
    top: int
    right: int
    bottom: int
    gap: int
    is_centred: bool = False
    elements: list[Element] = field(default_factory=list)

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def room(self) -> int:
        return self.bottom - self.top


class Composer:
    """Draws one layout."""

    def __init__(self, draw: np.random.Generator) -> None:
        self._draw = draw
        self.goal, self.format = GOALS[int(draw.integers(len(GOALS)))], DESIGN_FORMATS[int(draw.integers(len(DESIGN_FORMATS)))]
        self.tone = int(draw.integers(1001)) / 1000
        self.manner = Manner(
            misplaced=max(0, int(draw.integers(-4, 23))),
            contrast=CONTRASTS[int(draw.integers(len(CONTRASTS)))],
            fullness=self._part(),
            step=1.0 + self._part(),
            body=int(draw.integers(8, 11)),
        )
        quarter = min(3, int(4 * self.tone))
        self.paper = self._paint(self._one(PAPERS[quarter]))
        accents = [name for name in ACCENTS[quarter] if ratio(COLOURS[name], self.paper.rgb) >= 1.25]
        self.accent = self._paint(self._one(tuple(accents) or ("black", "white")))
        self.around = self._paint("around")

    def layout(self) -> Layout:
        """The drawn layout."""
        width, height = (edge - int(self._draw.integers(0, 13)) for edge in PAGES[self.format])
        left, top = (EDGE - width) // 2, (EDGE - height) // 2
        page = (left, top, left + width, top + height)
        band, inner = self._band(page)
        inset = 8 + round(10 * (1 - self.manner.fullness))
        column = Column(
            inner[0] + inset, inner[1] + inset, inner[2] - inset, inner[3] - inset, 5 + round(5 * (1 - self.manner.fullness))
        )
        getattr(self, f"_{self.goal}")(column)
        frame = (inner[0] + 3, inner[1] + 3, inner[2] - 3, inner[3] - 3) if self.goal == "invite" else None
        return Layout(page, self.around, self.paper, self.accent, band, frame, tuple(column.elements))

    def _part(self) -> float:
        return int(self._draw.integers(10001)) / 10000

    def _one(self, choices: tuple[str, ...]) -> str:
        return choices[int(self._draw.integers(len(choices)))]

    def _paint(self, name: str) -> Paint:
        red, green, blue = (max(0, min(255, value + int(self._draw.integers(-7, 8)))) for value in COLOURS[name])
        return Paint(name, (red, green, blue))

    def _ink(self, ground: Colour) -> Paint:
        """Of two colours whose contrast is nearest to the wished one, either."""
        nearest = sorted(INKS, key=lambda name: abs(ratio(COLOURS[name], ground) - self.manner.contrast))
        legible = [name for name in nearest if ratio(COLOURS[name], ground) >= 1.4]
        return self._paint(self._one(tuple(legible[:2])))

    def _band(self, page: Box) -> tuple[Box, Box]:
        """The stripe, as thick as the tone is loud, and what it leaves of the page."""
        left, top, right, bottom = page
        thick = 4 + round(24 * self.tone)
        if self.format == "slide":
            return (left, top, left + thick, bottom), (left + thick, top, right, bottom)
        if self._draw.integers(2):
            return (left, top, right, top + thick), (left, top + thick, right, bottom)
        return (left, bottom - thick, right, bottom), (left, top, right, bottom - thick)

    def _size(self, level: int) -> int:
        factor = {TITLE: self.manner.step * self.manner.step, SUBTITLE: self.manner.step, BODY: 1.0}[level]
        return round(self.manner.body * factor)

    def _sell(self, column: Column) -> None:
        first, second = self._halves(column, 0.5)
        self._picture(first, round(first.room * (0.4 + 0.2 * self.manner.fullness)) if first is second else first.room)
        self._text(second, TITLE, self._headline(2), 2)
        self._text(second, SUBTITLE, f"{int(self._draw.integers(2, 99))}.{int(self._draw.integers(10))}0", 1)
        if self.manner.fullness > 0.4:
            self._text(second, BODY, self._prose(8), 2)
        self._button(second, self._one(("Buy now", "Order", "Get it", "Shop")))
        self._joined(column, first, second)

    def _inform(self, column: Column) -> None:
        self._text(column, TITLE, self._headline(3), 2)
        self._text(column, SUBTITLE, self._prose(5), 1)
        gutter = 10
        middle = column.left + (column.width - gutter) // 2
        sides = [Column(column.left, column.top, middle, column.bottom, column.gap)]
        sides.append(Column(middle + gutter, column.top, column.right, column.bottom, column.gap))
        with_picture = int(self._draw.integers(3))
        for number, side in enumerate(sides):
            if number == with_picture:
                self._picture(side, round(side.room * 0.4))
            for _ in range(1 + round(2 * self.manner.fullness)):
                self._text(side, BODY, self._prose(12), 2 + int(self._draw.integers(3)))
        column.elements += [*sides[0].elements, *sides[1].elements]

    def _teach(self, column: Column) -> None:
        self._text(column, TITLE, self._headline(3), 1)
        first, second = self._halves(column, 0.45 + 0.1 * self.manner.fullness)
        bottom, kept = first.bottom, 0 if first is not second else round(first.room * (0.35 + 0.1 * self.manner.fullness))
        first.bottom -= kept
        self._text(first, SUBTITLE, self._prose(3), 1)
        self._text(first, BODY, self._prose(30), 3 + round(3 * self.manner.fullness), has_bullets=True)
        first.bottom = bottom
        self._block(second, "chart", kept or round(second.room * (0.7 + 0.3 * self.manner.fullness)), second.width)
        self._joined(column, first, second)

    def _invite(self, column: Column) -> None:
        column.is_centred = True
        column.top += round(column.room * 0.15 * (1 - self.manner.fullness))
        if self._draw.integers(3):
            side = round(min(column.width, column.room) * (0.3 + 0.15 * self.manner.fullness))
            self._block(column, "round", side, side)
        self._text(column, SUBTITLE, self._prose(3), 1)
        self._text(column, TITLE, self._headline(3), 2)
        self._text(column, SUBTITLE, f"{int(self._draw.integers(1, 29))} {self._one(('May', 'June', 'July', 'March'))}", 1)
        if self.manner.fullness > 0.3:
            self._text(column, BODY, self._prose(10), 2)

    def _halves(self, column: Column, part: float) -> tuple[Column, Column]:
        """Two columns side by side on a slide; elsewhere twice the same."""
        if self.format != "slide":
            return column, column
        middle = column.left + round(column.width * part)
        sides = [(column.left, middle - 6), (middle + 6, column.right)]
        one, other = (Column(left, column.top, right, column.bottom, column.gap) for left, right in sides)
        return one, other

    def _joined(self, column: Column, first: Column, second: Column) -> None:
        if first is not second:
            column.elements += [*first.elements, *second.elements]

    def _headline(self, most: int) -> str:
        count = 1 + int(self._draw.integers(most))
        words = HEADLINES[self.goal].split()
        return " ".join(words[int(place)] for place in self._draw.permutation(len(words))[:count])

    def _prose(self, count: int) -> str:
        return " ".join(self._one(tuple(WORDS.split())) for _ in range(count)).capitalize()

    def _picture(self, column: Column, height: int) -> None:
        self._block(column, "picture", height, round(column.width * (0.75 + 0.25 * self._part())))

    def _shift(self, column: Column, width: int) -> int:
        """Where something so wide begins: on the guide of its column, or misplaced by up to so many pixels."""
        beside = int(self._draw.integers(self.manner.misplaced + 1))
        return column.left + beside + (column.width - self.manner.misplaced - width) // 2 * column.is_centred

    def _block(self, column: Column, kind: str, height: int, width: int) -> None:
        height, width = min(height, column.room), min(width, column.width - self.manner.misplaced)
        if height < _LEAST or width < _LEAST:
            return
        if kind == "round":
            height = width = min(height, width)
        left = self._shift(column, width)
        column.elements.append(Element(kind, (left, column.top, left + width, column.top + height)))
        column.top += height + column.gap

    def _text(self, column: Column, level: int, words: str, most: int, has_bullets: bool = False) -> None:
        """As many of the words as fit into so many lines; smaller letters where one word alone is too wide."""
        size, indent = self._size(level), 8 if has_bullets else 0
        widest = column.width - self.manner.misplaced - indent
        while size > self.manner.body and max(line_width(word, size) for word in words.split()) > widest:
            size -= 1
        pitch = size + max(2, size // 5) + 3 * has_bullets
        rows: list[str] = []
        for word in words.split():
            longest = widest - (int(self._draw.integers(column.width // 3)) if has_bullets else 0)
            if rows and line_width(f"{rows[-1]} {word}", size) <= longest:
                rows[-1] += f" {word}"
            elif len(rows) == most or len(rows) * pitch + size > column.room:
                break
            else:
                rows.append(word)
        if not rows:
            return
        widths, ink = [line_width(row, size) for row in rows], self._ink(self.paper.rgb)
        left, lines = self._shift(column, max(widths)) + indent, []
        for number, (row, width) in enumerate(zip(rows, widths, strict=True)):
            x, y = left + (max(widths) - width) // 2 * column.is_centred, column.top + number * pitch
            lines.append(Line(row, (x, y, x + width, y + size)))
        box = (left, column.top, left + max(widths), lines[-1].box[3])
        column.elements.append(Element("text", box, tuple(lines), size, level, ink, self.paper, has_bullets))
        column.top = box[3] + column.gap

    def _button(self, column: Column, words: str) -> None:
        size = max(9, self._size(BODY))
        width, high, wide = line_width(words, size), size + 8, 2 * (5 + int(self._draw.integers(6)))
        if high > column.room or width + wide > column.width - self.manner.misplaced:
            return
        left = self._shift(column, width + wide)
        box = (left, column.top, left + width + wide, column.top + high)
        line = Line(words, (left + wide // 2, box[1] + 4, left + wide // 2 + width, box[1] + 4 + size))
        ink = self._ink(self.accent.rgb)
        column.elements.append(Element("button", box, (line,), size, BODY, ink, self.accent))
        column.top = box[3] + column.gap
