import itertools

import numpy as np
import pytest

from headstart.features.images.stitching import ramp, stitch
from headstart.features.images.windows import window_starts
from headstart.pipeline.errors import HeadstartError


def whole(size, window, overlap, predict):
    strips = list(stitch(size, window, overlap, predict))
    assert [top for top, _ in strips] == np.cumsum([0, *(strip.shape[1] for _, strip in strips)])[:-1].tolist()
    return np.concatenate([strip for _, strip in strips], axis=1)


def cut(field, window):
    return lambda top, left: field[:, top : top + window[0], left : left + window[1]]


SHAPES = [
    ((40, 50), (16, 20), 4),
    ((41, 53), (16, 20), 5),
    ((17, 100), (16, 20), 0),
    ((9, 7), (16, 20), 4),
    ((64, 64), (8, 8), 7),
]


@pytest.mark.parametrize(("size", "window", "overlap"), SHAPES, ids=str)
def test_constant_linear_and_any_agreed_fields_are_reproduced_to_the_bit(size, window, overlap):
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float64)
    field = np.stack(
        [np.full(size, np.float32(0.1)), 3 * rows - 7 * columns + 11, np.random.default_rng(0).random(size, np.float32)]
    )
    np.testing.assert_array_equal(whole(size, window, overlap, cut(field, window)), field)


def test_one_window_is_what_it_said():
    field = np.random.default_rng(1).random((3, 16, 20))
    np.testing.assert_allclose(whole((16, 20), (16, 20), 4, lambda top, left: field), field, rtol=1e-15)


def test_where_windows_disagree_the_answer_goes_over_from_one_to_the_other_without_a_step():
    said = iter([0.0, 1.0])
    row = whole((4, 28), (4, 16), 4, lambda top, left: np.full((1, 4, 16), next(said)))[0, 0]
    np.testing.assert_allclose(row[10:18], [0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1])


def test_an_image_that_is_shifted_by_a_step_has_the_same_bits_inside():
    random = np.random.default_rng(2)
    field = random.random((2, 100, 100))

    def noisy(shift):
        def predict(top, left):
            seen = field[:, top + shift : top + shift + 16, left + shift : left + shift + 16]
            return np.tanh(seen - seen.mean())  # what a network does: each window answers by all that it sees

        return predict

    one, other = whole((76, 76), (16, 16), 4, noisy(0)), whole((64, 64), (16, 16), 4, noisy(12))
    np.testing.assert_array_equal(one[:, 16:60, 16:60], other[:, 4:48, 4:48])


def test_no_more_than_a_row_of_windows_is_held_and_windows_are_asked_for_once():
    asked = []

    def predict(top, left):
        asked.append((top, left))
        return np.zeros((1, 8, 8))

    for top, strip in stitch((1000, 20), (8, 8), 2, predict):
        assert strip.shape[1] <= 8
        assert asked[-1][0] == top
    assert len(asked) == len(set(asked)) == len(window_starts(1000, 8, 2)) * len(window_starts(20, 8, 2))


def test_windows_reach_both_ends_and_overlap_at_least_by_what_was_asked():
    for length in range(1, 60):
        starts = window_starts(length, 10, 3)
        assert starts[0] == 0
        assert starts[-1] == max(0, length - 10)
        assert all(0 < after - before <= 7 for before, after in itertools.pairwise(starts))


def test_the_ramps_of_two_windows_add_up_to_one_number():
    np.testing.assert_array_equal(ramp(10, 3)[-3:] + ramp(10, 3)[:3], [4, 4, 4])
    assert ramp(10, 3)[3:7].tolist() == [4] * 4


@pytest.mark.parametrize("overlap", [-1, 10, 11])
def test_an_overlap_that_leaves_no_step_is_a_mistake(overlap):
    with pytest.raises(HeadstartError, match=r"leaves no step. Give one from 0 to 9"):
        window_starts(30, 10, overlap)


@pytest.mark.parametrize(("size", "window", "overlap"), SHAPES, ids=str)
def test_strips_from_any_one_on_are_those_of_the_whole_and_predict_no_window_above_them(size, window, overlap):
    random = np.random.default_rng(0)
    said: dict[tuple[int, int], np.ndarray] = {}
    asked: list[tuple[int, int]] = []

    def predict(top, left):
        asked.append((top, left))
        return said.setdefault((top, left), random.standard_normal((2, *window)))

    strips = [strip for _, strip in stitch(size, window, overlap, predict)]
    for begin in range(len(strips) + 1):
        asked.clear()
        rest = list(stitch(size, window, overlap, predict, begin))
        assert len(rest) == len(strips) - begin
        assert all(np.array_equal(one, other) for (_, one), other in zip(rest, strips[begin:], strict=True))
        assert all(top + window[0] > rest[0][0] for top, _ in asked)
