"""Drawing with SVG: a plot with two axes, marks whose colours are the page's, and a file that stands alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from headstart.experiments.report.markup import plain, tag

# The page's own style has the same names, in light and dark.
ALONE = (
    "svg{background:#fcfbf9;font:12.5px system-ui,sans-serif;font-variant-numeric:tabular-nums}text{fill:#1d1c1a}"
    ".soft{fill:#6a6862}"
    ".grid{stroke:#e6e3dc}.axis{stroke:#6a6862}.line{stroke:#6a6862;fill:none}.dot{fill:#1d1c1a}.rest{stroke:#6a6862;fill:#6a6862}"
    ".chosen{stroke:#2456c9;fill:#2456c9}.wrong{stroke:#c2410c;fill:#c2410c}.line.chosen{fill:none}text.chosen,text.wrong{stroke:none}"
    ".bar{fill:#c9c6bf}.bar.wrong{fill:#c2410c;stroke:none}.bar.chosen{fill:#2456c9;stroke:none}.bold{font-weight:650}"
    ".end{text-anchor:end}.mid{text-anchor:middle}.bar.wrong{opacity:.6}.whisker{stroke:#1d1c1a}"
)
ALONE += "".join(
    f".hue{number}{{stroke:{hue};fill:{hue}}}.line.hue{number}{{fill:none}}text.hue{number}{{stroke:none}}"
    for number, hue in enumerate(("#0f766e", "#b45309", "#7e22ce", "#be185d", "#4d7c0f"))
)


@dataclass
class Drawing:
    """Marks are added and written out in that order.

    Attributes:
        title: what it shows, for who cannot see it.
    """

    width: float
    height: float
    title: str
    _parts: list[str] = field(default_factory=list)

    def line(
        self, x1: float, y1: float, x2: float, y2: float, style: str = "grid", width: float = 1, dash: str | None = None
    ) -> None:
        place = {"x1": _n(x1), "y1": _n(y1), "x2": _n(x2), "y2": _n(y2)}
        self._parts.append(tag("line", {**place, "class": style, "stroke-width": width, "stroke-dasharray": dash}))

    def path(self, points: Sequence[tuple[float, float]], style: str, width: float) -> None:
        steps = " ".join(f"{'L' if i else 'M'}{_n(x)} {_n(y)}" for i, (x, y) in enumerate(points))
        self._parts.append(
            tag("path", {"d": steps, "class": f"line {style}".strip(), "stroke-width": width, "stroke-linejoin": "round"})
        )

    def area(self, points: Sequence[tuple[float, float]], style: str, opacity: float = 0.15) -> None:
        corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._parts.append(tag("polygon", {"points": corners, "class": style, "opacity": opacity, "stroke-width": 0}))

    def circle(self, x: float, y: float, radius: float, style: str, opacity: float | None = None, note: str = "") -> None:
        facts = {"cx": _n(x), "cy": _n(y), "r": _n(radius), "class": style, "opacity": opacity, "stroke-width": 0}
        self._parts.append(tag("circle", facts, _title(note)))

    def rectangle(self, x: float, y: float, width: float, height: float, style: str, note: str = "", radius: float = 2) -> None:
        facts = {"x": _n(x), "y": _n(y), "width": _n(max(0.0, width)), "height": _n(height), "rx": radius, "class": style}
        self._parts.append(tag("rect", facts, _title(note)))

    def text(self, x: float, y: float, words: str, style: str = "", longest: int = 40) -> None:
        self._parts.append(tag("text", {"x": _n(x), "y": _n(y), "class": style or None}, _escaped(words, longest)))

    def inline(self, style: str) -> str:
        """For the page, whose style it uses."""
        return self._written({"class": style})

    def file(self) -> str:
        """A file of its own, on a light ground."""
        return self._written({"xmlns": "http://www.w3.org/2000/svg"}, f"<style>{ALONE}</style>")

    def _written(self, attributes: dict[str, object], before: str = "") -> str:
        size = {"viewBox": f"0 0 {_n(self.width)} {_n(self.height)}", "width": _n(self.width), "height": _n(self.height)}
        return tag(
            "svg", {**attributes, **size, "role": "img", "aria-label": plain(self.title, 600)}, before + "".join(self._parts)
        )


@dataclass(frozen=True)
class Scale:
    """From numbers to a place on the drawing; `begin` may be the larger one."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.begin + (self.end - self.begin) * part


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within, about `count` of them."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    step = 10.0 ** math.floor(math.log10(span / count))
    step *= min((1, 2, 5, 10), key=lambda factor: abs(span / (step * factor) - count))
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def bounds(values: Sequence[float], margin: float = 0.05) -> tuple[float, float]:
    """Where an axis begins and ends: where the data do, with a margin."""
    low, high = min(values), max(values)
    space = (high - low) * margin or abs(high) * margin or 0.5
    return low - space, high + space


def apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The same order, each as near to its place as leaves `gap` between two."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    result = list(places)
    for before, i in pairwise(order):
        result[i] = max(result[i], result[before] + gap)
    if order and result[order[-1]] > high:
        result[order[-1]] = high
        for after, i in pairwise(order[::-1]):
            result[i] = min(result[i], result[after] - gap)
    return [max(low, place) for place in result]


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _title(note: str) -> str:
    return f"<title>{_escaped(note, 200)}</title>" if note else ""


def _escaped(words: str, longest: int) -> str:
    import html

    return html.escape(plain(words, longest))
