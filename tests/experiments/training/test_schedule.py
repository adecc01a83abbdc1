import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.experiments.training.schedule import learning_rate_factor, row_order, stream_key


@given(st.integers(2, 3000), st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_an_epoch_holds_every_row_once(count, seed, epoch, by_blocks):
    assert np.array_equal(np.sort(row_order(count, 0, count, seed, epoch, by_blocks)), np.arange(count))


@given(st.integers(2, 40_000), st.data(), st.booleans())
def test_a_place_in_the_middle_needs_nothing_before_it(count, data, by_blocks):
    start = data.draw(st.integers(0, count - 1))
    stop = min(count, start + 50)
    whole = row_order(count, 0, count, 3, 4, by_blocks)
    assert np.array_equal(row_order(count, start, stop, 3, 4, by_blocks), whole[start:stop])


@pytest.mark.parametrize("by_blocks", [False, True], ids=["rows", "blocks"])
def test_another_epoch_or_seed_is_another_order(by_blocks):
    orders = [row_order(40_000, 0, 40_000, seed, epoch, by_blocks) for seed in (0, 1) for epoch in (0, 1)]
    for i, left in enumerate(orders):
        for right in orders[:i]:
            assert (left == right).mean() < 0.01


@pytest.mark.parametrize("by_blocks", [False, True], ids=["rows", "blocks"])
def test_neighbours_in_an_epoch_are_no_neighbours_on_disk(by_blocks):
    order = row_order(50_000, 0, 50_000, 0, 0, by_blocks)
    assert (np.abs(np.diff(order)) == 1).mean() < 0.01
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < (0.05 if not by_blocks else 0.3)
    # The rows of one batch are a fair sample of the whole.
    if not by_blocks:
        means = order[: 390 * 128].reshape(390, 128).mean(axis=1)
        assert means.std() == pytest.approx(50_000 / np.sqrt(12 * 128), rel=0.15)


def test_shuffled_blocks_are_read_in_few_pieces():
    order = row_order(100_000, 0, 16_384, 0, 0, by_blocks=True)
    assert len(np.unique(order // 256)) <= 2 * 64


def test_the_learning_rate_rises_then_falls_to_nothing():
    factors = [learning_rate_factor(step, 100, 10) for step in range(100)]
    assert factors[:10] == sorted(factors[:10])
    assert factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 0.001
    assert learning_rate_factor(0, 100, 0) == 1


def test_streams_differ_by_every_fact():
    keys = {
        stream_key(seed, epoch, batch, name) for seed in range(4) for epoch in range(4) for batch in range(4) for name in "ab"
    }
    assert len(keys) == 128
    assert all(0 <= key < 2**63 for key in keys)
