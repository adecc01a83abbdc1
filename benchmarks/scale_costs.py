"""What the files of a queue cost a job: in bytes, and in seconds of one core. docs/scale.md multiplies them.

    python benchmarks/scale_costs.py [--jobs 20000]

Seconds are of the processor, so other programs change them little; files lie on a disk in memory where there is one.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def seconds_of(action: Callable[[], object]) -> float:
    begun = time.process_time()
    action()
    return time.process_time() - begun


def main() -> None:
    from headstart.pipeline.kinds import Settings, known_kinds
    from headstart.pipeline.next_job import read_listing
    from headstart.pipeline.queue import Reader
    from headstart.pipeline.status import read_status
    from headstart.pipeline.verify import verify
    from headstart.pipeline.worker import Limits, Worker
    from headstart.pipeline.workspace import open_or_create_workspace
    from tests.faults.fakes import JOB_SIZE, enqueue

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        workspace = open_or_create_workspace(Path(scratch) / "w")
        costs = {"enqueue_s": seconds_of(lambda: enqueue(workspace, jobs * JOB_SIZE)) / jobs}
        costs["queue_bytes"] = workspace.queue.stat().st_size / jobs
        costs["read_queue_s"] = seconds_of(lambda: list(Reader(workspace, known_kinds()))) / jobs
        costs["status_of_pending_s"] = seconds_of(lambda: read_status(workspace)) / jobs
        work = Worker(workspace, Settings(), Limits(block=64), lambda finished: None)
        costs["claim_work_commit_s"] = seconds_of(work.run) / jobs
        for summary in list(workspace.summaries()):
            summary.unlink()
        costs["status_of_done_s"] = seconds_of(lambda: read_status(workspace)) / jobs
        time.sleep(3.5)  # of what was done a moment ago there is no summary
        read_status(workspace)
        costs["status_remembered_s"] = seconds_of(lambda: read_status(workspace)) / jobs
        costs["verify_s"] = seconds_of(lambda: verify(workspace)) / jobs
        markers = list(workspace.root.glob("features/tiny/done/*/*.done"))
        assert len(markers) == jobs
        costs["marker_bytes"] = sum(marker.stat().st_size for marker in markers) / jobs
        [first, *_] = Reader(workspace, known_kinds())
        costs["list_a_group_s"] = seconds_of(lambda: [read_listing(workspace, first) for _ in range(20)]) / 20
    print(json.dumps({"jobs": jobs, **{key: float(f"{value:.4g}") for key, value in costs.items()}}, indent=1))


if __name__ == "__main__":
    main()
