"""How long 1 to 1,000 workers on one shared file system take for a million jobs, simulated, with block claims and without.

    python benchmarks/many_workers.py [--jobs 1000000] [--job-s 1.0] [--write]

What is real: system calls of a worker a job, counted by strace over the engine's own code, with and without blocks, and the order
in which it makes them. What is a model: one NFS server that does so many requests at once, each of a fixed time, after a round
trip; a client that keeps attributes of folders, so that a `stat` costs nothing; jobs of about equal time. It is a simulation of
discrete events: no worker of it runs, and its figures say how the protocol scales, not how fast any server is.
"""

import argparse
import heapq
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

GROUP = 1000
BEGIN, END = "<!-- written by benchmarks/many_workers.py -->", "<!-- end of what it wrote -->"
WORKERS = (1, 4, 16, 64, 256, 512, 1000)
LISTING_S = 1.0  # as pipeline/next_job.py: older listings are read again
BLOCK_S = 5.0  # likewise: work that a block is to hold
NEVER = float("inf")

COUNTED = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import headstart.jobs
headstart.jobs.__path__.append({str(ROOT / "tests" / "faults" / "kinds")!r})
from pathlib import Path
from headstart.pipeline import next_job
next_job._BLOCK_S = next_job._KEPT_S = 1e9
next_job._FIRST_BLOCK = 64
from headstart.pipeline.kinds import Settings
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import open_workspace
Worker(open_workspace(Path(sys.argv[1])), Settings(), Limits(block=int(sys.argv[2])), lambda finished: None).run()
"""


@dataclass(frozen=True)
class Server:
    """The model's file server. Times in seconds; the defaults are those of a modest one, not of any that was measured."""

    at_once: int = 8
    request_s: float = 0.0002
    commit_s: float = 0.001  # of a WRITE that must be on the disk
    listing_s: float = 0.001  # of a READDIR of up to a thousand names
    round_trip_s: float = 0.0005


@dataclass(frozen=True)
class Requests:
    """What a step asks of the server."""

    plain: float = 0.0
    commits: float = 0.0
    listings: float = 0.0

    @property
    def count(self) -> float:
        return self.plain + self.commits + self.listings

    def __add__(self, other: "Requests") -> "Requests":
        return Requests(self.plain + other.plain, self.commits + other.commits, self.listings + other.listings)


# `done`, `claims` and `blocks` of a group: a GETATTR and a READDIR each.
LISTING = Requests(plain=3, listings=3)
CLAIM = Requests(plain=1)  # LINK
LOOKS = Requests(plain=2)  # is there a block, is there a marker: two names that are not there
RELEASE = Requests(plain=1)  # REMOVE
MARKERS_READ = 50
VERIFY = Requests(plain=4 * MARKERS_READ)  # OPEN, READ, CLOSE, and the payload's size, of markers that others wrote


def count_calls(jobs: int, block: int) -> Counter[str]:
    """System calls below the workspace of one worker that does so many jobs, by folder and sort."""
    from headstart.pipeline.workspace import open_or_create_workspace
    from tests.faults.fakes import JOB_SIZE, enqueue

    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        workspace, log = open_or_create_workspace(Path(scratch) / "w"), Path(scratch) / "log"
        enqueue(workspace, jobs * JOB_SIZE)
        traced = ["strace", "-f", "-y", "-s", "300", "-e", "trace=%file,fsync,getdents64,write", "-o", str(log)]
        subprocess.run([*traced, sys.executable, "-c", COUNTED, str(workspace.root), str(block)], check=True)
        calls: Counter[str] = Counter()
        for line in log.read_text().splitlines():
            match = re.match(r"\d+ +(\w+)\((.*)", line)
            if match is None or str(workspace.root) not in line:
                continue
            calls[f"{_folder(match[2])} {_sort(match[1], match[2])}"] += 1
        return calls


def _folder(rest: str) -> str:
    if "/claims" in rest or "blocks" in rest or ".g1" in rest:
        return "claims"
    return "markers" if "/done" in rest else "payloads" if "/shards" in rest else "others"


def _sort(call: str, rest: str) -> str:
    if call != "openat":
        return {"newfstatat": "stat", "linkat": "link", "unlinkat": "unlink", "getdents64": "list"}.get(call, call)
    return "create" if "O_CREAT" in rest else "open a folder" if "O_DIRECTORY" in rest else "open"


def calls_a_job(block: int, fewer: int = 256, more: int = 896) -> dict[str, float]:
    """The same a job, without what a worker's start and end cost."""
    few, many = count_calls(fewer, block), count_calls(more, block)
    return {key: (many[key] - few[key]) / (more - fewer) for key in sorted(many) if many[key] - few[key] > 0.01 * (more - fewer)}


def commit_requests(calls: dict[str, float]) -> Requests:
    """What committing a job asks: OPEN and CLOSE of each file made, LINK, REMOVE; its WRITEs must be on the disk."""
    of = {
        key: sum(calls.get(f"{folder} {key}", 0.0) for folder in ("markers", "payloads"))
        for key in ("create", "link", "unlink", "write")
    }
    return Requests(plain=2 * of["create"] + of["link"] + of["unlink"], commits=of["write"])


class Drain:
    """One simulated queue from its first claim to its last marker."""

    def __init__(self, jobs: int, job_s: float, block: int, commit: Requests, server: Server, seed: int = 0) -> None:
        self.jobs, self.job_s, self.block, self.commit, self.server = jobs, job_s, block, commit, server
        self.chance = random.Random(seed)
        self.claimed_at = [NEVER] * jobs
        self.front = [group * GROUP for group in range(-(-jobs // GROUP))]
        self.unclaimed = jobs
        self.now = 0.0
        self.last = 0.0
        self.requests = 0.0
        self.claim_requests = 0.0
        self._free = [0.0] * server.at_once

    def run(self, workers: int) -> float:
        """Seconds until every job has its marker."""
        queue: list[tuple[float, int, Iterator[float]]] = []
        for number in range(workers):
            queue.append((self.chance.random() * min(1.0, self.job_s), number, self._worker()))
        heapq.heapify(queue)
        while queue:
            self.now, number, worker = heapq.heappop(queue)
            until = next(worker, None)
            if until is not None:
                heapq.heappush(queue, (until, number, worker))
        return self.last

    def _ask(self, requests: Requests, is_claim: bool = True) -> float:
        """When the answer to the last of these requests, one after the other, is there."""
        server = self.server
        busy = requests.plain * server.request_s + requests.commits * server.commit_s + requests.listings * server.listing_s
        start = max(self.now, self._free[0])
        heapq.heapreplace(self._free, start + busy)
        self.requests += requests.count
        self.claim_requests += requests.count if is_claim else 0.0
        return start + busy + requests.count * server.round_trip_s

    def _worker(self) -> Iterator[float]:
        unit = GROUP if self.jobs > 16 * GROUP else self.block  # likewise: where a worker begins
        begin = self.chance.randrange(self.jobs) // unit * unit if self.block > 1 else 0
        committed = 0.0
        for first, stop in ((begin, self.jobs), (0, begin)):
            for claim in self._claims(first, stop):
                if isinstance(claim, float):
                    yield claim
                    continue
                for _ in claim:
                    yield self.now + self.job_s * self.chance.uniform(0.8, 1.2)
                    if committed > self.now:
                        yield committed  # one commit at a time, beside the next job
                    committed = self._ask(self.commit, is_claim=False)
                    self.last = max(self.last, committed)
                yield self._ask(RELEASE)
        while self.unclaimed:  # what two that saw each other both left: found on another walk over the queue
            yield self._ask(Requests(plain=3 * len(self.front), listings=3 * len(self.front)))
            for job, claimed in enumerate(self.claimed_at):
                if claimed == NEVER:
                    self._take(job)
                    yield self._ask(CLAIM + LOOKS)
                    yield self.now + self.job_s
                    self.last = max(self.last, self._ask(self.commit + RELEASE, is_claim=False))
        while self.now < self.last:  # nothing left for this one: it verifies what others wrote
            yield self._ask(VERIFY)

    def _claims(self, first: int, stop: int) -> Iterator["float | list[int]"]:
        """Times to wait for, and in between lists of jobs that are this worker's now."""
        most = 1 if self.block == 1 else max(1, min(self.block, int(BLOCK_S / self.job_s)))
        position, listed, seen_at = first, -1, -NEVER
        while position < stop:
            group = position // GROUP
            end = min(stop, (group + 1) * GROUP)
            if group != listed or self.now - seen_at > LISTING_S:
                yield self._ask(LISTING)
                listed, seen_at = group, self.now
                position = max(position, self._front(group))
            while position < end and self.claimed_at[position] <= seen_at:
                position += 1
            if position >= end:
                position = end
                continue
            wanted = [position]
            while len(wanted) < most and wanted[-1] + 1 < end and self.claimed_at[wanted[-1] + 1] > seen_at:
                wanted.append(wanted[-1] + 1)
            position = wanted[-1] + 1
            yield self._ask(CLAIM)
            mine = [job for job in wanted if self.claimed_at[job] == NEVER]
            for job in mine:
                self._take(job)
            if most > 1:
                yield self._ask(LISTING)  # who claims a block looks for claims that were made meanwhile
            elif mine:
                yield self._ask(LOOKS)
            if mine:
                yield mine

    def _take(self, job: int) -> None:
        self.claimed_at[job] = self.now
        self.unclaimed -= 1

    def _front(self, group: int) -> int:
        """All jobs of the group before this one are claimed."""
        front, end = self.front[group], min(self.jobs, (group + 1) * GROUP)
        while front < end and self.claimed_at[front] != NEVER:
            front += 1
        self.front[group] = front
        return front


def simulate(jobs: int, job_s: float, commit: Requests, server: Server) -> list[str]:
    """Rows of the table: for each number of workers, without blocks and with."""
    rows = [
        "| workers | jobs | claims | drained after, s | of linear | requests a job | of them for claims |",
        "|---:|---:|---|---:|---:|---:|---:|",
    ]
    for block in (1, 64):
        alone = 0.0
        for workers in WORKERS:
            # One worker would take a million seconds: it does as much a worker as the others do, at least ten thousand jobs.
            todo = min(jobs, max(10_000, jobs * workers // WORKERS[-1]))
            if block == 1 and workers > 16:
                todo = min(todo, 20_000)  # of claims one by one most fail, and each costs the simulation as it costs the server
            drain = Drain(todo, job_s, block, commit, server)
            seconds = drain.run(workers)
            rate = todo / seconds / workers
            alone = alone or rate
            rows.append(
                f"| {workers:,} | {todo:,} | {'one by one' if block == 1 else 'blocks'} | {seconds:,.0f} | {rate / alone:.3f} | "
                f"{drain.requests / todo:.2f} | {drain.claim_requests / todo:.2f} |"
            )
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--job-s", type=float, default=1.0)
    parser.add_argument("--write", action="store_true", help="into docs/scale.md")
    options = parser.parse_args()
    begun = time.monotonic()
    calls = {block: calls_a_job(block) for block in (1, 64)}
    lines = ["| call of a worker a job | one by one | blocks |", "|---|---:|---:|"]
    lines += [f"| {key} | {calls[1].get(key, 0):.2f} | {calls[64].get(key, 0):.2f} |" for key in sorted({*calls[1], *calls[64]})]
    sums = [sum(calls[block].values()) for block in (1, 64)]
    of_claims = [sum(count for key, count in calls[block].items() if key.startswith("claims")) for block in (1, 64)]
    lines += [f"| all | {sums[0]:.1f} | {sums[1]:.1f} |", f"| of them on claims | {of_claims[0]:.2f} | {of_claims[1]:.2f} |"]
    server = Server()
    commit = commit_requests(calls[1])
    table = simulate(options.jobs, options.job_s, commit, server)
    text = "\n".join(
        [
            f"`python benchmarks/many_workers.py --jobs {options.jobs} --job-s {options.job_s:g} --write`; jobs of "
            f"{options.job_s:g} s, {commit.plain:.0f} requests and {commit.commits:.0f} writes to commit one; {server}.",
            "",
            *lines,
            "",
            *table,
        ]
    )
    print(text)
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)
    if options.write:
        path = ROOT / "docs" / "scale.md"
        before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
