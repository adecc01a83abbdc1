"""Strokes of an SVG are those that a browser would draw; what is none of a pen is refused by its name."""

import numpy as np
import pytest

from headstart.experiments.strokes.drawing import DrawingPage, as_svg, laid_out
from headstart.experiments.strokes.line import LineError
from headstart.experiments.strokes.svg_lines import svg_strokes

from .made import lines


def drawing(inside):
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{inside}</svg>'.encode()


STROKES = {
    "lines": ('<path d="M1 2 3 4l1-1z"/>', [[(1, 2), (3, 4), (4, 3), (1, 2)]]),
    "across and down": ('<path d="M1,2H5V3h-1v1"/>', [[(1, 2), (5, 2), (5, 3), (4, 3), (4, 4)]]),
    "two parts of a path": ('<path d="m1 1 1 0m1 1l1 0"/>', [[(1, 1), (2, 1)], [(3, 2), (4, 2)]]),
    "numbers without spaces": ('<path d="M.5.5-1-1L1e1 2"/>', [[(0.5, 0.5), (-1, -1), (10, 2)]]),
    "other elements": (
        '<polyline points="1,2 3,4"/><polygon points="0 0 1 0 1 1"/><line x1="1" y1="2" x2="3" y2="4"/>',
        [[(1, 2), (3, 4)], [(0, 0), (1, 0), (1, 1), (0, 0)], [(1, 2), (3, 4)]],
    ),
    "groups that were moved": (
        '<g transform="translate(10) scale(2,3)"><path transform="matrix(0 1 1 0 5 6)" d="M1 2L3 4"/></g><path d="M0 0L1 1"/>',
        [[(10 + 2 * 7, 3 * 7), (10 + 2 * 9, 3 * 9)], [(0, 0), (1, 1)]],
    ),
}


@pytest.mark.parametrize(("inside", "expected"), STROKES.values(), ids=STROKES)
def test_strokes_lie_where_they_are_drawn(inside, expected):
    strokes = svg_strokes(drawing(inside))
    assert len(strokes) == len(expected)
    for mine, theirs in zip(strokes, expected, strict=True):
        np.testing.assert_allclose(mine, theirs)


def test_curves_go_through_their_points_and_are_gone_on_in_smoothly():
    [cubic] = svg_strokes(drawing('<path d="M0 0C0 4 4 4 4 0S8-4 8 0"/>'))
    np.testing.assert_allclose(cubic[[6, 12, 18, 24]], [(2, 3), (4, 0), (6, -3), (8, 0)])
    [arc] = svg_strokes(drawing('<path d="M0 0A2 2 0 0 1 4 0"/>'))
    np.testing.assert_allclose(arc[[6, 12]], [(2, -2), (4, 0)], atol=1e-12)
    [quadratic] = svg_strokes(drawing('<path d="M0 0Q2 4 4 0t4 0"/>'))
    np.testing.assert_allclose(quadratic[[6, 12, 18, 24]], [(2, 2), (4, 0), (6, -2), (8, 0)])


def test_what_sample_draws_is_read_again():
    laid = laid_out(lines(2), DrawingPage())
    for mine, theirs in zip(svg_strokes(as_svg(laid)), laid.strokes, strict=True):
        np.testing.assert_allclose(mine[-1], theirs[-1], atol=0.011)


REFUSED = {
    "no path": (drawing('<path d="Hello"/>'), "damaged"),
    "a rotated group": (drawing('<g transform="rotate(9)"/>'), "rotate()"),
    "no XML": (b"M0 0", "damaged"),
    "too few numbers": (drawing('<path d="M0 0L1"/>'), "damaged"),
    "points that are no pairs": (drawing('<polyline points="1 2 3"/>'), "damaged"),
    "a matrix of five": (drawing('<g transform="matrix(1 2 3 4 5)"/>'), "damaged"),
    "infinitely far": (drawing('<path d="M0 0L1e400 0"/>'), "NaN or infinite"),
    "no number at all": (drawing('<line x1="nan"/>'), "NaN or infinite"),
    "scaled beyond every page": (drawing('<g transform="scale(1e300)"><path d="M0 0L1e300 0"/></g>'), "coordinates beyond"),
    "entities": (b'<!DOCTYPE svg [<!ENTITY a "b">]><svg>&a;</svg>', "declares entities"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_drawing_of_a_pen_is_refused(data, reason):
    with pytest.raises(LineError, match=reason.replace("(", r"\(").replace(")", r"\)")):
        svg_strokes(data)
