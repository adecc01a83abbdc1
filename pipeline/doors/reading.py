"""Reads a file of a workspace whole: regular files only, no link followed, nothing waited for, no more than a limit of bytes."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from io import BufferedReader, FileIO
from pathlib import Path

from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
# What is larger was not written by this project; the largest that it writes is far below.
RECORD_BYTES = 64 * MB  # any one JSON
SMALL_BYTES = 64 * KB  # who a worker is, why an attempt failed
PAYLOAD_BYTES = 4 * GB  # features of one job
DATABASE_BYTES = 1 * GB
TABLE_BYTES = 1 * GB  # a CSV or TSV of the user
HEAD_BYTES = 1 * GB
WEIGHTS_BYTES = 16 * GB
GRID_BYTES = 1 * MB  # what people write by hand
IMAGE_BYTES = 1 * GB
_STEP = 1 * MB
LFS_POINTER = b"version https://git-lfs.github.com/"  # what a file begins with that Git LFS did not fetch


class UnreadableError(HeadstartError):
    """What stands there is no file that this project would have written."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.path = Path(path)
        self.why = why


def read(path: Path, limit: int = RECORD_BYTES) -> bytes:
    """All bytes of a regular file below its workspace.

    Raises: UnreadableError if it is none or holds more than `limit`; LinkError; OSError as `open`, FileNotFoundError included.
    """
    descriptor = _descriptor(path)
    try:
        return _all(descriptor, path, limit)
    finally:
        os.close(descriptor)


def read_held(folder: paths.Held, name: str, limit: int = RECORD_BYTES) -> bytes | None:
    """As `read`, of a file in a folder that is held open; None for whatever `read` would raise: it has to say why."""
    descriptor = folder.open_file(name)
    if descriptor is None:
        return None
    try:
        return _all(descriptor, name, limit)
    except (OSError, UnreadableError):
        return None
    finally:
        os.close(descriptor)


def read_given(path: Path, limit: int) -> bytes:
    """As `read`, of a file that the user named: links are followed."""
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        return _all(descriptor, path, limit)
    finally:
        os.close(descriptor)


def is_given(path: Path, data: bytes) -> bool:
    """Whether `data` is all that stands in a file that the user named."""
    try:
        return read_given(path, len(data)) == data
    except (OSError, UnreadableError):
        return False


@contextlib.contextmanager
def opened(path: Path, limit: int | None = None) -> Iterator[BufferedReader]:
    """A regular file below its workspace, open for reading; what a library maps or parses piece by piece.

    Raises: as `read`, also if it is longer than `limit`.
    """
    with stream(_descriptor(path), path, limit) as file:
        yield file


@contextlib.contextmanager
def opened_given(path: Path, limit: int | None = None) -> Iterator[BufferedReader]:
    """As `opened`, of a file that the user named: links are followed."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    with stream(os.open(path, flags), path, limit) as file:
        yield file


def _descriptor(path: Path) -> int:
    try:
        return paths.open_file(path)
    except IsADirectoryError:
        raise UnreadableError(path, _expected(stat.S_IFDIR)) from None


def stream(descriptor: int, path: Path, limit: int | None = None) -> BufferedReader:
    """A file object that owns `descriptor`. Raises: UnreadableError; the descriptor is closed then."""
    try:
        _size(descriptor, path, limit)
        return BufferedReader(FileIO(descriptor, "r"))
    except BaseException:
        os.close(descriptor)
        raise


def _all(descriptor: int, path: Path | str, limit: int) -> bytes:
    size = _size(descriptor, path, limit)
    # One byte more than it has: a file that does not grow is read in one call, and seen to be at its end.
    data = os.read(descriptor, min(size + 1, limit + 1))
    if len(data) == size:
        return data
    pieces = [data]
    total = len(data)
    while data and total <= limit:
        data = os.read(descriptor, _STEP)
        pieces.append(data)
        total += len(data)
    if total > limit:
        raise UnreadableError(path, f"holds more than {limit:,} bytes, which nothing of its kind does")
    return b"".join(pieces)


def require_file(facts: os.stat_result, path: Path | str) -> None:
    """Raises: UnreadableError if that is no regular file."""
    if not stat.S_ISREG(facts.st_mode):
        raise UnreadableError(path, _expected(facts.st_mode))


def _size(descriptor: int, path: Path | str, limit: int | None) -> int:
    facts = os.fstat(descriptor)
    require_file(facts, path)
    if limit is not None and facts.st_size > limit:
        raise UnreadableError(path, f"has {facts.st_size:,} bytes, expected at most {limit:,}")
    return facts.st_size


def _expected(mode: int) -> str:
    known = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return f"is {known.get(stat.S_IFMT(mode), 'no file')}, expected a file"
