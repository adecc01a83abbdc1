"""What the queue costs at a million jobs: enqueue, status, first claim, later claims, commits.

    python benchmarks/queue_scale.py [--jobs 1000000] [--done 0] [--payload-bytes 164000]

Jobs are of the fake kind that the tests use; commits are timed with fsync switched off, as its price belongs to the disk. Only
the first thousand are committed as a worker does it. `status` and first claim are timed in fresh interpreters: once without
summaries of what is done, as in a workspace that was copied without them, then three times with those that the first `status`
left. Where all jobs are done, what is timed instead of claims is how long a worker looks before it says that nothing is left.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from headstart.pipeline.job import Job
    from headstart.pipeline.markers import Result
    from headstart.pipeline.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
FOLDER = "features/encoder_fake-01234567"

PRELUDE = f"""
import time
begun = time.perf_counter()
import sys
sys.path.insert(0, {str(ROOT)!r})
import headstart.jobs
headstart.jobs.__path__.append({str(ROOT / "tests" / "fakes")!r})
from pathlib import Path
from headstart.pipeline.workspace import open_workspace
workspace = open_workspace(Path(sys.argv[1]))
"""
STATUS = """
from headstart.pipeline.status import read_status
status = read_status(workspace)
print(time.perf_counter() - begun)
"""
NOTHING_LEFT = """
from headstart.pipeline.claims import Claimant
from headstart.pipeline.next_job import Frontier
with Claimant(workspace) as claimant:
    assert Frontier(workspace, claimant, None, None).next_claim() is None
    print(time.perf_counter() - begun)
"""
CLAIM = """
from headstart.pipeline.claims import Claimant
from headstart.pipeline.next_job import Frontier
with Claimant(workspace) as claimant:
    frontier = Frontier(workspace, claimant, None, None)
    assert frontier.next_claim() is not None
    print(time.perf_counter() - begun)
    for _ in range(2000):
        start = time.perf_counter()
        frontier.next_claim()
        print(time.perf_counter() - start)
"""


class Timed(NamedTuple):
    """Seconds that a fresh interpreter printed, the first from its start; and what it took of a core, which others slow less."""

    seconds: list[float]
    cpu_s: float


def timed(code: str, root: Path) -> Timed:
    begun, before = time.perf_counter(), _children_s()
    process = subprocess.run([sys.executable, "-c", PRELUDE + code, str(root)], capture_output=True, text=True, check=True)
    whole, cpu_s = time.perf_counter() - begun, _children_s() - before
    seconds = [float(line) for line in process.stdout.split()]
    return Timed([whole if len(seconds) == 1 else seconds[0] + _interpreter_s(), *seconds[1:]], cpu_s)


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _interpreter_s() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - begun


def write_as(first: dict[str, Any], workspace: Workspace, job: Job, result: Result) -> None:
    """What `commit` leaves of a job, by the marker of the first one: ten times as fast, for nobody reads it meanwhile."""
    from headstart.pipeline.doors.records import seal

    marker, payloads = workspace.marker(job), workspace.payloads(job)
    if job.number % 1000 == 0:
        marker.parent.mkdir(parents=True)
        payloads.mkdir(parents=True)
    name = first["payload"]["name"].replace(first["job"]["job_id"], job.job_id)
    facts = {**first, "job": job._asdict(), "payload": {**first["payload"], "name": name}}
    facts.pop("seal")
    for path, data in ((payloads / name, result.payload), (marker, seal(facts))):
        with open(path, "wb") as file:
            file.write(data)


def main() -> None:
    import headstart.jobs
    from headstart.pipeline.enqueue import Work, append_work, queue_lock
    from headstart.pipeline.files import FileSystem
    from headstart.pipeline.markers import Result, commit
    from headstart.pipeline.queue import Reader
    from headstart.pipeline.workspace import Workspace, open_or_create_workspace

    headstart.jobs.__path__.append(str(ROOT / "tests" / "fakes"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--done", type=int, default=0, help="jobs that are done before anything is timed, a thousand at least")
    parser.add_argument("--payload-bytes", type=int, default=164_000)
    arguments = parser.parse_args()
    done = max(arguments.done, 1000)
    kinds = frozenset({"fake"})
    with tempfile.TemporaryDirectory() as folder:
        made = open_or_create_workspace(Path(folder) / "workspace")
        workspace = Workspace(made.root, made.id, FileSystem(made.files.hard_links, fsync=False))
        (workspace.root / FOLDER).mkdir(parents=True)
        begun = time.perf_counter()
        work = Work("fake", FOLDER, "features/manifests/photos-01234567/part_0000.csv", arguments.jobs * 64, 64)
        with queue_lock(workspace):
            append_work(workspace, [work], kinds, lambda reader: [])
        measured = {"jobs": arguments.jobs, "done": done, "append_s": round(time.perf_counter() - begun, 2)}
        result = Result(bytes(arguments.payload_bytes), ".npz", {}, 64, 64, facts={"seconds": 1.0})
        commits: list[float] = []
        first: dict[str, Any] = {}
        for job in Reader(workspace, kinds):
            if job.number >= done:
                break
            if job.number >= 1000:
                write_as(first, workspace, job, result)
                continue
            begun = time.perf_counter()
            commit(workspace, job, f"fingerprint of {FOLDER}", result)
            commits.append(time.perf_counter() - begun)
            first = first or json.loads(workspace.marker(job).read_bytes())
        time.sleep(4)  # of what was done a moment ago there is no summary
        alone, *status = [timed(STATUS, workspace.root) for _ in range(4)]
        measured |= {
            "status_without_summaries_s": round(alone.seconds[0], 2),
            "status_without_summaries_of_a_core_s": round(alone.cpu_s, 2),
        }
        measured |= {
            "status_s": [round(one.seconds[0], 2) for one in status],
            "status_of_a_core_s": [round(one.cpu_s, 2) for one in status],
        }
        code, name = (NOTHING_LEFT, "nothing_left") if done >= arguments.jobs else (CLAIM, "first_claim")
        claims = [timed(code, workspace.root) for _ in range(3)]
        shutil.rmtree(workspace.root / FOLDER / "summaries")
        alone = timed(code, workspace.root)
        measured |= {f"{name}_without_summaries_s": round(alone.seconds[0], 3)}
        measured |= {f"{name}_s": [round(one.seconds[0], 3) for one in claims]}
        # With the 2,000 claims that are timed after the first.
        measured |= {f"{name}_of_a_core_s": [round(one.cpu_s, 3) for one in (alone, *claims)]}
        if len(claims[0].seconds) > 1:
            measured["claim_median_ms"] = round(statistics.median(claims[0].seconds[1:]) * 1e3, 4)
        measured["commit_without_fsync_median_ms"] = round(statistics.median(commits) * 1e3, 3)
        print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
