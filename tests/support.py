"""What tests of every room call: the command line, Python processes and jobs of the fake kind."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import headstart.jobs
from headstart.pipeline.enqueue import Work, append_work, queue_lock
from headstart.pipeline.job import Job
from headstart.pipeline.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
FAKES = Path(__file__).resolve().parent / "fakes"
KINDS = frozenset({"fake", "extract"})

headstart.jobs.__path__.append(str(FAKES))


def enqueue_fakes(workspace: Workspace, items: int, job_size: int = 10, folder: str = "features/fake") -> list[Job]:
    """Queues jobs of the fake kind; returns the new ones."""
    with queue_lock(workspace):
        (workspace.root / folder).mkdir(parents=True, exist_ok=True)
        return append_work(workspace, [Work("fake", folder, "features/source", items, job_size)], KINDS, lambda reader: [])[1]


def flipped(data: bytes, bit: int) -> bytes:
    """`data` with one bit the other way round, as a bad disk gives it back."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flip(path: Path) -> None:
    """Turns one bit in the middle of a file."""
    data = path.read_bytes()
    path.write_bytes(flipped(data, 8 * (len(data) // 2)))


def spawn_python(code: str, *arguments: str, **options: Any) -> subprocess.Popen:
    """Starts `code` in a process of its own that knows the fake kind; options as of `subprocess.Popen`."""
    prelude = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import headstart.jobs; headstart.jobs.__path__.append({str(FAKES)!r})\n"
    )
    command = [sys.executable, "-c", prelude + code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def run_python(code: str, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of `spawn_python`."""
    process = spawn_python(code, *arguments)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def run_cli(*arguments, cwd=None, **environment) -> subprocess.CompletedProcess:
    """Runs the command line as a user does."""
    return subprocess.run(
        _command(arguments),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def kill_at_an_epoch(*arguments, **environment) -> int:
    """Starts a training, kills it at the first epoch that it tells of, and returns its exit status."""
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(_command(arguments), text=True, env={**os.environ, **environment}, **streams) as process:
        for line in process.stderr:
            if "epoch" in line:
                break
        process.kill()
        process.communicate()
    return process.returncode


def killed_at_an_epoch(arguments, kills: int) -> None:
    """Starts a training, kills it so many times, and then lets it end."""
    for _ in range(kills):
        kill_at_an_epoch(*arguments)
    subprocess.run(_command(arguments), check=True, capture_output=True)


def _command(arguments) -> list[str]:
    return [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
