"""Locks between processes: a file below the workspace that one of them holds. Cut by nobody, followed nowhere.

The kernel lets go of it when its holder dies. On Windows, which has no `flock`, `filelock` knows what there is instead.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from headstart.pipeline import paths
from headstart.pipeline.errors import TryLaterError
from headstart.pipeline.files import environment_faults

from . import reading

_POLL_S = 0.05


class LockTimeout(Exception):
    """Somebody else holds it all the time."""


@contextlib.contextmanager
def held(path: Path, timeout_s: float) -> Iterator[None]:
    """Holds `path`, made if absent. Raises: LockTimeout; LinkError; UnreadableError if something else stands there; OSError."""
    descriptor = paths.open_file(path, os.O_RDWR | os.O_CREAT)
    if sys.platform == "win32":
        os.close(descriptor)
        from filelock import FileLock, Timeout

        try:
            with FileLock(path, timeout=timeout_s):
                yield
        except Timeout:
            raise LockTimeout(path) from None
        return
    import fcntl

    with reading.stream(descriptor, path) as file:
        end = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise LockTimeout(path) from None
                time.sleep(_POLL_S)
        try:
            yield
        finally:
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)


@contextlib.contextmanager
def held_or_later(path: Path, timeout_s: float, who: str) -> Iterator[None]:
    """`held`, for commands. Args: who: what the other holder is and does, as a message begins.

    Raises: TryLaterError if `who` does so all the time, or the disk is full or gone; HeadstartError if this user may not
    write there; LinkError; UnreadableError; OSError.
    """
    with contextlib.ExitStack() as stack:
        try:
            with environment_faults(f"cannot lock {path}"):
                stack.enter_context(held(path, timeout_s))
        except LockTimeout:
            raise TryLaterError(f"{who} for {timeout_s:.0f} s. Wait for it, then try again.") from None
        yield
