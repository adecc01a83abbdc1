"""Lines as batches for the loop: of about equal length, filled up to the longest, each point counting once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from headstart.experiments.training.data.batch import Batch
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.data.sets import Rows

from .line import PenLine

RESTS = 3  # points at the end in which the pen stays where it is: how the network says that it is done
_JITTER = 0.1  # of a line's length, by which the order of lengths is shuffled, so that batches differ


class Alphabet:
    """Characters by number, from 1; the last number is the end of a text."""

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._numbers = {character: number for number, character in enumerate(characters, 1)}

    @property
    def end(self) -> int:
        return len(self.characters) + 1

    def unknown(self, text: str) -> str:
        """Characters of `text` that are none of these, each once."""
        return "".join(sorted(set(text) - set(self._numbers)))

    def numbers(self, text: str) -> list[int]:
        """Raises: KeyError for an unknown character."""
        return [*(self._numbers[character] for character in text), self.end]


def alphabet_of(lines: Sequence[PenLine]) -> Alphabet:
    return Alphabet("".join(sorted({character for line in lines for character in line.text})))


class LineSet:
    """Lines to learn from. Columns of a batch of b lines with at most t points and u characters:

    steps: (b, t, 3) float32, x and y from the point before and 1 where a stroke ends; first come the points, then RESTS.
    points: (b,) how many of these there are. text: (b, u) int64 with the end, filled up with 0.
    """

    is_ready = True

    def __init__(self, lines: Sequence[PenLine], alphabet: Alphabet) -> None:
        self.lines, self._alphabet = list(lines), alphabet
        self._lengths = np.array([len(line) for line in lines], np.int64)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def digest(self) -> str:
        sha256 = hashlib.sha256(self._alphabet.characters.encode())
        for line in self.lines:
            sha256.update(f"\0{line.text}\0{line.writer}\0{len(line)}\0".encode())
            sha256.update(np.ascontiguousarray(line.offsets, np.float32).tobytes() + line.ends.tobytes())
        return sha256.hexdigest()

    def batches(self, key: Key | None, size: int) -> list[Rows]:
        """Lines of about equal length, in batches that differ from epoch to epoch, in an order without meaning."""
        count = -(-len(self) // size)
        if key is None:
            order = np.argsort(self._lengths, kind="stable")
            return [np.sort(rows) for rows in np.array_split(order, count)]
        draw = key.numpy()
        order = np.argsort(self._lengths * (1 + _JITTER * draw.uniform(-1, 1, len(self))), kind="stable")
        batches = np.array_split(order, count)
        return [batches[place] for place in draw.permutation(count)]

    def batch(self, rows: Rows, key: Key | None) -> Batch:
        import torch

        lines = [self.lines[row] for row in rows.tolist()]
        texts = [self._alphabet.numbers(line.text) for line in lines]
        points = [len(line) + RESTS for line in lines]
        steps = np.zeros((len(lines), max(points), 3), np.float32)
        text = np.zeros((len(lines), max(map(len, texts))), np.int64)
        for row, (line, numbers) in enumerate(zip(lines, texts, strict=True)):
            steps[row, : len(line), :2] = line.offsets
            steps[row, : len(line), 2] = line.ends
            steps[row, len(line) : points[row], 2] = 1
            text[row, : len(numbers)] = numbers
        counts = torch.tensor(points)
        columns = {"steps": torch.from_numpy(steps), "points": counts, "text": torch.from_numpy(text)}
        return Batch(columns, weight=counts.float())
