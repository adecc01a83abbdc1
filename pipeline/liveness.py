"""Is the process that wrote this still alive? Answered from the kernel, never from a clock.

A pid alone is not enough: it is reused after a death, means another process in another container, and nothing on another host.
"""

import contextlib
import hashlib
import os
import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Owner:
    """Who holds a claim.

    Attributes:
        worker: unique name of the worker.
        host: for people; liveness never depends on it.
        machine: boot id and pid name space; equal means that `pid` can be looked up here.
        pid, started: the process and its start in kernel ticks (or seconds), which together are never reused.
        lease_s: how long its heartbeat may stand still, for those who cannot look up the pid.
    """

    worker: str
    host: str
    machine: str
    pid: int
    started: float
    lease_s: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def current_owner(lease_s: float) -> Owner:
    import socket

    pid = os.getpid()
    host = socket.gethostname()
    started = _start_of(pid)
    assert started is not None
    return Owner(f"{host}-{pid}-{os.urandom(3).hex()}", host, this_machine(), pid, started, lease_s)


def is_alive(owner: Owner) -> bool | None:
    """True or False for a process of this machine and boot; None if it cannot be known from here."""
    if owner.machine != this_machine():
        return None
    return _start_of(owner.pid) == owner.started


def is_of_this_boot(owner: Owner) -> bool:
    """Whether it ran on this machine since it was switched on: of any other its end may have been the machine's."""
    return owner.machine.startswith(_this_boot())


def process_token(pid: int) -> str:
    """Machine, pid and start of a process of this machine as one short word: `3f2a9c01-4711-88123`."""
    machine = hashlib.sha256(this_machine().encode()).hexdigest()[:8]
    return f"{machine}-{pid}-{_start_of(pid) or 0:.0f}"


@lru_cache(maxsize=1)
def this_machine() -> str:
    """Names this boot of this kernel and this pid name space."""
    with contextlib.suppress(OSError):
        return f"{_this_boot()}/{Path('/proc/self/ns/pid').readlink()}"
    return _this_boot()


@lru_cache(maxsize=1)
def _this_boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import uuid

        import psutil

        # Boot time is rounded by some systems from call to call; a minute is exact enough to tell two boots apart.
        return f"{uuid.getnode():x}/{round(psutil.boot_time() / 60)}"


def _start_of(pid: int) -> float | None:
    """When `pid` started, None if there is no such process or it is a zombie (dead, but not yet waited for)."""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The second field is the program's name in brackets and may itself contain spaces and brackets.
        fields = stat[stat.rindex(")") + 2 :].split()
        return None if fields[0] in "ZX" else float(fields[19])
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None
