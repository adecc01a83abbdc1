"""The errors that a command turns into one line and an exit code."""

import errno
import os


class ExplainedError(Exception):
    """What one line explains, and a command ends with. Whoever means only mistakes, or only faults that pass, names that one."""

    exit_code: int


class HeadstartError(ExplainedError):
    """A mistake: the line says what, where, expected against found, what to do next. The same command fails again."""

    exit_code = 1


class TryLaterError(ExplainedError):
    """The environment failed, not the job: the disk is full, the mount is gone. The same command may succeed later."""

    exit_code = 75


class SourceGoneError(TryLaterError):
    """What one source of items lies on is gone or cannot be read: its jobs wait, those of other sources can be done."""


class InterruptedWork(Exception):
    """A signal asked for the end; the current job was given back."""


class WithdrawnWork(InterruptedWork):
    """The job in hand was paused, cancelled or removed; the line says what."""


# None of these says anything about the job in hand, so none of them may count against it.
_ENVIRONMENT = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EIO", "EROFS", "ESTALE", "ENODEV", "ENXIO", "ENOTCONN", "EHOSTDOWN", "EMFILE", "ENFILE")
    if hasattr(errno, name)
}


def as_try_later(error: OSError, doing: str) -> TryLaterError | None:
    """The error to raise instead when `error` is the environment's fault, else None."""
    if error.errno not in _ENVIRONMENT:
        return None
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = "free some space" if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)) else "check the disk or mount"
    return TryLaterError(f"{doing}: {reason}. Nothing is lost: {hint}, then run the same command again.")
