"""A fork server: everything is imported once, so that a worker that is going to be killed costs milliseconds."""

import mmap
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headstart.commands.running.verify import command as verify_command
from headstart.pipeline import worker as worker_module
from headstart.pipeline.kinds import Settings
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import Workspace

from .invariants import age
from .kinds import tiny
from .steps import counted, watch

_LABEL_BYTES = 64
_PATIENCE_S = 20.0


@dataclass(eq=False)
class Forked:
    """A child and what became of it: `status` is that of the process, `fault` the label of the call it was stopped before."""

    pid: int
    name: str
    board: mmap.mmap
    errors: Path
    status: int | None = None

    @property
    def fault(self) -> str:
        return bytes(self.board[:]).rstrip(b"\0").decode()

    @property
    def was_killed(self) -> bool:
        return self.status is not None and os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    def violation(self) -> str | None:
        """What is wrong with how it ended, unless it was killed from outside or did its work."""
        if self.was_killed or self.status == 0:
            return None
        said = self.errors.read_text().strip().splitlines() if self.errors.exists() else []
        return f"wedged: {self.name} ended with {self.status}: {said[-1] if said else 'nothing said'}"

    def poll(self) -> bool:
        """Whether it has ended or, if it was asked to, has stopped."""
        pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        if pid and not os.WIFSTOPPED(status):
            self.status = status
        return bool(pid)

    def wait(self) -> bool:
        """Waits until it ends or stops; one that does neither is killed, and False returned."""
        end = time.monotonic() + _PATIENCE_S
        while not self.poll():
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                self.status = os.waitpid(self.pid, 0)[1]
                return False
            time.sleep(0.0005)
        return True


def fork(
    task: Callable[[], None], root: Path, log: Path, at: int = 0, number: int = signal.SIGKILL, name: str = "worker"
) -> Forked:
    """Runs `task` in a child that sends itself `number` before its `at`-th call to the file system below `root`; 0 for never."""
    board = mmap.mmap(-1, _LABEL_BYTES)  # shared memory outlives the child

    def act(label: str) -> None:
        text = label.encode()[:_LABEL_BYTES]
        board[: len(text)] = text
        os.kill(os.getpid(), number)

    pid = os.fork()
    if pid:
        return Forked(pid, name, board, log.with_name(f"errors-{pid}"))
    status = 1
    try:
        # A waiting worker looks again soon, and nobody starts Python children for jobs whose workers died: they are not
        # what is measured, and a storm would spend its time on them.
        worker_module._POLL_S = 0.005
        worker_module.DEATHS = 10**9
        tiny.log = log
        if at:
            watch(root, counted(at, act))
        task()
        status = 0
    except BaseException:
        with open(log.with_name(f"errors-{os.getpid()}"), "w") as errors:
            traceback.print_exc(file=errors)
    finally:
        os._exit(status)


def work(workspace: Workspace, block: int = 1) -> Callable[[], None]:
    """A worker until nothing is left, which claims up to `block` jobs at once."""

    def task() -> None:
        Worker(workspace, Settings(), Limits(block=block), lambda finished: None).run()

    return task


def repair(workspace: Workspace) -> Callable[[], None]:
    """`headstart verify --deep --repair`, as a user runs it."""

    def task() -> None:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        verify_command.main(["--deep", "--repair", "-w", str(workspace.root)], standalone_mode=False)

    return task


def settle(workspace: Workspace, log: Path, workers: int = 1, block: int = 1) -> list[str]:
    """Fresh workers at once, then a repair, none disturbed: violations if one fails or never ends. All others are dead."""
    violations = []
    if not workspace.files.hard_links:
        age(workspace.root)  # there a claim can be torn, which then says nothing of its owner: the lease has to run out
    for name, task, count in (("a fresh worker", work(workspace, block), workers), ("the repair", repair(workspace), 1)):
        for child in [fork(task, workspace.root, log, name=name) for _ in range(count)]:
            if not child.wait():
                violations.append(f"wedged: {name} did not end within {_PATIENCE_S:.0f} s")
            violations += filter(None, [child.violation()])
    return violations


def done_twice(log: Path, killed: set[int]) -> list[str]:
    """Jobs that two workers did although neither was killed: a claim that excluded nobody."""
    by_job: dict[str, list[int]] = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        pid, job_id = line.split()
        if int(pid) not in killed:
            by_job.setdefault(job_id, []).append(int(pid))
    return [f"duplicated: {job_id} was done by living workers {pids}" for job_id, pids in by_job.items() if len(pids) > 1]
