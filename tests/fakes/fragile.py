"""A kind whose items end their process as their source says: `features/fragile` has a file `crash_7`, `hang_8`, `eat_9`, ..."""

import ctypes
import os
import signal
import time

from headstart.pipeline.errors import TryLaterError
from headstart.pipeline.markers import FailedItem, Result


def fingerprint(workspace, folder):
    return f"fingerprint of {folder}"


def open_session(workspace, job, settings):
    return Session(workspace.root / job.folder)


class Session:
    def __init__(self, folder):
        self.folder = folder

    def prepare(self, job):
        return self.prepare_without(job, {})

    def prepare_without(self, job, killers):
        for item in range(job.start, job.stop):
            if item not in killers:
                self.examine(job, item)
        return job, killers

    def examine(self, job, item):
        with (self.folder / "examined.log").open("a") as log:
            log.write(f"{item} {os.getpid()}\n")
        for name in os.listdir(self.folder):
            what, _, number = name.partition("_")
            if number == str(item):
                MISHAPS[what](self.folder / name)

    def compute(self, prepared, check):
        job, killers = prepared
        check()
        if (self.folder / f"encoder_{job.job_id}").exists():
            ctypes.string_at(0)
        good = [item for item in range(job.start, job.stop) if item not in killers]
        failed = tuple(FailedItem(item, f"item {item}", "killed", reason) for item, reason in sorted(killers.items()))
        payload = "\n".join(f"{item} {item * item}" for item in good).encode()
        return Result(payload, ".txt", {}, job.stop - job.start, len(good), failed)

    def close(self):
        pass


def crash(path):
    ctypes.string_at(0)


def hang(path):
    time.sleep(3600)


def doze(path):
    """Takes its time, and is done then."""
    time.sleep(0.01)


def spin(path):
    import re

    re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter's lock for longer than anybody waits


def eat(path):
    held = []
    while True:
        held.append(bytearray(b"x" * 2**26))


def slip(path):
    """Ends the first process that touches it, and no other: it was somebody else's fault."""
    path.unlink()
    os.kill(os.getpid(), signal.SIGKILL)


def full(path):
    raise TryLaterError("the disk is full")


def wrong(path):
    raise ValueError("asked to fail")


MISHAPS = {"crash": crash, "hang": hang, "doze": doze, "spin": spin, "eat": eat, "slip": slip, "full": full, "wrong": wrong}
