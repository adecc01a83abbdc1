"""`finetune` beside the best head of `train-head`, on several splits of the same photos, from the cut and from images.

python -m benchmarks.finetune_splits PHOTOS WEIGHTS FOLDER [--splits 0,1,2] [--encoder mobilenetv2_100]
python -m benchmarks.finetune_splits PHOTOS WEIGHTS FOLDER --steps      only: a step of both ways, on two and four blocks

PHOTOS: a folder of class folders. FOLDER keeps the workspaces, one a split, and what was measured: killed, the same command goes
on. On each split two blocks from the cut; on the first one also two from images, and four both ways. Times are CPU seconds of a
command and all that it starts, work for the cut included. About 25 minutes of CPU on 2,062 photos.
"""

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from headstart.experiments.recipes import finetune
from headstart.experiments.runs.recipe_experiment import RecipeExperiment, list_recipe_experiments
from headstart.experiments.training.conduct import Conduct
from headstart.experiments.training.loop import Loop
from headstart.experiments.training.options import options_from
from headstart.experiments.training.state.final_weights import read_final
from headstart.pipeline.workspace import open_workspace

from .photos import HERE

TRAININGS = (("cut", 2), ("images", 2), ("cut", 4), ("images", 4))
STEPS = 12  # of each way, after two that warm up


def cpu_seconds_of(*words: object) -> float:
    """Of a command that has to succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "headstart.cli", *map(str, words)], env=HERE, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Notes:
    """What was measured, by name; done steps are not done again."""

    def __init__(self, path: Path) -> None:
        self._path, self._starts_path = path, path.with_suffix(".starts.json")
        self.took: dict[str, float] = read_numbers(self._path)
        self._starts = read_numbers(self._starts_path)

    def once(self, name: str, *words: object) -> None:
        if name not in self.took:
            self._starts[name] = self._starts.get(name, 0) + 1
            write_numbers(self._starts_path, self._starts)
            self.keep(name, self.measured(*words))
        if self._starts.get(name, 1) > 1:
            print(f"{name} was started {self._starts[name]} times; its seconds are those of the last start", flush=True)

    def measured(self, *words: object) -> float:
        """Seconds of a command that has to succeed."""
        return cpu_seconds_of(*words)

    def keep(self, name: str, number: float) -> None:
        self.took[name] = number
        write_numbers(self._path, self.took)


def read_numbers(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def write_numbers(path: Path, numbers: dict[str, Any]) -> None:
    beside = path.with_suffix(".new")  # a kill leaves the numbers before or these, and no half file
    beside.write_text(json.dumps(numbers, indent=1))
    beside.replace(path)


def frozen_as_before(experiment: RecipeExperiment, encoder: Path) -> tuple[int, bool]:
    """Tensors before the cut in the last state, and whether each has the bits that it has in the encoder's file."""
    [state] = experiment.checkpoints.glob("step_*.pt")
    after = torch.load(state, weights_only=True)["model"]
    before = load_file(encoder / "weights.safetensors")
    back = tuple(f"{name}." for name in read_final(experiment.final_weights).about["back"])
    trained = {name for name, tensor in before.items() if not torch.equal(tensor, after[f"network.{name}"])}
    frozen = [name for name in before if not name.startswith(back)]
    return len(frozen), trained.isdisjoint(frozen)


def on_split(photos: Path, weights: str, encoder: str, folder: Path, seed: int, trainings: Sequence[tuple[str, int]]) -> None:
    place = folder / f"split-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    workspace, notes = place / "workspace", Notes(place / "took.json")
    notes.once("enqueue", "enqueue", photos, "--encoder", encoder, "--weights", weights, "--seed", seed, "-w", workspace)
    notes.once("work", "work", "--device", "cpu", "-w", workspace)
    notes.once("train-head", "train-head", "--ablation", "-w", workspace)
    asked = {f"{way}-{blocks}": ("--way", way, "--blocks", blocks) for way, blocks in trainings}
    for name, words in asked.items():
        notes.once(name, "train", "finetune", *words, "--name", name, "--head", "best", "--device", "cpu", "-w", workspace)
    opened = open_workspace(workspace)
    encoder_folder = next(opened.features.glob("encoder_*"))
    # Others may be unfinished: what a kill left of a training that comes later.
    for experiment in (one for one in list_recipe_experiments(opened) if one.name in asked):
        judged = json.loads((experiment.folder / "metrics.json").read_text())
        gain, (count, is_frozen) = judged["gain"]["test"], frozen_as_before(experiment, encoder_folder)
        low, high = gain["interval"]
        print(
            f"split {seed}, {experiment.name}: head {judged['start']['test']['accuracy']:.4f}, fine-tuned "
            f"{judged['test']['accuracy']:.4f} on {judged['rows']['test']} test photos, gain {100 * gain['value']:.1f} points "
            f"({100 * low:+.1f} to {100 * high:+.1f} in pairs), {notes.took[experiment.name]:.0f} s of CPU, {count} frozen "
            f"tensors {'as they were' if is_frozen else 'CHANGED'}",
            flush=True,
        )
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in notes.took.items())
    print(f"split {seed}: {took}", flush=True)


def step_seconds(workspace: Path, way: str, blocks: int) -> float:
    """Median CPU seconds of a step, its rows read in this process."""
    opened = open_workspace(workspace)
    options = options_from(finetune.Options, {"way": way, "blocks": blocks, "head": "best", "judge_start": False})
    splits = finetune.data(options, opened)
    loop = Loop(finetune, options, splits, Conduct(data_workers=0), workspace=opened)
    took: list[float] = []

    class Stopwatch:
        def began(self, step: int, steps: int) -> None:
            self.begun = time.process_time()

        def stepped(self, taken: object) -> None:
            now = time.process_time()
            took.append(now - self.begun)
            self.begun = now
            if len(took) == STEPS + 2:
                raise KeyboardInterrupt

        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: None

    with contextlib.suppress(KeyboardInterrupt):
        loop.run(None, "steps", listeners=[Stopwatch()])
    return statistics.median(took[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("weights")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", default="0,1,2")
    parser.add_argument("--encoder", default="mobilenetv2_100")
    parser.add_argument("--steps", action="store_true")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.splits.split(",")]
    if options.steps:
        workspace = options.folder / f"split-{seeds[0]}" / "workspace"
        for blocks in (2, 4):
            cut, images = (step_seconds(workspace, way, blocks) for way in ("cut", "images"))
            print(
                f"{blocks} blocks: a step {cut:.3f} s of CPU from the cut, {images:.3f} s from images: {cut / images:.2f}",
                flush=True,
            )
        return
    for seed in seeds:
        on_split(options.photos, options.weights, options.encoder, options.folder, seed, TRAININGS[:1])
    on_split(options.photos, options.weights, options.encoder, options.folder, seeds[0], TRAININGS[1:])


if __name__ == "__main__":
    main()
