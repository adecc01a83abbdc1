"""The door for files that are code: a recipe or a kind of job from a user's file runs only after this user allowed it here.

Allowed is a digest, not a path: a file that changes is asked about again. Typing the file's name in a command allows it; finding
it in a workspace does not.
"""

import json
import os
import time
from pathlib import Path

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import FileSystem, environment_faults


def configuration_folder() -> Path:
    """Of this user on this machine: $HEADSTART_CONFIG, else where the system keeps such things."""
    given = os.environ.get("HEADSTART_CONFIG")
    if given:
        return Path(given)
    base = os.environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "headstart"


def is_allowed(digest: str) -> bool:
    """Whether this user allowed code of that digest."""
    return _note(digest).is_file()


def allow(digest: str, path: Path) -> None:
    """Remembers that this user allowed it. Args: path: where it lay then, for people."""
    note = _note(digest)
    with environment_faults(f"cannot write {note}"):
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        said = {"path": str(path), "allowed": time.strftime("%Y-%m-%d %H:%M:%S")}
        FileSystem().replace(note, (json.dumps(said) + "\n").encode())


def require_allowed(digest: str, path: Path) -> None:
    """Raises: HeadstartError that names the command which allows it."""
    if not is_allowed(digest):
        raise HeadstartError(
            f"{path} is code that this user has not allowed to run on this machine. Read it, then allow it: "
            f"headstart allow {path}"
        )


def _note(digest: str) -> Path:
    if len(digest) != 64 or not digest.isalnum():
        raise ValueError(digest)
    return configuration_folder() / "allowed" / digest
