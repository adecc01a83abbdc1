"""Makes the next thing in a thread while the caller works on this one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Place = TypeVar("Place")
Made = TypeVar("Made")


def ahead(make: Callable[[Place], Made], places: Iterable[Place]) -> Iterator[Made]:
    """`make` of each place in turn; the next is made in a thread while the caller works on this one."""
    waiting = iter(places)
    first = list(itertools.islice(waiting, 2))
    if len(first) < 2:  # nothing to work on meanwhile, and a thread to start costs more than many a batch
        yield from map(make, first)
        return
    following: Future[Made] | None = None
    with ThreadPoolExecutor(1, "ahead") as thread:
        for place in itertools.chain(first, waiting):
            made, following = following, thread.submit(make, place)
            if made is not None:
                yield made.result()
        if following is not None:
            yield following.result()
