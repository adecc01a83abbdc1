"""Kills trainings of six recipes at random moments and at each named point, and compares every byte and row.

python -m benchmarks.recipe_kills [KILLS] [RECIPE...]     with KILLS deaths at random moments each, 30 unless said otherwise
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = {
    "tiny": {},
    "classify": {"encoder": "test_resnet", "image_size": 32, "batch_size": 8, "drop": 0.2, "mixup": 0.2, "ema": 0.9},
    "finetune": {"head": "1", "batch_size": 8},
    "handwriting": {"composed_lines": 48, "rnn_size": 8, "layers": 2, "windows": 2, "mixtures": 2},
    "recogniser": {"composed_lines": 48, "rnn_size": 8, "layers": 1},
    "quantum": {"batch_size": 8},
}
ENCODERS = {  # whose features a recipe trains on
    "finetune": ("--encoder", "test_resnet", "--weights", "random:0", "--image-size", 32),
    "quantum": ("--weights", "embedded"),
}
POINTS = ("fsync", "link", "unlink", "replace", "mkdir", "replace_experiment", "check")


def photos(folder: Path, count: int = 30) -> Path:
    draw = np.random.default_rng(0)
    for name, level in (("dark", 110), ("light", 140)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(draw.normal(level, 60, (36, 36, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder


def command(*words: object) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "cli.py"), *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def prepared(folder: Path, recipe: str) -> dict:
    """Its options; what it needs before it can begin is in the workspace `prepared`."""
    workspace, options = folder / "prepared", dict(OPTIONS[recipe])
    if recipe == "classify":
        options["data"] = str(photos(folder / "photos"))
    if recipe in ENCODERS:
        command("enqueue", photos(folder / "photos"), *ENCODERS[recipe], "-w", workspace)
        command("work", "--device", "cpu", "-w", workspace)
    if recipe == "finetune":
        command("train-head", "--epochs", 1, "-w", workspace)
    return options


def trained(root: Path, recipe: str, options: dict, events: list[object]) -> tuple[int, int, dict]:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "KILLED_OPTIONS": json.dumps(options)}
    words = [sys.executable, "-m", "tests.jobs.killed_model", str(root), recipe, *map(str, events)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    deaths, count, outcome, violations = json.loads(done.stdout)
    if violations:
        raise SystemExit("\n".join(violations))
    return deaths, count, outcome


def storm(folder: Path, recipe: str, options: dict, events: int, kills: int) -> Iterator[tuple[int, dict]]:
    """Trainings that are killed a few times each, anywhere from the begin to the end, until `kills` died; deaths and outcomes.

    All deaths in one training would be close together, and many of them before the first state: each begins with the same events.
    """
    draw, deaths = random.Random(1), 0
    while deaths < kills:
        moments = [draw.randrange(1, events // 2) for _ in range(min(4, kills - deaths))]
        died, _, outcome = trained(copied(folder, f"killed {deaths}"), recipe, options, moments)
        deaths += died
        yield died, outcome


def copied(folder: Path, name: str) -> Path:
    """The prepared workspace under another name; none, if the recipe needs none."""
    if (folder / "prepared").exists():
        shutil.copytree(folder / "prepared", folder / name)
    return folder / name


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    for recipe in sys.argv[2:] or OPTIONS:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            options = prepared(folder, recipe)
            _, events, expected = trained(copied(folder, "whole"), recipe, options, [])
            storms = list(storm(folder, recipe, options, events, kills))
            points = [f"{p}:{n}" for p in POINTS for n in (1, 2)]
            at_points, _, after_points = trained(copied(folder, "points"), recipe, options, points)
        is_same = all(outcome == expected for outcome in (after_points, *(outcome for _, outcome in storms)))
        deaths = sum(died for died, _ in storms)
        said = "every byte and row is that of an uninterrupted one" if is_same else "DIFFERS"
        print(
            f"{recipe}: {deaths} deaths at random moments of {events} events in {len(storms)} trainings, {at_points} at "
            f"{len(points)} named points: {said} ({time.monotonic() - begun:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
