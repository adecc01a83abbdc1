"""The door for other programs: found on the path, never in the current folder, given a time, and asked again later if silent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.text import one_line

if TYPE_CHECKING:
    import subprocess

    Program = subprocess.Popen[bytes]

ANSWER_S = 60.0


def find(program: str, hint: str) -> str:
    """Where a program lies. Raises: HeadstartError with `hint`, which says how to get it."""
    # An empty or relative entry of the path means the current folder, and in that may lie anything.
    places = [place for place in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(place)]
    path = shutil.which(program, path=os.pathsep.join(places))
    if path is None:
        raise HeadstartError(f"there is no {program} on this machine. {hint}")
    return path


def ask(command: Sequence[str], folder: Path, said: str = "", environment: Mapping[str, str] | None = None) -> str:
    """What a program answers on its output.

    Args:
        command: the first is of `find`.
        said: what it reads on its input.

    Raises: TryLaterError if it fails or gives no answer in a minute.
    """
    import subprocess

    name = Path(command[0]).name
    try:
        done = subprocess.run(
            list(command), cwd=folder, input=said, env=environment, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise TryLaterError(f"{name} gave no answer in {ANSWER_S:.0f} s; the same command goes on later") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise TryLaterError(f"{name}: {one_line(lines[-1])[:300]}")
    return done.stdout


def start_program(command: Sequence[str], **options: Any) -> Program:
    """A program that goes on by itself; options as of `subprocess.Popen`."""
    import subprocess

    return subprocess.Popen(list(command), **options)
