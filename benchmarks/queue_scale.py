"""What the queue costs at a million jobs: enqueue, status, first claim, later claims, commits.

    python benchmarks/queue_scale.py [--jobs 1000000] [--done 0]

Jobs are of the fake kind that the tests use; commits are timed with fsync switched off, as its price belongs to the disk.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def timed(code: str, root: Path) -> list[float]:
    """Seconds that a fresh interpreter printed; the first counts from its start, interpreter included."""
    begun = time.perf_counter()
    process = subprocess.run([sys.executable, "-c", PRELUDE + code, str(root)], capture_output=True, text=True, check=True)
    whole = time.perf_counter() - begun
    seconds = [float(line) for line in process.stdout.split()]
    return [whole if len(seconds) == 1 else seconds[0] + _interpreter_s(), *seconds[1:]]


def _interpreter_s() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - begun


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
    parser.add_argument("--done", type=int, default=0, help="jobs committed before the first claim is timed")
    arguments = parser.parse_args()
    kinds = frozenset({"fake"})
    with tempfile.TemporaryDirectory() as folder:
        made = open_or_create_workspace(Path(folder) / "workspace")
        workspace = Workspace(made.root, made.id, FileSystem(made.files.hard_links, fsync=False))
        (workspace.root / FOLDER).mkdir(parents=True)
        begun = time.perf_counter()
        work = Work("fake", FOLDER, "features/manifests/photos-01234567/part_0000.csv", arguments.jobs * 64, 64)
        with queue_lock(workspace):
            append_work(workspace, [work], kinds, lambda reader: [])
        enqueue_s = time.perf_counter() - begun
        commits = []
        for job in Reader(workspace, kinds):
            if job.number >= max(arguments.done, 1000):
                break
            begun = time.perf_counter()
            commit(workspace, job, f"fingerprint of {FOLDER}", Result(bytes(164_000), ".npz", {}, 64, 64))
            commits.append(time.perf_counter() - begun)
        status = [timed(STATUS, workspace.root)[0] for _ in range(3)]
        claims = [timed(CLAIM, workspace.root) for _ in range(3)]
        print(
            json.dumps(
                {
                    "jobs": arguments.jobs,
                    "done": len(commits),
                    "append_s": round(enqueue_s, 2),
                    "status_s": [round(value, 2) for value in status],
                    "first_claim_s": [round(values[0], 3) for values in claims],
                    "claim_median_ms": round(statistics.median(claims[0][1:]) * 1e3, 4),
                    "commit_without_fsync_median_ms": round(statistics.median(commits) * 1e3, 3),
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
