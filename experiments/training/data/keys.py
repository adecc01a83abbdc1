"""Random numbers by key: what is drawn is a function of where it is drawn, never of what was drawn before.

A training that was killed needs no generator's state back, and any step can be repeated alone.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.experiments.training.schedule import stream_key

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Key:
    """A place in a training: its seed, and whatever else tells this draw from all others (epoch, item, step, a name)."""

    facts: tuple[int | str, ...]

    def of(self, *facts: int | str) -> Key:
        """A key below this one; other facts give unrelated numbers."""
        return Key((*self.facts, *facts))

    @property
    def number(self) -> int:
        """63 bits."""
        return stream_key(*self.facts)

    def numpy(self) -> np.random.Generator:
        """A generator at its start, counter-based (Philox)."""
        return np.random.Generator(np.random.Philox(self.number))

    def torch(self) -> torch.Generator:
        """A generator at its start, on the CPU: a GPU gets the same numbers."""
        import torch

        return torch.Generator().manual_seed(self.number)

    @contextlib.contextmanager
    def seeding(self) -> Iterator[None]:
        """Within it, code that asks no key (`random`, `numpy.random`, torch's own generator) draws from this one.

        Outside nothing has changed. Not for threads: these generators are the process's.
        """
        import torch

        before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
        number = self.number
        random.seed(number)
        np.random.seed(number % 2**32)
        torch.default_generator.manual_seed(number)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.random.set_rng_state(before[2])
