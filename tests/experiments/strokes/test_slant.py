"""Slant is that of a line that was sheared by hand, and correlates with the hand's where it was carried over."""

import dataclasses
import math

import numpy as np
import pytest

from headstart.experiments.strokes.line import PenLine, pen_line
from headstart.experiments.strokes.slant import slant, slant_carried

from .made import lines

UPRIGHT = ([[0, 40], [0, 0]], [[10, 0], [10, 40]], [[20, 40], [20, 0], [20, 40]])


def leaning(shear):
    strokes = [np.array(stroke, float) @ [[1, 0], [-shear, 1]] for stroke in UPRIGHT]
    return pen_line(strokes, "ill", "w")


@pytest.mark.parametrize("shear", [-0.5, 0.0, 0.7])
def test_upright_strokes_that_were_sheared_lean_by_that_whichever_way_they_were_drawn(shear):
    assert slant(leaning(shear)) == pytest.approx(shear, abs=1e-4)


def test_where_the_pen_is_carried_says_nothing():
    one = leaning(0.3)
    offsets = one.offsets.copy()
    offsets[np.flatnonzero(one.ends)[:-1] + 1] += (50, -50)
    assert slant(dataclasses.replace(one, offsets=offsets)) == slant(one)


@pytest.mark.parametrize("points", [0, 1, 5])
def test_a_line_that_goes_nowhere_up_or_down_does_not_lean(points):
    offsets = np.tile(np.float32([1, 0]), (points, 1))
    assert slant(PenLine(offsets, np.zeros(points, bool), "-", "w")) == 0


def test_a_slant_that_was_carried_over_correlates_and_one_that_never_changes_is_no_number():
    hands = [leaning(shear) for shear in (-0.4, 0.0, 0.3, 0.6)]
    assert slant_carried([leaning(0.5 * slant(hand)) for hand in hands], hands).value == pytest.approx(1)
    assert slant_carried(hands[::-1], hands).value < -0.9
    assert math.isnan(slant_carried([lines(1)[0]] * 4, hands).value)
