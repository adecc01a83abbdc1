"""Images a second from HDF5 files by how they are chunked, as parts of a contiguous one: python -m benchmarks.hdf5_chunks

The same 1,500 pictures of 128 x 128 in each file, the encoder that ships with Headstart, six jobs a run as a process of its own,
and the contiguous file in turn with each other one, so that a busy machine slows both. `--rounds N` (5), `--jobs N`;
`--images N` and `--headstart PATH`, another version's command; `--only TEXT`, files whose name has it. Wanted of each: 0.5.
"""

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

EDGE = 128
PLAIN = "contiguous"


def shapes(count: int) -> dict[str, dict[str, Any]]:
    return {
        PLAIN: {},
        "gzip, h5py's default chunks": {"compression": "gzip"},
        "gzip and shuffle, default chunks": {"compression": "gzip", "shuffle": True},
        "lzf, default chunks": {"compression": "lzf"},
        "gzip, one image a chunk": {"compression": "gzip", "chunks": (1, EDGE, EDGE, 3)},
        "gzip, 500 images a chunk": {"compression": "gzip", "chunks": (min(500, count), EDGE, EDGE, 3)},
        "gzip, the whole file a chunk": {"compression": "gzip", "chunks": (count, EDGE, EDGE, 3)},
    }


def make(path: Path, count: int, facts: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=coarse.repeat(EDGE // 8, 1).repeat(EDGE // 8, 2), **facts)
        file["labels"] = np.arange(count) % 5


def run(headstart: str, workspace: Path, jobs: int) -> tuple[float, float]:
    """Images a second and CPU seconds of a worker that begins anew."""
    fresh = workspace.with_name("fresh")
    shutil.copytree(workspace, fresh)
    words = [headstart, "work", "-w", str(fresh), "--max-jobs", str(jobs)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, _, usage = os.wait4(process.pid, 0)
    shutil.rmtree(fresh)
    rate = re.search(r"([\d.,]+) images/s from start to end", output)
    if rate is None:
        raise SystemExit(output)
    return float(rate[1].replace(",", "")), usage.ru_utime + usage.ru_stime


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--jobs", type=int, default=6)
    options.add_argument("--images", type=int, default=1500)
    options.add_argument("--headstart", default="headstart")
    options.add_argument("--only", default="")
    asked = options.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as place:
        workspaces = {}
        chosen = {name: facts for name, facts in shapes(asked.images).items() if name == PLAIN or asked.only in name}
        for number, (name, facts) in enumerate(chosen.items()):
            path = Path(place) / f"{number}.h5"
            make(path, asked.images, facts)
            workspaces[name] = Path(place) / f"w{number}" / "w"
            words = [asked.headstart, "enqueue", str(path), "--weights", "embedded", "-w", str(workspaces[name])]
            subprocess.run(words, check=True, capture_output=True)
        print(f"{'file':34} {'images/s':>9} {'contiguous':>11} {'ratio, median':>14} {'CPU ratio':>10}")
        for name in list(workspaces)[1:]:
            pairs = [
                (run(asked.headstart, workspaces[name], asked.jobs), run(asked.headstart, workspaces[PLAIN], asked.jobs))
                for _ in range(asked.rounds)
            ]
            rate, plain = (statistics.median(pair[i][0] for pair in pairs) for i in (0, 1))
            ratio = statistics.median(ours[0] / other[0] for ours, other in pairs)
            cpu = statistics.median(other[1] / ours[1] for ours, other in pairs)
            print(f"{name:34} {rate:9.0f} {plain:11.0f} {ratio:14.2f} {cpu:10.2f}", flush=True)


if __name__ == "__main__":
    main()
