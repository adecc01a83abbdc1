"""What is written follows from the wishes and the seed, and a prime is no part of it."""

import numpy as np
import pytest
import torch

from headstart.experiments.strokes.data_set import Alphabet, LineSet, alphabet_of
from headstart.experiments.strokes.network import SynthesisNetwork
from headstart.experiments.strokes.sampling import Wish, first_own_point, sample
from headstart.experiments.training.data.keys import Key

from .made import lines


def network():
    torch.manual_seed(0)
    return SynthesisNetwork(8, 2, 2, Alphabet("abc ").end).eval()


def test_the_same_seed_writes_the_same_and_another_something_else():
    wishes = [Wish("ab c"), Wish("ba", bias=1.0)]
    one, again, other = (sample(network(), Alphabet("abc "), wishes, seed) for seed in (3, 3, 4))
    for mine, same, different in zip(one, again, other, strict=True):
        assert mine.line.offsets.tobytes() == same.line.offsets.tobytes()
        assert mine.line.offsets.tobytes() != different.line.offsets.tobytes()


def test_a_line_is_the_same_beside_others():
    [alone] = sample(network(), Alphabet("abc "), [Wish("ab c", number=1)])
    _, beside = sample(network(), Alphabet("abc "), [Wish("ba bab"), Wish("ab c", number=1)])
    count = min(len(alone.line), len(beside.line))
    np.testing.assert_allclose(alone.line.offsets[:count], beside.line.offsets[:count], atol=1e-3)


def test_every_tensor_is_made_where_the_network_is():
    wishes = [Wish("ab c"), Wish("ba", prime=lines(1)[0])]
    expected = sample(network(), Alphabet("abc "), wishes)
    model = network()
    with torch.device("meta"):  # what is made without a word on where lands there and can be used with nothing
        written = sample(model, Alphabet("abc "), wishes)
    for mine, theirs in zip(written, expected, strict=True):
        assert mine.line.offsets.tobytes() == theirs.line.offsets.tobytes()


def test_a_prime_changes_what_is_written_and_is_cut_from_it():
    prime = lines(1)[0]
    [plain], [primed] = (sample(network(), Alphabet("abc "), [Wish("ab c", prime=one)]) for one in (None, prime))
    assert primed.line.text == "ab c"
    assert primed.line.offsets.tobytes() != plain.line.offsets.tobytes()
    assert not np.allclose(primed.line.offsets[: len(prime)][: len(primed.line)], prime.offsets[: len(primed.line)])


class Listening(torch.nn.Module):
    """A network that keeps the last step of each call."""

    def __init__(self):
        super().__init__()
        self.network, self.steps = network(), []
        self.to_window, self.start = self.network.to_window, self.network.start

    def forward(self, steps, text, state=None):
        self.steps.append(steps[:, -1])
        return self.network(steps, text, state)


def test_the_network_knows_of_the_way_from_the_prime_to_the_text_which_the_line_begins_behind():
    for prime, knows in ((lines(1)[0], True), (None, False)):
        listening = Listening()
        [one] = sample(listening, Alphabet("abc "), [Wish("ab c", prime=prime)])
        calls = listening.steps[1:] if prime else listening.steps  # the first of them took the prime
        assert bool(calls[1][0, :2].any()) == knows
        assert not one.line.offsets[0].any()


@pytest.mark.parametrize(
    ("ends", "places", "first"),
    [
        pytest.param([0, 0, 1, 0, 0, 1], [5, 5, 6, 6, 6, 7], 0, id="all of the text"),
        pytest.param([0, 1, 0, 0, 0, 1], [3, 4, 5, 5, 6, 7], 2, id="a dash of the prime before it"),
        pytest.param([1, 0, 1, 0, 0, 1], [3, 4, 4, 5, 5, 6], 3, id="two of them"),
        pytest.param([0, 1, 0, 0, 0, 1], [4, 5, 5, 5, 6, 7], 0, id="a stroke that ends on the text"),
        pytest.param([0, 1, 0, 1, 0, 1], [5, 5, 4, 4, 5, 6], 0, id="a way back later on"),
        pytest.param([0, 1, 0, 0, 0, 1], [3, 3, 4, 4, 4, 4], 2, id="never on the text: one stroke is left"),
        pytest.param([0], [1], 0, id="one point"),
    ],
)
def test_strokes_that_finish_the_prime_are_no_part_of_the_line(ends, places, first):
    assert first_own_point(np.array(ends, bool), np.array(places), 5) == first


def test_a_line_ends_and_its_last_stroke_with_it():
    for one in sample(network(), Alphabet("abc "), [Wish("a"), Wish("abc abc abc")]):
        assert one.line.ends[-1]
        assert 0 <= one.read <= 1
        assert len(one.line) <= 40 * 11 + 60


def test_batches_hold_every_line_once_and_lines_of_about_equal_length_together():
    made = lines(50)
    rows = LineSet(made, alphabet_of(made))
    for key in (None, Key((1,)), Key((2,))):
        batches = rows.batches(key, 8)
        assert sorted(np.concatenate(batches).tolist()) == list(range(50))
        assert len(batches) == 7
        spread = [np.ptp([len(made[row]) for row in batch]) for batch in batches]
        assert np.mean(spread) < np.ptp([len(line) for line in made]) / 2
    assert [b.tolist() for b in rows.batches(Key((1,)), 8)] != [b.tolist() for b in rows.batches(Key((2,)), 8)]


def test_a_batch_holds_points_then_rests_then_nothing():
    made = lines(4)
    batch = LineSet(made, alphabet_of(made)).batch(np.arange(4), None)
    for row, line in enumerate(made):
        steps, count = batch.steps[row].numpy(), int(batch.points[row])
        np.testing.assert_array_equal(steps[: len(line), :2], line.offsets)
        assert count == len(line) + 3
        assert (steps[len(line) : count] == (0, 0, 1)).all()
        assert not steps[count:].any()
        assert int((batch.text[row] > 0).sum()) == len(line.text) + 1
