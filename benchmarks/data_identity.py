"""What knowing images by their bytes costs at `enqueue`: python -m benchmarks.data_identity

Prints seconds and memory of `enqueue` on many small files, first and again, with the encoder that ships and with a new one
(`--encoder NAME`, `--weights FILE`), and, with `--signs FOLDER`, how long it takes on that folder beside another version of the
program (`--before PATH` to its command), each beside what is asked of it. Files of 2 to 4 kB in 100 class folders, from a warm
cache; each command is a process of its own. A new encoder needs torch and timm, in a child that ends before the files are read:
its memory is printed apart from that of the command, and what importing both alone takes here. `--images N` (100,000),
`--headstart PATH`: another version's command.
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

CLASSES = 100
REPEATS = 5
FIRST_S, AGAIN_S, RATIO, MEGABYTES = 15.0, 2.0, 1.2, 400.0
# What importing the command takes is no part of what is measured inside it.
INSIDE = """
import sys, time

from headstart.features.planning.enqueue import enqueue_images
from headstart.pipeline.memory import peak_rss_bytes
begun, cpu = time.perf_counter(), time.process_time()
enqueue_images(sys.argv[1], sys.argv[2])
assert "torch" not in sys.modules
print(time.perf_counter() - begun, time.process_time() - cpu, peak_rss_bytes() / 1e6)
"""


@dataclass(frozen=True)
class Ran:
    """Seconds by the clock and of processors, peak memory in MB of its largest process, and the line that counts.

    Where it was watched also: most of the command itself, and most of it and its children at one moment.
    """

    seconds: float
    cpu_s: float
    megabytes: float
    line: str
    alone_megabytes: float = 0.0
    together_megabytes: float = 0.0


class Memory:
    """What a process and its children hold, looked at every few milliseconds.

    Attributes:
        alone: most of the process itself; together: most of it and its children at one moment.
    """

    def __init__(self, pid: int) -> None:
        self.alone = self.together = 0.0
        self._pid = pid
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        process = psutil.Process(self._pid)
        while not self._is_over.wait(0.005):
            with contextlib.suppress(psutil.Error):
                own = process.memory_info().rss / 2**20
                self.alone = max(self.alone, own)
                below = 0.0
                for child in process.children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        below += child.memory_info().rss / 2**20
                self.together = max(self.together, own + below)


def run(*words: str, is_watched: bool = False) -> Ran:
    begun = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    memory = Memory(process.pid) if is_watched else None
    output = process.stdout.read()
    if memory is not None:
        memory.stop()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(output)
    lines = output.strip().splitlines()
    line = next((line for line in lines if " known" in line), lines[-1] if lines else "")
    ran = Ran(time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, line)
    return replace(ran, alone_megabytes=memory.alone, together_megabytes=memory.together) if memory is not None else ran


def make(data: Path, count: int) -> None:
    source = random.Random(0)
    for label in range(CLASSES):
        (data / f"class_{label:03d}").mkdir(parents=True)
    for number in range(count):
        path = data / f"class_{number % CLASSES:03d}" / f"image_{number:06d}.jpg"
        path.write_bytes(source.randbytes(source.randrange(2000, 4000)))


def told(what: str, ran: Ran, most_s: float | None = None) -> None:
    limit = f"  of {most_s:g} s asked: {ran.seconds / most_s:.2f}" if most_s else ""
    print(f"{what:34} {ran.seconds:6.2f} s {ran.cpu_s:6.2f} CPU s {ran.megabytes:6.0f} MB{limit}  {ran.line}", flush=True)


def many_files(headstart: str, count: int, place: Path, encoder: str, weights: str) -> None:
    data, moved, workspace = place / "data", place / "moved", place / "workspace"
    make(data, count)
    new_encoder(headstart, data, place / "new", encoder, weights)
    imports = run(sys.executable, "-c", "import torch, timm")
    told("importing torch and timm alone", imports)

    def enqueue(what: str, folder: Path, *more: str, most_s: float | None = None) -> Ran:
        ran = run(headstart, "enqueue", str(folder), "-w", str(workspace), *more)
        told(what, ran, most_s)
        return ran

    first = enqueue("first", data, "--weights", "embedded", most_s=FIRST_S)
    beyond = first.megabytes - imports.megabytes
    print(f"{'':34} beyond those imports: {first.seconds - imports.seconds:.2f} s, {beyond:.0f} MB of {MEGABYTES:.0f} MB asked")
    again = [enqueue("again", data, most_s=AGAIN_S) for _ in range(REPEATS)]
    print(f"{'':34} least of {REPEATS}: {min(ran.seconds for ran in again):.2f} s, {min(ran.cpu_s for ran in again):.2f} CPU s")
    inside = run(sys.executable, "-c", INSIDE, str(data), str(workspace)).line.split()
    print(f"{'again, inside the process':34} {float(inside[0]):6.2f} s {float(inside[1]):6.2f} CPU s {float(inside[2]):6.0f} MB")
    enqueue("again, encoder named", data, "--weights", "embedded")
    for path in data.rglob("*.jpg"):
        os.utime(path)
    enqueue("after a touch of every file", data)
    data.rename(moved)
    enqueue("after a move", moved)
    shutil.rmtree(moved / "class_007")
    enqueue("after a class left", moved)


def new_encoder(headstart: str, data: Path, workspace: Path, encoder: str, weights: str) -> None:
    """Of the same files with an encoder that has to be resolved and exported first."""
    words = ("enqueue", str(data), "-w", str(workspace), "--encoder", encoder, "--weights", weights)
    ran = run(headstart, *words, is_watched=True)
    told("a new encoder", ran, FIRST_S)
    alone, together = ran.alone_megabytes, ran.together_megabytes
    print(
        f"{'':34} the command itself {alone:.0f} MB of {MEGABYTES:.0f} asked; with its child, while that runs, {together:.0f} MB"
    )
    again = run(headstart, *words, is_watched=True)
    told("the same again", again, AGAIN_S)


def beside(signs: Path, commands: Sequence[str], place: Path) -> None:
    """The first `enqueue` of a folder by each version in turn: medians and their ratio."""
    seconds: dict[str, list[Ran]] = {command: [] for command in commands}
    for number in range(REPEATS):
        for which, command in enumerate(commands):
            workspace = place / f"signs-{number}-{which}"
            seconds[command].append(run(command, "enqueue", str(signs), "-w", str(workspace), "--weights", "embedded"))
            shutil.rmtree(workspace)
    clock = [statistics.median(ran.seconds for ran in seconds[command]) for command in commands]
    cpu = [statistics.median(ran.cpu_s for ran in seconds[command]) for command in commands]
    for version, its_clock, its_cpu in zip(("now", "before"), clock, cpu, strict=True):
        print(f"{f'{signs.name}, {version}':34} {its_clock:6.2f} s {its_cpu:6.2f} CPU s  median of {REPEATS}")
    print(f"{'':34} ratio {clock[0] / clock[1]:.2f}, of CPU s {cpu[0] / cpu[1]:.2f}; {RATIO:g} asked", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=100_000)
    options.add_argument("--headstart", default=str(Path(sys.executable).with_name("headstart")))
    options.add_argument("--signs", type=Path, help="a folder to enqueue with both versions")
    options.add_argument("--before", help="the `headstart` of another version")
    options.add_argument("--encoder", default="mobilenetv2_100", help="the new one")
    options.add_argument("--weights", default="random:0", help="of the new one")
    asked = options.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as place:
        if asked.signs and asked.before:
            beside(asked.signs, (asked.headstart, asked.before), Path(place))
        many_files(asked.headstart, asked.images, Path(place), asked.encoder, asked.weights)


if __name__ == "__main__":
    main()
