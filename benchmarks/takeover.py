"""How long a waiting worker takes to follow one that died: on this machine, and on "another host".

    python -m benchmarks.takeover [--rounds 10]

The other host's claim is a real one, but for the name of its machine: nobody here can look up its process. Prints JSON.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from headstart.pipeline import claims
from headstart.pipeline.claims import LEASE_S, Claimant
from headstart.pipeline.quarantine import NO_HISTORY
from headstart.pipeline.workspace import open_or_create_workspace
from tests.pipeline.workers import WORK
from tests.support import enqueue_fakes, spawn_python


def follow(root: Path, elsewhere: bool) -> float:
    """Seconds from the death of a worker that held the only job until another has done it."""
    workspace = open_or_create_workspace(root)
    [job] = enqueue_fakes(workspace, 10)
    reading, writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        if elsewhere:
            genuine = claims.current_owner
            claims.current_owner = lambda lease_s: replace(genuine(lease_s), machine="elsewhere")
        Claimant(workspace).__enter__().acquire(job, NO_HISTORY)
        os.write(writing, b"x")
        time.sleep(3600)
    os.read(reading, 1)
    waiting = spawn_python(WORK, str(root))
    time.sleep(2)
    assert waiting.poll() is None
    os.kill(holder, 9)
    died = time.monotonic()
    assert waiting.stdout.readline() == "heard\n"
    seconds = time.monotonic() - died
    waiting.communicate()
    os.waitpid(holder, 0)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = [follow(Path(folder) / str(number), elsewhere=False) for number in range(arguments.rounds)]
        there = follow(Path(folder) / "elsewhere", elsewhere=True)
    report = {
        "same_machine_s": {"median": round(statistics.median(here), 2), "longest": round(max(here), 2)},
        "another_host_s": round(there, 1),
        "lease_s": LEASE_S,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
