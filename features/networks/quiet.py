"""Libraries that log or print what their caller says better itself."""

import contextlib
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
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stdout.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        if before >= 0:
            os.dup2(null, 1)
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        os.close(null)
        if before >= 0:
            os.dup2(before, 1)
            os.close(before)
