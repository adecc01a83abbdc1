"""The one place that starts Python: no folder that the user happens to stand in is on the path of any process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence


def module_command(module: str, *arguments: str) -> list[str]:
    """`python -m MODULE ARGUMENTS`; with -P, which keeps the current folder off the path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def code_command(code: str, *arguments: str) -> list[str]:
    """`python -c CODE ARGUMENTS`, likewise."""
    return [sys.executable, "-P", "-c", code, *arguments]


def environment() -> dict[str, str]:
    """This process's environment, in which `import headstart` finds what is running here, installed or a checkout."""
    import headstart

    home = str(Path(headstart.__file__).resolve().parent.parent)
    # An empty or relative entry means the current folder, and in that may lie anything.
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([home, *given]), "PYTHONSAFEPATH": "1"}


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """A process of `module_command`, `code_command` or what this one was started with; options as of `subprocess.Popen`."""
    import subprocess

    return subprocess.Popen(list(command), **{"env": environment(), **options})


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """As `subprocess.run`, of such a command; its exit status is the caller's to judge."""
    import subprocess

    return subprocess.run(list(command), check=False, **{"env": environment(), **options})


def forget_current_folder() -> None:
    """Takes the current folder off this process's own path, where a shell or `python -m` has put it without being told to."""
    import headstart

    home = os.path.dirname(os.path.dirname(os.path.realpath(headstart.__file__)))
    named = {home, *filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep))}
    here = os.path.realpath(os.curdir)
    sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry) and (entry in named or os.path.realpath(entry) != here)]
