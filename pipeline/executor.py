"""What an executor is, and which there are: each is one module in `executors/`, and its file name is its name.

An executor only starts `headstart work` somewhere and says how many it started are still there. Which job a worker does, and
whether it is done, the files say: no executor knows of a job.
"""

from __future__ import annotations

import os
import pkgutil
import shlex
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from . import paths
from .doors import programs, python
from .errors import HeadstartError
from .workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BLOCK = 64  # jobs that a worker may claim at once: there are many on one file system
_GRACE_S = 300  # what an executor that ends workers by force gives them beyond their own limit
# What a worker elsewhere may need of this process's environment. Nothing else goes there: the rest may hold secrets.
_PASSED_ON = (
    *("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONPATH", "PYTHONSAFEPATH", "USER", "VIRTUAL_ENV"),
    *("HEADSTART_CONFIG", "XDG_CONFIG_HOME", "OMP_NUM_THREADS"),
)


@dataclass(frozen=True)
class Launch:
    """Workers that are wanted somewhere.

    Attributes:
        name: of this launch, never used before; an executor finds by it what it started, and nothing else.
        on: the executor's name.
        workers: how many at once.
        gpus_per_worker: 0 for none.
        time_limit_s: after this a worker leaves by itself and another takes its place.
        work: more arguments of `headstart work`.
    """

    name: str
    on: str
    workers: int
    gpus_per_worker: int = 0
    time_limit_s: float = 3300.0
    work: tuple[str, ...] = ()

    @property
    def end_s(self) -> int:
        """When whoever ends workers by force may do so, in seconds after their start."""
        return int(self.time_limit_s) + _GRACE_S

    @property
    def command(self) -> str:
        """The one line of shell that a worker is, for a shell in the workspace: no path in it is of this machine."""
        block = () if any(word.split("=")[0] == "--block" for word in self.work) else ("--block", str(_BLOCK))
        words = ("python3", "-P", "-m", "headstart.cli", "work", "-w", ".", "--time-limit", f"{self.time_limit_s:g}s")
        return f"exec {shlex.join([*words, *block, *self.work])}"


class Executor(Protocol):
    """Starts workers of one launch. Each method raises TryLaterError if whoever places them gives no answer now.

    A module in `executors/` has `open_executor(workspace, launch) -> Executor`, which raises HeadstartError, with what to do,
    where there is no such executor here, and imports nothing heavy before it is called.

    Attributes:
        script: what each worker runs, as a user may read it.
        poll_s: how long to wait between two looks.
    """

    script: str
    poll_s: float

    def start(self, count: int) -> None:
        """Asks for so many more workers."""

    def running(self) -> int:
        """Workers of this launch that run or wait for their place, whoever started them."""

    def stop(self) -> int:
        """Ends them, waits until they are gone, and returns how many are left nevertheless."""


class _Module(Protocol):
    def open_executor(self, workspace: Workspace, launch: Launch) -> Executor: ...


def known_executors() -> tuple[str, ...]:
    folders = import_module("headstart.pipeline.executors").__path__
    return tuple(sorted(module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_")))


def executor_of(workspace: Workspace, launch: Launch) -> Executor:
    """Raises: HeadstartError if there is none of this name, or it cannot be used here."""
    if launch.on not in known_executors():
        raise HeadstartError(f"unknown executor {launch.on!r}; there are {', '.join(known_executors())}")
    module = import_module(f"headstart.pipeline.executors.{launch.on}")
    return cast(_Module, module).open_executor(workspace, launch)


def worker_environment() -> dict[str, str]:
    """What a worker elsewhere gets of this process's environment: where its programs and this code lie, and no secret.

    On a node that has this machine's paths it finds the same Python; on another one its own, for what is absent is passed over.
    """
    environment = python.environment()
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    return {name: environment[name] for name in _PASSED_ON if name in environment}


def start_worker(
    command: str, root: Path, environment: Mapping[str, str], log: Path, before: Callable[[], None] | None = None
) -> programs.Program:
    """One worker as a process of this machine, in a session of its own.

    Args:
        command: `Launch.command`: the text and not the file in the workspace, for whoever may write there could put another one
            in its place.
        root: of the workspace.
        log: what it says is added to this file.
        before: called in the new process before it becomes the worker.
    """
    import subprocess

    with paths.open_append(log) as output:
        return programs.start_program(
            [programs.find("sh", "It is part of any POSIX system"), "-c", command],
            cwd=root,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=before,
        )
