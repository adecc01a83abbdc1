"""A piece of code in a forked process under strace: its system calls, and faults injected into the n-th of one name.

The process is forked from one that has imported everything, and waits until strace is attached: each run takes some 50 ms and
has the same calls in the same order.
"""

import ctypes
import gc
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TRACED = "trace=%file,%desc"
_LINE = re.compile(r"(?P<pid>\d+) +(?P<call>\w+)\((?P<rest>.*)")
_ANY_TRACER = (0x59616D61, ctypes.c_ulong(-1))  # prctl: where only parents may trace, strace is a brother


@dataclass(frozen=True)
class Call:
    """The `number`-th call of this name, counted from the moment strace was attached."""

    name: str
    number: int
    text: str


@dataclass(frozen=True)
class Ended:
    """How a traced process ended.

    Attributes:
        status: exit status, or minus the signal.
        errors: what it wrote to standard error.
        hit: the call that the injected fault met.
    """

    status: int
    errors: str
    hit: str
    lines: list[str]


def why_not() -> str | None:
    """Why nothing can be traced here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install strace)"
    ended = trace(lambda: 0, None, Path(os.devnull))
    return None if ended is not None and ended.status == 0 else "this machine forbids ptrace (docker run --cap-add SYS_PTRACE)"


def trace(body: Callable[[], int], fault: tuple[str, str, int] | None, errors: Path) -> Ended | None:
    """Runs `body` in a forked process under strace; None if strace could not attach.

    Args:
        fault: name of a call, what happens in it (`signal=KILL` or `error=ENOSPC`), and in the how many-th.
        errors: where its standard output and error go.
    """
    waiting, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(body, waiting, go, errors)
    os.close(waiting)
    watched = ["-e", TRACED]
    if fault is not None:  # nothing else is looked at: what strace prints costs more than what it traces
        name, what, number = fault
        watched = ["-e", f"trace={name}", "-e", f"inject={name}:{what}:when={number}"]
    command = ["strace", "-f", "-y", "-s", "0", *watched, "-o", "/dev/stdout", "-p", str(pid)]
    strace = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert strace.stderr is not None
    is_attached = "attached" in strace.stderr.readline()
    if not is_attached:
        os.kill(pid, signal.SIGKILL)
    os.close(go)
    output, _ = strace.communicate()
    _, status = os.waitpid(pid, 0)
    if not is_attached:
        return None
    lines = output.splitlines()
    text = errors.read_text() if errors.is_file() else ""
    return Ended(os.waitstatus_to_exitcode(status), text, _hit(lines), lines)


def _hit(lines: list[str]) -> str:
    """The call in which a fault was injected: marked as such, or without a result because the process died in it."""
    hit = next((line for line in reversed(lines) if "(INJECTED)" in line or line.endswith("= ?")), "")
    resumed = re.match(r"(\d+ +)<\.\.\. (\w+) resumed>", hit)
    if resumed is None:
        return hit
    return next(line for line in reversed(lines) if line.startswith(f"{resumed[1]}{resumed[2]}("))


def _child(body: Callable[[], int], waiting: int, go: int, errors: Path) -> None:
    status = 99
    try:
        ctypes.CDLL(None).prctl(*_ANY_TRACER)
        os.close(go)
        output = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - a test runner may have put something else there
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        gc.disable()  # files that the parent left to it would be closed here, sooner or later
        select.select([waiting], [], [])  # not a read, which some runs would count and others not
        status = body()
    finally:
        os._exit(status)


def calls_on(root: Path, lines: list[str]) -> Iterator[Call]:
    """The first thread's calls that touch something at or below `root`, each with its number among those of its name."""
    numbers: dict[str, int] = {}
    main = _LINE.match(lines[0])
    assert main is not None
    for line in lines:
        match = _LINE.match(line)
        if match is None or match["pid"] != main["pid"]:
            continue
        numbers[match["call"]] = numbers.get(match["call"], 0) + 1
        if str(root) in match["rest"]:
            yield Call(match["call"], numbers[match["call"]], line)
