"""BLAS with one thread: how it splits a sum among several decides the last bit, and these spin for a while after each product."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within it, in all threads of this process, a product is computed by whoever asks for it."""
    with libraries().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def libraries() -> Any:
    """The BLAS that is loaded by the first call: numpy's. What torch or SciPy bring later is not limited.

    To be called once before other threads import anything: looking for them holds a lock of the dynamic linker and asks for
    Python's, and a thread that loads a library does so the other way round.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # takes 10 ms
