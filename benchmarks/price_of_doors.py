"""What checks cost: two trees side by side, in pairs, in turns: status, claim, commit, extraction, packing, training.

    python -m benchmarks.price_of_doors BEFORE AFTER [--pairs 5] [--jobs 1000000] [--images 1000]

Each is a checkout with an environment in `.venv`, compiled first. Of each measurement the median over pairs, and the ratio of
AFTER to BEFORE; of whole commands also their CPU time, which other processes disturb less.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ENCODER = ("--encoder", "test_resnet", "--weights", "random:0", "--image-size", "64")
PACK = """
import sys, time
from importlib import import_module, util
# Where the two trees have it; the second is that of commit 1ab5bdf.
modules = ("headstart.features.store.packing", "headstart.features.cache")
packing = import_module(modules[0] if util.find_spec("headstart.features.store") else modules[1])
load_cached_features = packing.load_cached_features
begun, cpu = time.perf_counter(), time.process_time()
load_cached_features(sys.argv[1])
print(time.perf_counter() - begun, time.process_time() - cpu)
"""


def photos(folder: Path, count: int) -> Path:
    """JPEGs of noise in two classes."""
    draw = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("dark", "light")[number % 2] / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(draw.normal((80, 170)[number % 2], 40, (96, 96, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def queue(tree: Path, jobs: int) -> Iterator[tuple[str, float]]:
    """By the tree's own benchmark: what it measures, and seconds."""
    command = [str(_python(tree)), "benchmarks/queue_scale.py", "--jobs", str(jobs)]
    said = json.loads(subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout)
    yield f"status of {jobs:,} jobs", min(said["status_s"])
    yield "first claim", min(said["first_claim_s"])
    yield "later claim", said["claim_median_ms"] / 1e3
    yield "commit without fsync", said["commit_without_fsync_median_ms"] / 1e3


def pipeline(tree: Path, images: Path) -> Iterator[tuple[str, float]]:
    """Whole commands on images, each in a workspace of its own: wall and CPU seconds."""
    root = Path(tempfile.mkdtemp(prefix="headstart-price-"))
    workspace = ("-w", str(root / "workspace"))
    try:
        _command(tree, "enqueue", str(images), *ENCODER, *workspace)
        for name, words in (
            ("extraction", ("work", "--device", "cpu", *workspace)),
            ("packing", ()),
            ("training", ("train-head", "--epochs", "30", "--device", "cpu", *workspace)),
        ):
            wall, cpu = _command(tree, *words) if words else _packing(tree, root / "workspace")
            yield f"{name}, wall", wall
            yield f"{name}, CPU", cpu
    finally:
        shutil.rmtree(root)


def _packing(tree: Path, workspace: Path) -> tuple[float, float]:
    [encoder] = workspace.glob("features/encoder_*")
    walls, cpus = [], []
    for _ in range(3):
        shutil.rmtree(encoder / "cache", ignore_errors=True)
        done = subprocess.run(
            [str(_python(tree)), "-c", PACK, str(encoder)], cwd=tree, capture_output=True, text=True, check=True
        )
        wall, cpu = map(float, done.stdout.split())
        walls.append(wall)
        cpus.append(cpu)
    return min(walls), min(cpus)


def _command(tree: Path, *words: str) -> tuple[float, float]:
    begun, before = time.perf_counter(), os.times()
    done = subprocess.run([str(_python(tree)), "cli.py", *words], cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{tree}: {' '.join(words[:1])}: {done.stderr[-500:]}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begun, cpu


def _python(tree: Path) -> Path:
    return tree / ".venv" / "bin" / "python"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=1000)
    arguments = parser.parse_args()
    trees = [arguments.before.resolve(), arguments.after.resolve()]
    for tree in trees:
        # Where nobody may write bytecode while running, the larger tree would be compiled anew by each command.
        subprocess.run([str(_python(tree)), "-m", "compileall", "-q", "-x", r"\.venv|\.git", str(tree)], check=False)
    seconds: dict[str, tuple[list[float], list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = photos(Path(folder) / "photos", arguments.images)
        for pair in range(arguments.pairs):
            # In turns, so that what warms up or slows down in a pair favours neither.
            for place in (0, 1) if pair % 2 == 0 else (1, 0):
                for name, value in (*queue(trees[place], arguments.jobs), *pipeline(trees[place], images)):
                    seconds.setdefault(name, ([], []))[place].append(value)
            print(f"pair {pair + 1} of {arguments.pairs}", flush=True)
    print("| | before | after | after / before | least and largest ratio of a pair |\n|---|---:|---:|---:|---|")
    for name, (before, after) in seconds.items():
        ratios = [two / one for one, two in zip(before, after, strict=True)]
        one, two = statistics.median(before), statistics.median(after)
        least, most = min(ratios), max(ratios)
        print(f"| {name} | {_shown(one)} | {_shown(two)} | {statistics.median(ratios):.3f} | {least:.3f} to {most:.3f} |")


def _shown(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3f} ms"


if __name__ == "__main__":
    main()
