import numpy as np
import pytest

from headstart.features.store.shards import round_features


def test_finite_rows_are_rounded_and_keep_their_positions():
    values = np.linspace(-3, 3, 12, dtype=np.float32).reshape(4, 3)
    half, kept, lost = round_features(values, [0, 2, 3, 7])
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, values.astype(np.float16))
    assert (kept, lost) == ([0, 2, 3, 7], {})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65_520, -70_000], ids=str)
def test_a_row_that_float16_cannot_hold_is_an_error_of_its_image(value):
    values = np.ones((3, 4), np.float32)
    values[1, 3] = value
    half, kept, lost = round_features(values, [0, 5, 6])
    np.testing.assert_array_equal(half, np.ones((2, 4), np.float16))
    assert (kept, list(lost), lost[5].code) == ([0, 6], [5], "non_finite")


def test_the_largest_value_of_float16_is_no_error():
    half, kept, _ = round_features(np.full((1, 1), 65_519, np.float32), [0])
    assert (float(half[0, 0]), kept) == (65_504, [0])


def test_no_rows_stay_no_rows():
    half, kept, lost = round_features(np.empty((0, 4), np.float32), [])
    assert (half.shape, kept, lost) == ((0, 4), [], {})
