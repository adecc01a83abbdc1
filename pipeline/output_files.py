"""Files that a user named as output: written whole, and never over something else unasked."""

from __future__ import annotations

from pathlib import Path

from .doors import reading
from .errors import HeadstartError
from .files import FileSystem, environment_faults

ANOTHER_FILE = "Pass --force to replace it, or -o FILE"


def refuse_place(path: Path, option: str = "-o", example: str = "model.onnx") -> None:
    """Before the work. Raises: HeadstartError with the remedy, of the option, where no file can be written at `path`."""
    if path.is_dir():
        raise HeadstartError(f"{path} is a folder. Name a file: {option} {path / example}")
    if not path.absolute().parent.is_dir():
        raise HeadstartError(f"{path.absolute().parent} is no folder. Make it, or choose another place with {option} FILE")
    if path.exists() and not path.is_file():
        raise HeadstartError(f"{path} is no ordinary file. Choose another place with {option} FILE")


def write_output(path: Path, data: bytes, force: bool = False, remedy: str = ANOTHER_FILE) -> bool:
    """Puts `data` at `path`, whole or not at all.

    Args:
        force: replace what stands there. remedy: what the user can do if something else does.

    Returns: False if exactly that stands there already.
    Raises: HeadstartError if something else stands there and `force` is not given, or the place cannot be written;
        TryLaterError if the disk is full or gone.
    """
    files = FileSystem(hard_links=False)  # a drive that has none is a usual place for outputs
    try:
        with environment_faults(f"cannot write {path}"):
            if reading.is_given(path, data):
                return False
            if force:
                files.replace(path.absolute(), data)
            elif not files.publish(path.absolute(), data):
                raise HeadstartError(f"{path} exists and holds something else. {remedy}")
    except OSError as error:
        raise HeadstartError(f"cannot write {path}: {error.strerror}. Choose another place") from None
    return True
