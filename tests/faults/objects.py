"""Fault campaign: workers that put their payloads into an object store are killed between the put and the marker, and elsewhere.

    python -m tests.faults.objects [--count 200] [--seed 0]

    make objects

The store is moto's S3 server on loopback. `count` workers are killed right after the store has answered, before anything says so;
of all others that are started, one in four, each is killed at a random moment. Needs the extra s3 and moto[server].
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from headstart.pipeline import objects
from headstart.pipeline.kinds import Settings
from headstart.pipeline.verify import verify
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import Workspace
from tests.pipeline.s3_server import BUCKET, s3_server

from .__main__ import conditions, write
from .fakes import enqueue, new_workspace, scratch
from .kinds import tiny
from .report import HEADER, Report, main, report_of

JOBS = 40
ITEMS = JOBS * 5
_LATEST_S = 0.4
_NEVER = 10**9
_BETWEEN, _ENDED = "between put and marker", "ended before it was killed"


def run(count: int, seed: int) -> Report:
    """Kills `count` workers between put and marker, lets one finish each workspace and judges what lies in the store."""
    begun = time.monotonic()
    chance = random.Random(seed)
    kills: Counter[str] = Counter()
    violations: list[str] = []
    number = 0
    with scratch() as base, s3_server():
        tiny.PAYLOADS_IN_OBJECTS = True
        try:
            while kills[_BETWEEN] < count:
                url = f"s3://{BUCKET}/{number}"
                workspace = new_workspace(base / str(number))
                enqueue(workspace, ITEMS)
                for _ in range(min(JOBS - 1, count - kills[_BETWEEN])):
                    kills[_killed(workspace, url, chance)] += 1
                violations += _judged(workspace, url, base / f"{number}-fetched")
                number += 1
        finally:
            del tiny.PAYLOADS_IN_OBJECTS
    notes = f"{number} workspaces of {JOBS} jobs; {', '.join(f'{many} {when}' for when, many in sorted(kills.items()))}"
    return report_of("object store", kills.total() - kills[_ENDED], violations, time.monotonic() - begun, notes)


def _killed(workspace: Workspace, url: str, chance: random.Random) -> str:
    """Where a worker was killed."""
    after = chance.choice((1, 1, 2, 3)) if chance.random() < 0.75 else _NEVER
    child = _forked(workspace, url, after)
    if after == _NEVER:
        time.sleep(chance.uniform(0, _LATEST_S))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return _BETWEEN if after != _NEVER else "at a random moment"
    return _ENDED


def _forked(workspace: Workspace, url: str, after: int) -> int:
    """A worker that kills itself as soon as the store has taken that many payloads."""
    child = os.fork()
    if child:
        return child
    try:
        store = objects.open_objects(url)
        put, puts = store.put, 0

        def put_and_die(name: str, data: bytes) -> None:
            nonlocal puts
            put(name, data)
            puts += 1
            if puts == after:
                os.kill(os.getpid(), signal.SIGKILL)

        store.put = put_and_die  # type: ignore[method-assign]
        Worker(workspace, Settings(), Limits(), lambda finished: None, store).run()
    finally:
        os._exit(0)


def _judged(workspace: Workspace, url: str, other: Path) -> list[str]:
    """What is wrong after one more worker: every job must be done once, with the bytes that it has anywhere."""
    os.waitpid(_forked(workspace, url, _NEVER), 0)
    child = os.fork()
    if not child:
        try:
            wrong = _wrong(workspace, url)
        except BaseException as error:  # then the campaign says so
            wrong = [f"{type(error).__name__}: {error}"]
        other.write_text("\n".join(wrong))
        os._exit(0)
    os.waitpid(child, 0)
    return other.read_text().splitlines()


def _wrong(workspace: Workspace, url: str) -> list[str]:
    import s3fs

    store = objects.open_objects(url)
    findings = verify(workspace, deep=True, objects=store)
    wrong = [f"torn: {job.job_id} {why}" for job, why in findings.torn]
    wrong += [f"lost: {findings.pending} jobs"] if findings.pending or findings.sound != JOBS else []
    keys = s3fs.S3FileSystem(skip_instance_cache=True).find(url)
    twice = [job for job, many in Counter(key.rpartition("/")[2].split(".")[0] for key in keys).items() if many > 1]
    wrong += [f"duplicated: {job}" for job in twice]
    wrong += [f"{len(keys)} objects, expected {JOBS}"] if len(keys) != JOBS else []
    fetched = objects.fetch_payloads(workspace, store)
    wrong += [f"fetched {fetched}"] if (fetched.files, fetched.flaws) != (JOBS, ()) else []
    there = sorted(path.read_bytes() for path in workspace.root.glob(f"{tiny.FOLDER}/shards/*/*"))
    wrong += ["other bytes"] if there != sorted(tiny.squares(start, start + 5) for start in range(0, ITEMS, 5)) else []
    return wrong


def _write(report: Report) -> None:
    write("\n".join([f"{conditions()}.\n", HEADER, report.row()]), "make objects")


if __name__ == "__main__":
    sys.exit(main(run, 200, _write))
