"""A file whose bits are flipped, and what its readers make of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Noticed(Exception):
    """Noticed in another way than by an error: a job counts as torn, a state is passed over, a row of the queue is named."""


@dataclass(frozen=True)
class Target:
    """A file, and what its readers make of it.

    Attributes:
        observe: all that anybody sees of it: features, labels, numbers. Raises: ExplainedError or Noticed if it is noticed.
        read: the one reader of the file, where `observe` takes long: what it refuses nobody else gets to see, and of that
            `observe` is asked in `flips.RANDOM_BITS` cases only. Raises: as `observe`.
        restore: puts back what reading a flipped file may have changed elsewhere.
    """

    name: str
    path: Path
    observe: Callable[[], Any]
    restore: Callable[[], None] = lambda: None
    read: Callable[[], Any] = lambda: None
