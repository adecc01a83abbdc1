"""A kind of job without images: item i gives the text `i squared`. Files named in its folder make it misbehave."""

import os
import signal
import time

from headstart.pipeline.errors import HeadstartError, SourceGoneError, TryLaterError
from headstart.pipeline.markers import FailedItem, Result


def fingerprint(workspace, folder):
    if (workspace.root / folder / "broken").exists():
        raise HeadstartError(f"{folder} is broken. Mend it")
    return f"fingerprint of {folder}"


def open_session(workspace, job, settings):
    if (workspace.root / job.folder / "closed").exists():
        raise HeadstartError(f"{job.folder} cannot be opened. Mend it")
    return _Session(workspace.root / job.folder)


class _Session:
    def __init__(self, folder):
        self.folder = folder
        self.KEEPS_PROGRESS = (folder / "keeps").exists()

    def prepare(self, job):
        with (self.folder / "prepared.log").open("a") as log:
            log.write(f"{job.job_id}\n")
        return job

    def compute(self, job, check):
        check()
        if (self.folder / "slow").exists():
            for _ in range(20):
                time.sleep(0.02)
                check()
        if (self.folder / f"kill_{job.job_id}").exists():
            (self.folder / f"kill_{job.job_id}").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if (self.folder / f"unfit_{job.job_id}").exists():
            raise HeadstartError("the model does not fit. Take a smaller one")
        if (self.folder / f"raise_{job.job_id}").exists():
            raise ValueError("asked to fail")
        if (self.folder / "gone").exists():
            raise SourceGoneError(f"{self.folder.name}'s data is gone")
        if (self.folder / f"full_{job.job_id}").exists():
            raise TryLaterError("the disk is full")
        bad = {int(name[4:]) for name in os.listdir(self.folder) if name.startswith("bad_")}
        items = range(job.start, job.stop)
        good = [item for item in items if item not in bad]
        failed = tuple(FailedItem(item, f"item {item}", "bad", "marked as bad") for item in items if item in bad)
        payload = "\n".join(f"{item} {item * item}" for item in good).encode()
        return Result(payload, ".txt", {}, len(items), len(good), failed)

    def close(self):
        pass
