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
    "not a number": ([[[0, 0], [float("nan"), 1]]], "a", "that are none"),
    "infinite": ([[[0, 0], [float("inf"), 1]]], "a", "that are none"),
    "a text that is far too long": ([[[0, 0], [1, 1]]], "a" * 500, "more than 200"),
    "a jump": ([*strokes("ab"), np.array([[1e4, 0], [1e4 + 1, 0]])], "ab", "jump"),
}


@pytest.mark.parametrize(("parts", "text", "reason"), BAD.values(), ids=BAD)
def test_what_is_no_line_is_named(parts, text, reason):
    with pytest.raises(LineError, match=reason):
        pen_line([np.asarray(part, float) for part in parts], text, "w")


def test_strokes_that_do_not_belong_to_their_text_are_named():
    with pytest.raises(LineError, match="points a character"):
        as_line(np.ones((3, 2), np.float32), np.zeros(3, bool), "a long sentence", "w")
