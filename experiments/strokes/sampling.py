"""Lines that a trained network writes: many at once, point by point, from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart.experiments.training.data.keys import Key

from .data_set import Alphabet
from .line import PenLine
from .mixture import drawn, mixture_of
from .network import SynthesisNetwork, Written

_MOST_POINTS = 40  # a character, after which a line is cut off
_PATIENCE = 30  # points after the window has left the text, in which a stroke may still end


@dataclass(frozen=True)
class Wish:
    """Attributes:
    text: what to write.
    bias: from 0, as learnt, upwards: tidier.
    prime: a line whose hand to go on in; None: any.
    number: which of several with this text; it decides what is drawn.
    """

    text: str
    bias: float = 0.0
    prime: PenLine | None = None
    number: int = 0


@dataclass(frozen=True)
class WrittenLine:
    """Attributes:
    line: what was written; `is_whole` is False if it was cut off before the window had passed the text.
    read: part of the text's characters on which the window ever rested, from 0 to 1.
    """

    line: PenLine
    is_whole: bool
    read: float


def sample(network: SynthesisNetwork, alphabet: Alphabet, wishes: Sequence[Wish], seed: int = 0) -> list[WrittenLine]:
    """A line for each wish, the same for the same wishes and seed.

    Raises: KeyError for a character that is not in the alphabet.
    """
    with torch.inference_mode():
        return _Writing(network, alphabet, wishes, seed).run() if wishes else []


class _Writing:
    def __init__(self, network: SynthesisNetwork, alphabet: Alphabet, wishes: Sequence[Wish], seed: int) -> None:
        self._network, self._wishes = network, wishes
        primes = [f"{wish.prime.text} " if wish.prime else "" for wish in wishes]
        numbers = [alphabet.numbers(prime + wish.text) for prime, wish in zip(primes, wishes, strict=True)]
        device = self._device = network.to_window.weight.device
        self._texts = torch.zeros((len(wishes), max(map(len, numbers))), dtype=torch.int64, device=device)
        for row, characters in enumerate(numbers):
            self._texts[row, : len(characters)] = torch.tensor(characters, device=device)
        self._ends = torch.tensor([len(characters) - 1 for characters in numbers], device=device)
        self._begins = [len(prime) for prime in primes]
        self._bias = torch.tensor([wish.bias for wish in wishes], device=device)
        self._most = _MOST_POINTS * max(len(wish.text) for wish in wishes) + 2 * _PATIENCE
        draws = [self._drawn(Key((seed, "sample", wish.text, wish.number)), self._most) for wish in wishes]
        self._uniform, self._normal = (torch.stack(column).to(device) for column in zip(*draws, strict=True))

    @staticmethod
    def _drawn(key: Key, count: int) -> tuple[Tensor, Tensor]:
        """Numbers from [0, 1) and normal ones; the first are the same whatever the count."""
        uniform = key.of("uniform").numpy().random((count, 2), np.float32)
        return torch.from_numpy(uniform), torch.from_numpy(key.of("normal").numpy().standard_normal((count, 2), np.float32))

    def run(self) -> list[WrittenLine]:
        state, step = self._primed()
        rows = len(self._wishes)
        left = torch.full_like(self._ends, -1)  # points left after the window has reached the end; -1: not yet
        lengths, is_done = torch.zeros_like(self._ends), torch.zeros_like(self._ends, dtype=torch.bool)
        is_primed = torch.tensor([wish.prime is not None for wish in self._wishes], device=self._device)[:, None, None]
        is_whole, rested = torch.zeros_like(is_done), torch.zeros_like(self._texts, dtype=torch.bool)
        each, written, places = torch.arange(rows, device=self._device), [], []
        for number in range(self._most):
            outputs, state = self._network(step, self._texts, state)
            place = state.seen.argmax(dim=1)
            rested[each, place] |= ~is_done
            at_end = place >= self._ends
            left = torch.where(at_end & (left < 0), _PATIENCE, left) - (left > 0).long()
            point = drawn(mixture_of(outputs[:, 0], self._bias), self._uniform[:, number], self._normal[:, number])
            written.append(point)
            places.append(place)
            lengths += (~is_done).long()
            # The text is read and the stroke has ended: what would follow are rests.
            is_over = (left >= 0) & ((point[:, 2] > 0) | (left == 0))
            is_whole |= is_over & ~is_done
            is_done |= is_over
            if bool(is_done.all()):
                break
            step = point[:, None]
            if number == 0:
                # A line begins where it is put. After a prime this is the way there, which the network has to know of.
                step = torch.where(is_primed, step, step * step.new_tensor([0, 0, 1]))
        points, where = torch.stack(written, dim=1), torch.stack(places, dim=1).cpu().numpy()
        counts = lengths.tolist()
        return [
            self._sample(row, points[row, :count], where[row, :count], bool(is_whole[row]), rested[row])
            for row, count in enumerate(counts)
        ]

    def _primed(self) -> tuple[Written | None, Tensor]:
        """Where the network stands after the primes, and the pen's last step there; the primes are no part of what is written."""
        first = self._uniform.new_zeros(len(self._wishes), 1, 3)
        first[:, :, 2] = 1
        primes = [wish.prime for wish in self._wishes]
        if not any(primes):
            return None, first
        states, steps = [], []
        for row, prime in enumerate(primes):  # each by itself: they are of different lengths
            text = self._texts[row : row + 1]
            if prime is None:
                states.append(self._network.start(text))
                steps.append(first[:1])
                continue
            points = np.concatenate([prime.offsets, prime.ends[:, None]], axis=1).astype(np.float32)
            taken = torch.cat([first[:1], torch.from_numpy(points)[None].to(self._device)], dim=1)
            states.append(self._network(taken[:, :-1], text)[1])
            steps.append(taken[:, -1:])
        return _together(states), torch.cat(steps)

    def _sample(self, row: int, points: Tensor, places: NDArray[np.int64], is_whole: bool, rested: Tensor) -> WrittenLine:
        begin, end = self._begins[row], int(self._ends[row])
        numbers = points.cpu().double().numpy().round(4)  # what differs behind that is how a machine rounds
        offsets, ends = numbers[:, :2].astype(np.float32), numbers[:, 2] > 0
        first = first_own_point(ends, places, begin)
        offsets, ends = offsets[first:], ends[first:]
        offsets[0] = 0  # where a line begins is where it is put
        ends[-1] = True
        writer = self._wishes[row].prime.writer if self._wishes[row].prime else "the network"  # type: ignore[union-attr]
        line = PenLine(offsets, ends, self._wishes[row].text, writer)
        return WrittenLine(line, is_whole, float(rested[begin:end].float().mean()))


def first_own_point(ends: NDArray[np.bool_], places: NDArray[np.int64], begin: int) -> int:
    """Where the first stroke begins that is of the text: strokes before it, all of whose points were written while the window was
    still on the prime, finish the prime. One stroke is left in any case.

    Args: ends, places: (t,) of each point whether a stroke ends with it, and where the window was. begin: of the text.
    """
    first = 0
    for after in (np.flatnonzero(ends[:-1]) + 1).tolist():
        if (places[first:after] >= begin).any():
            break
        first = after
    return first


def _together(states: Sequence[Written]) -> Written:
    def rows(name: str) -> Tensor:
        return torch.cat([getattr(state, name) for state in states])

    upper = tuple(
        (
            torch.cat([state.upper[layer][0] for state in states], dim=1),
            torch.cat([state.upper[layer][1] for state in states], dim=1),
        )
        for layer in range(len(states[0].upper))
    )
    return Written(rows("hidden"), rows("cell"), rows("place"), upper, rows("seen"))
