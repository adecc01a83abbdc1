"""Seconds and memory of `enqueue` on many small files, first and again: python -m benchmarks.data_identity

Files of 2 to 4 kB in 100 class folders, from a warm cache, and the encoder that ships with Headstart; each command is
a process of its own. `--images N` (100,000), `--headstart PATH` runs another version's command.
"""

import argparse
import os
import random
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

CLASSES = 100


def run(*words: str) -> tuple[float, float, str]:
    """Seconds, peak memory in MB and the line that counts."""
    begun = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(output)
    line = next((line for line in output.splitlines() if " known" in line), output.strip().splitlines()[-1])
    return time.perf_counter() - begun, usage.ru_maxrss / 1024, line


def make(data: Path, count: int) -> None:
    source = random.Random(0)
    for label in range(CLASSES):
        (data / f"class_{label:03d}").mkdir(parents=True)
    for number in range(count):
        path = data / f"class_{number % CLASSES:03d}" / f"image_{number:06d}.jpg"
        path.write_bytes(source.randbytes(source.randrange(2000, 4000)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=100_000)
    options.add_argument("--headstart", default="headstart")
    asked = options.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as place:
        data, moved = Path(place) / "data", Path(place) / "moved"
        make(data, asked.images)

        def enqueue(what: str, folder: Path, *more: str) -> None:
            seconds, megabytes, line = run(asked.headstart, "enqueue", str(folder), "-w", f"{place}/w", *more)
            print(f"{what:34} {seconds:6.2f} s {megabytes:6.0f} MB  {line}", flush=True)

        enqueue("first", data, "--weights", "embedded")
        enqueue("again, encoder named", data, "--weights", "embedded")
        enqueue("again", data)
        for path in data.rglob("*.jpg"):
            os.utime(path)
        enqueue("after a touch of every file", data)
        data.rename(moved)
        enqueue("after a move", moved)
        shutil.rmtree(moved / "class_007")
        enqueue("after a class left", moved)


if __name__ == "__main__":
    main()
