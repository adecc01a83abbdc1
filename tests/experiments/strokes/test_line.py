"""A line is the same at any scale, and what is none is named."""

import numpy as np
import pytest

from headstart.experiments.strokes.line import LineError, as_line, pen_line

from .made import strokes


def test_points_lie_a_unit_apart_and_ten_of_them_make_a_character_at_any_scale():
    small, large = pen_line(strokes("abc de"), "abc de", "w"), pen_line(strokes("abc de", 700.0), "abc de", "w")
    np.testing.assert_allclose(small.offsets, large.offsets, atol=1e-4)
    inside = ~np.concatenate([[True], small.ends[:-1]])
    steps = np.hypot(*small.offsets[inside].T)
    assert steps.mean() > 0.9
    assert steps.max() < 1.1
    assert len(small) == pytest.approx(10 * 5, rel=0.15)
    assert [len(stroke) > 1 for stroke in small.strokes] == [True] * 5


def test_a_dot_is_one_point():
    line = pen_line([*strokes("ab"), np.array([[4.0, 4.0], [4.0, 4.0]])], "ab", "w")
    assert [len(stroke) for stroke in line.strokes][-1] == 1
    assert line.ends[-2:].tolist() == [True, True]


BAD = {
    "no text": ([[[0, 0], [1, 1]]], "  ", "no text"),
    "no strokes": ([], "a", "no strokes"),
    "empty strokes": ([np.zeros((0, 2))], "a", "no strokes"),
    "dots alone": ([[[1, 1]], [[2, 2]]], "a", "without length"),
    "points of three numbers": ([[[0, 0, 1], [1, 1, 1]]], "a", "no pairs"),
    "not a number": ([[[0, 0], [float("nan"), 1]]], "a", "NaN or infinite"),
    "infinite": ([[[0, 0], [float("inf"), 1]]], "a", "NaN or infinite"),
    "times, not places": ([[[1.7e12, 0], [1.7e12 + 9, 5]]], "a", "beyond 1,000,000,000"),
    "one stroke that is far too large": ([*strokes("a"), *strokes("b", 1e12)], "ab", "beyond 1,000,000,000"),
    "beyond what can be subtracted": ([[[-1.7e308, 0], [1.7e308, 0]]], "a", "beyond 1,000,000,000"),
    "far too small": (strokes("ab", 1e-12), "ab", "less than 0.000001 of ink"),
    "denormal": (strokes("ab", 1e-310), "ab", "less than 0.000001 of ink"),
    "a text that is far too long": ([[[0, 0], [1, 1]]], "a" * 500, "more than 200"),
    "a jump": ([*strokes("ab"), np.array([[1e4, 0], [1e4 + 1, 0]])], "ab", "jump"),
}


@pytest.mark.parametrize(("parts", "text", "reason"), BAD.values(), ids=BAD)
def test_what_is_no_line_is_named(parts, text, reason):
    with pytest.raises(LineError, match=reason):
        pen_line([np.asarray(part, float) for part in parts], text, "w")


def test_a_line_in_metres_or_in_the_steps_of_a_tablet_is_one():
    for scale in (1e-3, 1e4):
        assert len(pen_line(strokes("abc", scale), "abc", "w")) == len(pen_line(strokes("abc"), "abc", "w"))


def right(step, count=20):
    """A straight stroke."""
    return np.tile(np.array([[step, 0.0]]), (count, 1))


NO_UNITS = {
    "too few points": (right(1.0, 3), "a long sentence", "points a character"),
    "pixels": (right(30.0), "ab", "units of ink a character"),
    "next to nothing": (right(1e-12), "ab", "units of ink a character"),
    "a jump": (np.concatenate([right(1.0), right(200.0, 1)]), "ab", "a jump"),
    "far too much": (right(1e300), "ab", "beyond 1,000,000,000"),
    "NaN": (right(float("nan")), "ab", "NaN or infinite"),
    "no text": (right(1.0), " ", "no text"),
    "a text that is far too long": (right(1.0, 5000), "a" * 500, "more than 200"),
}


@pytest.mark.parametrize(("offsets", "text", "reason"), NO_UNITS.values(), ids=NO_UNITS)
def test_offsets_that_are_not_in_units_or_not_of_their_text_are_named(offsets, text, reason):
    with pytest.raises(LineError, match=reason):
        as_line(offsets, np.zeros(len(offsets), bool), text, "w")
