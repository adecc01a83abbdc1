"""Three trainings on one world of designs: who sees their structure, who judges it, who draws them; and what each is worth.

python -m benchmarks.designs FOLDER [--only unet abstractor diffusion-32 diffusion-64] [--seeds 3] [--count 8000]
    [--unet epochs=4] [--abstractor epochs=10] [--critic epochs=12] [--diffusion-32 epochs=40]     options of the trainings

FOLDER keeps the workspace, pictures and `figures.json`: killed, the same command goes on. Seconds are of CPU, those of imports,
data and judgement, too, over all starts of a training. Wanted are at most 20 minutes of one core for a U-Net, 10 for an abstractor,
60 and 120 for pictures of 32 and 64 pixels; designs are made, and the judge is trained, besides. Numbers are of the test split.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from headstart.experiments.designs.description import SCORES
from headstart.experiments.designs.unet_network import structure_of
from headstart.experiments.evaluation.evaluate_abstractor import evaluate_abstractor
from headstart.experiments.evaluation.evaluate_designs import evaluate_designs
from headstart.experiments.recipes.unet import overlay
from headstart.experiments.runs.experiment import read_metrics
from headstart.experiments.serving.recipe_run import open_trained

from .finetune_splits import read_numbers, write_numbers
from .other_designs import other_designs
from .photos import HERE
from .synthetic import verdict
from .trainings import Seconds, said, trained

WORLD = Path(__file__).resolve().parent.parent / "examples" / "designs" / "designs.py"
DEFAULTS: dict[str, dict[str, Any]] = {
    "unet": {"epochs": 4, "amp": "bfloat16", "threads": 1},
    "abstractor": {"threads": 1},
    "critic": {"threads": 1, "seed": 100},
    "diffusion-32": {"image_size": 32, "epochs": 40, "amp": "bfloat16", "ema": 0.999, "threads": 1},
    "diffusion-64": {"image_size": 64, "patch": 4, "epochs": 60, "amp": "bfloat16", "ema": 0.999, "threads": 1},
}
UNET = {"text_iou": (0.90, True), "image_iou": (0.85, True), "colour_accuracy": (0.80, True), "hierarchy_error": (0.05, False)}
ABSTRACTOR = {"goal_accuracy": (0.85, True), "format_accuracy": (0.85, True)} | {f"{one}_error": (0.10, False) for one in SCORES}
MINUTES = {"unet": 20, "abstractor": 10, "diffusion-32": 60, "diffusion-64": 120}


def make(workspace: Path, count: int) -> None:
    words = ["make", WORLD, "--count", count, "-w", workspace]
    subprocess.run([sys.executable, "-m", "headstart.cli", *map(str, words)], env=HERE, check=True, stdin=subprocess.DEVNULL)


def over_seeds(name: str, runs: list[Any], wanted: Mapping[str, tuple[float, bool]]) -> dict[str, Any]:
    """Numbers of the test split of each run; their medians are judged."""
    numbers = [read_metrics(run)["test"] for run in runs]
    for key, (target, is_least) in wanted.items():
        verdict(f"{name}: {key.replace('_', ' ')}", statistics.median(one[key] for one in numbers), target, is_least)
    return {"test": numbers}


def drop_on_others(run: Any, folder: Path) -> dict[str, Any]:
    """IoU of text and of pictures on designs by other rules, each as a picture beside what is true."""
    ready, rows, sums = open_trained(run), [], np.zeros((2, 2))
    for image, masks, _ in other_designs():
        with torch.inference_mode():
            claimed = (structure_of(ready.model, torch.from_numpy(image).permute(2, 0, 1)[None]).masks[0] > 0).numpy()
        for place in range(2):
            sums[place] += (claimed[place] & (masks[place] > 0)).sum(), (claimed[place] | (masks[place] > 0)).sum()
        rows.append(np.concatenate([image, overlay(image, masks > 0), overlay(image, claimed)], 1))
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, 0)).save(folder / "other_designs.png")
    said = {name: float(both / either) for name, (both, either) in zip(("text_iou", "image_iou"), sums, strict=True)}
    print(f"ten designs by other rules: IoU of text {said['text_iou']:.3f}, of pictures {said['image_iou']:.3f}")
    return said


def judge_drawn(size: int, evaluation: Any) -> None:
    drawn, real = evaluation.numbers["drawn"], evaluation.numbers["real"]
    name = f"{size} pixels"
    verdict(f"{name}: right goals (real {real['goal_accuracy']:.3f})", drawn["goal_accuracy"], 0.95)
    verdict(f"{name}: right formats (real {real['format_accuracy']:.3f})", drawn["format_accuracy"], 0.98)
    verdict(f"{name}: tone error (real {real['tone_error']:.3f})", drawn["tone_error"], 0.05, is_least=False)
    verdict(f"{name}: distance, times that of real ones", drawn["distance"] / real["distance"], 1.5, is_least=False)
    verdict(f"{name}: diversity, at least", drawn["diversity"], 0.9)
    verdict(f"{name}: diversity, at most", drawn["diversity"], 1.1, is_least=False)
    verdict(f"{name}: flatness, part of the real one", drawn["flatness"] / real["flatness"], 0.6)
    verdict(f"{name}: nearest to a training image (real {real['nearest']:.1f})", drawn["nearest"], real["nearest"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(MINUTES), default=list(MINUTES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=8000)
    for name in DEFAULTS:
        parser.add_argument(f"--{name}", type=said, default={}, metavar="NAME=VALUE,...")
    options = parser.parse_args()
    folder, workspace = options.folder, options.folder / "workspace"
    folder.mkdir(parents=True, exist_ok=True)
    make(workspace, options.count)
    seconds, figures = Seconds(folder / "cpu_s.json"), read_numbers(folder / "figures.json")
    values = {name: DEFAULTS[name] | getattr(options, name.replace("-", "_")) for name in DEFAULTS}

    def run(recipe: str, name: str, **more: Any) -> Any:
        return trained(seconds, workspace, name, recipe.partition("-")[0], {**values[recipe], **more})

    for recipe, wanted in (("unet", UNET), ("abstractor", ABSTRACTOR)):
        if recipe not in options.only:
            continue
        names = [f"{recipe}-{seed}" for seed in range(options.seeds)]
        runs = [run(recipe, name, seed=seed) for seed, name in enumerate(names)]
        verdict(f"{recipe}: minutes of CPU", statistics.median(seconds.took[name] for name in names) / 60, MINUTES[recipe], False)
        figures[recipe] = over_seeds(recipe, runs, wanted)
        if recipe == "unet":
            figures[recipe]["other rules"] = drop_on_others(runs[0], folder)
        elif "unet" in options.only:
            seen = evaluate_abstractor(runs[0].number, run("unet", "unet-0", seed=0).number, workspace).as_json()["numbers"]
            figures[recipe]["seen"] = seen
            for key in ABSTRACTOR:
                print(f"{key}: {seen['true'][key]:.3f} on true structure, {seen['seen'][key]:.3f} on what unet-0 sees")
    for size in (32, 64):
        recipe = f"diffusion-{size}"
        if recipe not in options.only:
            continue
        judge = run("critic", f"judge-{size}", image_size=size)
        drawing = run(recipe, recipe)
        verdict(f"{recipe}: minutes of CPU", seconds.took[recipe] / 60, MINUTES[recipe], False)
        evaluation = evaluate_designs(drawing.number, judge.number, workspace)
        judge_drawn(size, evaluation)
        for name, picture in evaluation.pictures:
            picture.save(folder / f"{recipe}_{name}.png")
        figures[recipe] = evaluation.as_json()
    figures |= {"options": values, "cpu_s": seconds.took}
    write_numbers(folder / "figures.json", figures)


if __name__ == "__main__":
    main()
