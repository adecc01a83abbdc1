"""A kind of job for fault campaigns: item i gives the text `i squared`. Nothing to import, nothing to open, milliseconds a job.

`dialect` stands for a device that is not bit-exact: another dialect gives other bytes, as valid as the first. `log` hears who
prepared which job, outside the workspace, so that work done twice can be told from work redone after a death.
"""

import os
from pathlib import Path

from headstart.pipeline.markers import Result

FOLDER = "features/tiny"
FINGERPRINT = "squares of integers"

dialect = ""
log: Path | None = None


def fingerprint(workspace, folder):
    return FINGERPRINT


def open_session(workspace, job, settings):
    return _Session()


class _Session:
    def prepare(self, job):
        if log is not None:
            with log.open("ab", buffering=0) as file:  # one write to a file in append mode is never torn by a kill
                file.write(f"{os.getpid()} {job.job_id}\n".encode())
        return job

    def compute(self, job, check):
        check()
        items = range(job.start, job.stop)
        return Result(squares(job.start, job.stop), ".txt", {}, len(items), len(items))

    def close(self):
        pass


def squares(start: int, stop: int) -> bytes:
    return "".join(f"{item} {item * item}{dialect}\n" for item in range(start, stop)).encode()
