"""How well lines can be read: what a recogniser read, against what they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from headstart.experiments.training.judging.metrics import Metric, mean


def edit_distance(one: str, other: str) -> int:
    """Fewest characters to insert, leave out or exchange so that one becomes the other.

    Levenshtein, "Binary Codes Capable of Correcting Deletions, Insertions, and Reversals", 1966.
    """
    before = list(range(len(other) + 1))
    for row, mine in enumerate(one, 1):
        current = [row]
        for column, theirs in enumerate(other, 1):
            current.append(min(before[column] + 1, current[-1] + 1, before[column - 1] + (mine != theirs)))
        before = current
    return before[-1]


def legibility(read: Sequence[str], true: Sequence[str]) -> Iterator[Metric]:
    """Of lines, from what was read and what they say, none of which is empty.

    Yields: character_error_rate, errors over all characters, may exceed 1; first_right and last_right, the part of the lines
        whose first and last character is read; mostly_wrong, the part with errors in more than half of their characters.
    """
    errors = np.array([edit_distance(*pair) for pair in zip(read, true, strict=True)])
    characters = np.array([len(text) for text in true])
    yield mean("character_error_rate", errors / characters, weights=characters, better="lower", judged_by=True)
    yield mean("first_right", [one[:1] == other[0] for one, other in zip(read, true, strict=True)])
    yield mean("last_right", [one[-1:] == other[-1] for one, other in zip(read, true, strict=True)])
    yield mean("mostly_wrong", errors > characters / 2, better="lower")
