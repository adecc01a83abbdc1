"""The network that reads: it begins soon, greedy decoding by hand, lines beside each other, and the numbers of what was read."""

import itertools

import numpy as np
import pytest
import torch

from headstart.experiments.strokes.composer import Composer, drawn_style
from headstart.experiments.strokes.data_set import Alphabet, LineSet
from headstart.experiments.strokes.legibility import edit_distance, legibility
from headstart.experiments.strokes.line import PenLine
from headstart.experiments.strokes.recogniser import BLANK, RecogniserNetwork, recognised, spelt
from headstart.experiments.training.data.keys import Key

from .made import lines

DISTANCES = {
    "alike": ("abc", "abc", 0),
    "nothing read": ("", "abc", 3),
    "exchanged": ("abd", "abc", 1),
    "left out": ("ac", "abc", 1),
    "one too many": ("abbc", "abc", 1),
    "all of them": ("kitten", "sitting", 3),
}


@pytest.mark.parametrize(("read", "true", "errors"), DISTANCES.values(), ids=DISTANCES)
def test_errors_are_insertions_omissions_and_exchanges(read, true, errors):
    assert edit_distance(read, true) == edit_distance(true, read) == errors


def test_numbers_of_lines_are_those_counted_by_hand():
    numbers = {one.name: one.value for one in legibility(["abcd", "", "xb"], ["abcd", "ab", "ab"])}
    assert numbers == pytest.approx(
        {"character_error_rate": 3 / 8, "first_right": 1 / 3, "last_right": 2 / 3, "mostly_wrong": 1 / 3}
    )


def test_repetitions_count_once_and_a_blank_parts_equal_characters():
    symbols = torch.tensor([[0, 1, 1, 0, 1, 2, 2, 0, 2]])
    logs = torch.nn.functional.one_hot(symbols, 3).float()
    assert spelt(logs, torch.tensor([8]), Alphabet("ab")) == ["aab"]


def test_it_begins_to_read_after_a_hundred_steps():
    """A loss of 1.96 says how often each of the five letters occurs: there it stays for thousands of steps without `norm`."""
    composer, words = Composer(), ["".join(word) for word in itertools.permutations("aceou", 4)]
    rows = LineSet([composer.line(word, drawn_style(n), Key((n,))) for n, word in enumerate(words)], Alphabet("aceou"))
    torch.manual_seed(0)
    network, draw = RecogniserNetwork(32, 2, 5), np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(150):
        batch = rows.batch(draw.permutation(len(rows))[:16], None)
        logs, frames = network(batch.steps, batch.points)
        loss = torch.nn.functional.ctc_loss(logs.transpose(0, 1), batch.text, frames, (batch.text > 0).sum(1) - 1, BLANK)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5


def test_what_is_read_depends_neither_on_other_lines_nor_on_the_text():
    torch.manual_seed(0)
    network, alphabet = RecogniserNetwork(16, 2, 4).eval(), Alphabet(" abc")
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(8)  # else it says one symbol all along
    several = lines(9)
    others = [PenLine(line.offsets, line.ends, "?", line.writer) for line in several]
    read = recognised(network, alphabet, several)
    assert read == [recognised(network, alphabet, [line])[0] for line in others]
    assert len(set(read)) > 1


def test_a_line_without_points_is_read_as_well():
    nothing = PenLine(np.zeros((0, 2), np.float32), np.zeros(0, bool), "ab", "w")
    [read] = recognised(RecogniserNetwork(8, 1, 3).eval(), Alphabet(" ab"), [nothing])
    assert set(read) <= set(" ab")
