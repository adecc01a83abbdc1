"""Workers as processes of this machine, each in a session of its own: they go on when the launch is killed."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator

import psutil

from headstart.pipeline import paths
from headstart.pipeline.doors import programs
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.executor import Launch, start_worker, worker_environment
from headstart.pipeline.stop import LEAVE_S
from headstart.pipeline.workspace import Workspace

_LAUNCH, _PLACE = "HEADSTART_LAUNCH", "HEADSTART_PLACE"
_LEAVE_S = LEAVE_S + 3.0
_POLL_S = 0.1
_MOST_A_CORE = 16  # each takes memory for an encoder
_GPUS = "/proc/driver/nvidia/gpus"


def open_executor(workspace: Workspace, launch: Launch) -> Processes:
    """Raises: HeadstartError where processes have no sessions, or the machine has too few GPUs."""
    if sys.platform == "win32":
        raise HeadstartError(
            "--on local needs sessions, which Windows has none of. Run headstart work in a window for each worker"
        )
    return Processes(workspace, launch)


class Processes:
    """Found again by the launch's name in their environment, which the kernel keeps: no list of them could be out of date."""

    poll_s = 0.5

    def __init__(self, workspace: Workspace, launch: Launch) -> None:
        self.workspace = workspace
        self.launch = launch
        self.script = f"#!/bin/sh\n# What each worker runs, in the workspace's folder.\n{launch.command}\n"
        self._begun: dict[str, programs.Program] = {}  # by place, of this process
        self._gpus = _gpus() if launch.gpus_per_worker else []
        if launch.workers * launch.gpus_per_worker > len(self._gpus):
            raise HeadstartError(
                f"{launch.workers} workers with {launch.gpus_per_worker} GPUs each do not fit this machine, which has "
                f"{len(self._gpus)}. Take fewer: --workers, --gpus-per-worker"
            )

    def start(self, count: int) -> None:
        taken = {place for _, place in self._leaders()}
        most = _MOST_A_CORE * (os.cpu_count() or 1)
        if len(taken) + count > most:
            raise HeadstartError(
                f"{len(taken) + count:,} workers are too many for this machine: at most {_MOST_A_CORE} a core, {most} in all. "
                "Take fewer: --workers"
            )
        free = (place for place in range(len(taken) + count) if str(place) not in taken)
        for place in [next(free) for _ in range(count)]:
            environment = {**worker_environment(), _LAUNCH: self.launch.name, _PLACE: str(place)}
            if self.launch.gpus_per_worker:
                first = place * self.launch.gpus_per_worker
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(self._gpus[first : first + self.launch.gpus_per_worker])
            log = self.workspace.launch_folder(self.launch.on) / f"worker_{place}.log"
            self._begun[str(place)] = start_worker(self.launch.command, self.workspace.root, environment, log)

    def running(self) -> int:
        return len(list(self._leaders()))

    def stop(self) -> int:
        for process, _ in self._leaders():
            _send(process, "terminate")
        end = time.monotonic() + _LEAVE_S
        while self.running():
            if time.monotonic() > end:
                break
            time.sleep(_POLL_S)
        # Also what a worker that was killed left, such as its children.
        end = time.monotonic() + _LEAVE_S
        while members := list(self._members()):
            for process, _ in members:
                _send(process, "kill")
            if time.monotonic() > end:
                break
            time.sleep(_POLL_S)
        return len(list(self._members()))

    def _leaders(self) -> Iterator[tuple[psutil.Process, str]]:
        if sys.platform == "win32":
            return
        # While a shell becomes the worker it has no environment, and its place would be given to another one.
        begun = {program.pid: place for place, program in self._begun.items() if program.poll() is None}
        for pid, place in begun.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                yield psutil.Process(pid), place
        for process, place in self._members():
            try:
                if process.pid not in begun and os.getsid(process.pid) == process.pid:
                    yield process, place
            except ProcessLookupError:
                continue

    def _members(self) -> Iterator[tuple[psutil.Process, str]]:
        for process in psutil.process_iter():
            try:
                environment = process.environ()
                if environment.get(_LAUNCH) == self.launch.name and process.status() != psutil.STATUS_ZOMBIE:
                    yield process, environment.get(_PLACE, "0")
            except (psutil.Error, OSError):  # of another user, or just gone
                continue


def _send(process: psutil.Process, what: str) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        getattr(process, what)()


def _gpus() -> list[str]:
    """Their numbers, as CUDA takes them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [word for word in visible.split(",") if word]
    try:
        return [str(number) for number, _ in enumerate(paths.names(_GPUS))]
    except OSError:
        return []
