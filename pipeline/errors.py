"""The errors that a command turns into one line and an exit code."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

from .text import one_line


class ExplainedError(Exception):
    """What one line explains, and a command ends with. Whoever means only mistakes, or only faults that pass, names that one.

    It is one line whatever names stand in it: what would end a line or turn its direction is spelled out.
    """

    exit_code: int

    def __init__(self, line: str) -> None:
        super().__init__(one_line(line))


class HeadstartError(ExplainedError):
    """A mistake: the line says what, where, expected against found, what to do next. The same command fails again."""

    exit_code = 1


class TryLaterError(ExplainedError):
    """The environment failed, not the job: the disk is full, the mount is gone. The same command may succeed later."""

    exit_code = 75


class SourceGoneError(TryLaterError):
    """What one source of items lies on is gone or cannot be read: its jobs wait, those of other sources can be done."""


class ItemHung(Exception):
    """An item holds a thread that nothing can end, so the process has to; the line says which item."""


class InterruptedWork(Exception):
    """A signal asked for the end; the current job was given back."""


class TimeIsUp(InterruptedWork):
    """The time limit is over. A job that keeps what it did may go on to the next thing worth keeping, once."""


class WithdrawnWork(InterruptedWork):
    """The job in hand was paused, cancelled or removed; the line says what."""


# None of these says anything about the job in hand, so none of them may count against it.
_ENVIRONMENT_NAMES = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "ESTALE", "ENODEV", "ENXIO", "ENOTCONN", "EHOSTDOWN")
_LIMIT_NAMES = ("EMFILE", "ENFILE", "EFBIG", "ENOMEM", "ENOLCK")
_ENVIRONMENT = {getattr(errno, name) for name in (*_ENVIRONMENT_NAMES, *_LIMIT_NAMES) if hasattr(errno, name)}


_HINTS = {
    errno.ENOSPC: "free some space",
    getattr(errno, "EDQUOT", -1): "free some space",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.ENOMEM: "free some memory, or raise its limit (ulimit -v)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}
# What libraries say, each in its own kind of error, where the system gave them no memory, no thread or no address space.
_SHORTAGE = (
    "can't start new thread",
    "cannot allocate memory",
    "failed to map segment",
    "bad_alloc",
    "failed to allocate memory",
)


def is_shortage(error: BaseException) -> bool:
    """Whether the system, not the job, is why: it gave no memory, no thread or no room for a library."""
    if isinstance(error, MemoryError):
        return True
    said = str(error).lower()
    return any(words in said for words in _SHORTAGE)


def as_shortage(doing: str) -> TryLaterError:
    """What to raise instead where `is_shortage`."""
    return TryLaterError(
        f"{doing}: not enough memory. Nothing is lost: free some, or raise its limit, then run the same command again."
    )


# What a name or a place may do to a call, whichever command was given it.
_OF_A_PLACE = {
    getattr(errno, name)
    for name in ("ENAMETOOLONG", "ELOOP", "ENOTDIR", "EISDIR", "EACCES", "EPERM", "ENOENT", "EEXIST", "ENOTEMPTY", "EXDEV")
    if hasattr(errno, name)
}


# Where a package is called otherwise than what is imported of it.
_PACKAGES = {"sklearn": "scikit-learn", "yaml": "pyyaml", "PIL": "pillow", "pynvml": "nvidia-ml-py", "google": "protobuf"}


def _is_package(name: str | None) -> TypeGuard[str]:
    """Whether it can be what is missing: a module within a package that is there is our own mistake, or a version's."""
    return name is not None and "." not in name and name != "headstart"


def as_explained(error: Exception) -> Exception:
    """The error that one line explains, where it is the system's or that of a name that somebody gave; else `error` itself."""
    if isinstance(error, ExplainedError):
        return error
    if isinstance(error, ModuleNotFoundError) and _is_package(error.name):
        package = _PACKAGES.get(error.name, error.name)
        return HeadstartError(f"{package} is not installed here, and this needs it. Install it: pip install {package}")
    if is_shortage(error):
        return as_shortage("cannot go on")
    if not isinstance(error, OSError):
        return error
    later = as_try_later(error, "cannot go on")
    if later is None and error.errno in _OF_A_PLACE and error.filename is not None:
        shown = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else str(error.filename)
        return HeadstartError(f"cannot use {shown[:200]}: {error.strerror}")
    return later or error


@contextmanager
def missing_packages_explained() -> Iterator[None]:
    """A package that is not installed is no fault of the job that asks for it: what `as_explained` says of that is raised."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise as_explained(error) from None


def as_try_later(error: OSError, doing: str) -> TryLaterError | None:
    """The error to raise instead when `error` is the environment's fault, else None."""
    if error.errno not in _ENVIRONMENT:
        return None
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = _HINTS.get(error.errno, "check the disk or mount")
    return TryLaterError(f"{doing}: {reason}. Nothing is lost: {hint}, then run the same command again.")
