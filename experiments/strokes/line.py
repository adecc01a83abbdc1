"""A line of text as a pen wrote it: where its points lie from one to the next, and how strokes of any scale become that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

POINTS_A_CHARACTER = 10  # of ink: the unit is a tenth of the mean ink of a character, and points lie one unit apart
LONGEST_TEXT = 200
_FEWEST, _MOST = 2.0, 40.0  # points a character, outside of which text and strokes do not belong together
_FARTHEST = 120.0  # units that a pen is carried between two strokes of one line
_MOST_COORDINATE = 1e9  # no tablet and no page counts as far; what a file has there are times, or no number at all
_LEAST_INK = 1e-6  # of a character, in whatever unit: a page one unit wide has a thousand times as much

Floats = NDArray[np.floating]


class LineError(ValueError):
    """Why these strokes are no line to learn from; its text is the reason, which is counted."""


@dataclass(frozen=True)
class PenLine:
    """Attributes:
    offsets: (n, 2) float32, x to the right and y down, each point from the one before, in units; the first is (0, 0).
    ends: (n,) bool, True at the last point of a stroke; the last one is.
    text: what it says.
    writer: a name that no other writer has; lines of one writer are never in two splits.
    """

    offsets: Floats
    ends: NDArray[np.bool_]
    text: str
    writer: str

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def strokes(self) -> list[Floats]:
        """Points of each stroke, (k, 2), from the first point of the line."""
        points = self.offsets.cumsum(axis=0, dtype=np.float64)
        return [stroke for stroke in np.split(points, np.flatnonzero(self.ends) + 1) if len(stroke)]


def pen_line(strokes: Sequence[Floats], text: str, writer: str) -> PenLine:
    """Strokes of any scale as a line: points at equal distances along the ink, ten a character.

    Args: strokes: points of each, (k, 2), y down.
    Raises: LineError if this is no line of that text.
    """
    text = _said(text)
    parts = [_clean(stroke) for stroke in strokes if len(stroke)]
    if not parts:
        raise LineError("no strokes")
    ink = sum(_lengths(part).sum() for part in parts) / _inked(text)
    if ink == 0:
        raise LineError("strokes without length")
    if ink < _LEAST_INK:
        raise LineError(f"less than {_LEAST_INK:f} of ink a character")
    unit = ink / POINTS_A_CHARACTER
    return checked_line([_even(part / unit) for part in parts], text, writer)


def checked_line(strokes: Sequence[Floats], text: str, writer: str) -> PenLine:
    """Strokes whose points lie a unit apart as a line. Raises: LineError as `pen_line`."""
    points = np.concatenate(strokes)
    ends = np.zeros(len(points), bool)
    ends[np.cumsum([len(stroke) for stroke in strokes]) - 1] = True
    offsets = np.diff(points, axis=0, prepend=points[:1]).astype(np.float32)
    return as_line(offsets, ends, text, writer)


def as_line(offsets: Floats, ends: NDArray[np.bool_], text: str, writer: str) -> PenLine:
    """Offsets that are in units already, looked at. Raises: LineError as `pen_line`."""
    text = _said(text)
    if not len(offsets) or len(offsets) != len(ends):
        raise LineError("no strokes" if not len(offsets) else "counts that do not fit")
    offsets, ends = coordinates_of(offsets).copy(), ends.copy()
    offsets[0], ends[-1] = 0, True
    if not _FEWEST <= len(offsets) / _inked(text) <= _MOST:
        raise LineError(f"not {_FEWEST:g} to {_MOST:g} points a character")
    steps = np.hypot(offsets[:, 0], offsets[:, 1])
    if steps.max() > _FARTHEST:
        raise LineError(f"a jump of more than {_FARTHEST:g} units")
    ink = steps[1:][~ends[:-1]].sum() / _inked(text)
    if not _FEWEST <= ink <= _MOST:
        raise LineError(f"not {_FEWEST:g} to {_MOST:g} units of ink a character")
    return PenLine(offsets.astype(np.float32), ends, text, writer)


def coordinates_of(said: Any) -> Floats:
    """Coordinates as float64. Raises: LineError if one is no number, or one that no pen was at."""
    numbers = np.asarray(said, np.float64)
    if not np.isfinite(numbers).all():
        raise LineError("coordinates that are NaN or infinite")
    if np.abs(numbers).max(initial=0) > _MOST_COORDINATE:
        raise LineError(f"coordinates beyond {_MOST_COORDINATE:,.0f}")
    return numbers


def _said(text: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise LineError("no text")
    if len(text) > LONGEST_TEXT:
        raise LineError(f"text of more than {LONGEST_TEXT} characters")
    return text


def _inked(text: str) -> int:
    return sum(not character.isspace() for character in text)


def _clean(stroke: Floats) -> Floats:
    points = coordinates_of(stroke)
    if points.ndim != 2 or points.shape[1] != 2:
        raise LineError("points that are no pairs")
    return points


def _lengths(points: Floats) -> Floats:
    steps = np.diff(points, axis=0)
    return np.hypot(steps[:, 0], steps[:, 1])


def _even(points: Floats) -> Floats:
    """The same stroke with points about one unit apart, its ends kept; a dot keeps one point."""
    along = np.concatenate([[0.0], _lengths(points).cumsum()])
    count = round(float(along[-1]))
    if count < 1:
        return points[:1]
    places = np.linspace(0.0, along[-1], count + 1)
    return np.stack([np.interp(places, along, points[:, axis]) for axis in (0, 1)], axis=1)
