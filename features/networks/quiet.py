"""Libraries that log or print what their caller says better itself."""

import contextlib
import ctypes
import io
import logging
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_logger(name: str, level: int) -> Iterator[None]:
    """The logger `name` says nothing below `level`, and as before afterwards."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def silent_output() -> Iterator[None]:
    """Nothing appears on standard output, neither Python's nor that of a library in C (an exporter that dumps its graph)."""
    try:
        before = os.dup(1)
    except OSError:  # there is none
        before = -1
    _flush()
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        if before >= 0:
            os.dup2(null, 1)
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        _flush()  # else what is still held would appear as soon as something else does
        os.close(null)
        if before >= 0:
            os.dup2(before, 1)
            os.close(before)


def _flush() -> None:
    """Writes out what Python and the C library hold of standard output."""
    for stream in (sys.stdout, sys.__stdout__):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()  # type: ignore[union-attr]  # a process may have none
    with contextlib.suppress(AttributeError, OSError, TypeError):  # where the C library has no such name
        ctypes.CDLL(None).fflush(None)
