"""Three trainings on one world of designs: who sees their structure, who judges it, who draws them; and what each is worth.

python -m benchmarks.designs FOLDER [--only unet abstractor diffusion-32 diffusion-64 tuning-32 ascent-64] [--seeds 3]
    [--count 8000] [--judged 24000]     designs, and others that the judge learns from
    [--unet epochs=3] [--abstractor epochs=10] [--judge epochs=14] [--diffusion-32 epochs=46]     options of the trainings
    [--pictures 100]     that are drawn with and without ascent

FOLDER keeps the workspace, pictures and `figures.json`: killed, the same command goes on. Seconds are of CPU, with imports, data
and judgement, over all starts of a training. Wanted are at most 20 minutes of one core for a U-Net, 10 for an abstractor, 60 and
120 for pictures of 32 and 64 pixels; designs are made, and the judge is trained, besides. Numbers are of the test split. The
judge never saw one of these designs: three times as many, drawn by another seed, tell it more than the same ones three times.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from headstart.experiments.designs.data_set import DESIGN_EDGE
from headstart.experiments.designs.description import SCORES
from headstart.experiments.designs.new_designs import region_boxes
from headstart.experiments.designs.rewarded import GRAMMAR
from headstart.experiments.designs.unet_network import structure_of
from headstart.experiments.evaluation.evaluate_abstractor import evaluate_abstractor
from headstart.experiments.evaluation.evaluate_designs import evaluate_designs
from headstart.experiments.recipes.unet import overlay
from headstart.experiments.runs.experiment import read_metrics
from headstart.experiments.serving.recipe_run import open_trained
from headstart.experiments.serving.sample_run import sample_run

from .finetune_splits import read_numbers, write_numbers
from .other_designs import other_designs
from .photos import HERE
from .synthetic import verdict
from .trainings import Seconds, said, trained

WORLD = Path(__file__).resolve().parent.parent / "examples" / "designs" / "designs.py"
DRAWING = {"amp": "bfloat16", "ema": 0.999, "threads": 1}
DEFAULTS: dict[str, dict[str, Any]] = {
    "unet": {"amp": "bfloat16", "threads": 1},
    "abstractor": {"threads": 1},
    "critic": {"epochs": 12, "threads": 1, "seed": 200},
    "judge": {"epochs": 14, "threads": 1, "seed": 100},
    "diffusion-32": {"image_size": 32, "epochs": 46, "batch_size": 8, **DRAWING},
    "tuning-32": {"image_size": 32, "epochs": 6, "learning_rate": 2e-4, **DRAWING},
    "diffusion-64": {"image_size": 64, "patch": 4, "epochs": 72, "batch_size": 8, **DRAWING},
}
UNET = {"text_iou": (0.90, True), "image_iou": (0.85, True), "colour_accuracy": (0.80, True), "hierarchy_error": (0.05, False)}
ABSTRACTOR = {"goal_accuracy": (0.85, True), "format_accuracy": (0.85, True)} | {f"{one}_error": (0.10, False) for one in SCORES}
MINUTES = {"unet": 20, "abstractor": 10, "diffusion-32": 60, "diffusion-64": 120}
PARTS = (*MINUTES, "tuning-32", "ascent-64")


def make(workspace: Path, count: int, seed: int) -> str:
    """Designs by that seed; the name of their folder."""
    words = ["make", WORLD, "--count", count, "--seed", seed, "--json", "-w", workspace]
    command = [sys.executable, "-m", "headstart.cli", *map(str, words)]
    done = subprocess.run(command, env=HERE, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    return Path(json.loads(done.stdout)["folder"]).name


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


def judge_tuned(before: Any, after: Any, judge: Any, critic: Any, workspace: Path) -> dict[str, Any]:
    """Both by the judge, and how much higher the critic, by which the tuning went, says that the scores became."""
    said = {
        who: [evaluate_designs(run.number, by.number, workspace).as_json()["numbers"]["drawn"] for run in (before, after)]
        for who, by in (("judge", judge), ("critic", critic))
    }
    gains = {who: second["score"] - first["score"] for who, (first, second) in said.items()}
    verdict(f"tuned for grammar: score by the judge (by the critic {gains['critic']:+.3f})", gains["judge"], 0.05)
    verdict(
        "tuned for grammar: distance, times that of before",
        said["judge"][1]["distance"] / said["judge"][0]["distance"],
        1.1,
        False,
    )
    return said


def judge_ascent(drawing: Any, critic: Any, unet: Any, pictures: int) -> dict[str, Any]:
    """Alignment of the boxes that a U-Net sees, with and without ascent, picture by picture."""
    ready, eyes, said = open_trained(drawing), open_trained(unet).model, {}
    for name, more in (("plain", {}), ("ascended", {"ascend": "alignment", "critic": str(critic.number)})):
        wanted = {"count": pictures, "steps": 10, "guidance": 1.0, **more}
        images = [np.asarray(Image.open(io.BytesIO(data))) for _, data in sample_run(ready, wanted)]
        said[name] = [alignment_of(eyes, image) for image in images]
    gains = np.array(said["ascended"]) - np.array(said["plain"])
    verdict("ascent: % of pictures whose boxes are better aligned", 100 * float((gains > 0).mean()), 70)
    print(f"alignment of their boxes {np.mean(said['plain']):.3f} before, {np.mean(said['ascended']):.3f} after")
    return said


def alignment_of(eyes: Any, image: Any) -> float:
    """By the formula of the world, of the boxes that are seen in a picture (s, s, 3)."""
    from headstart.experiments.designs.seen_structure import seen_structure

    sys.path.insert(0, str(WORLD.parent))
    from grammar import alignment  # type: ignore[import-not-found]

    with torch.inference_mode():
        structure = seen_structure(eyes, torch.from_numpy(image.copy()).permute(2, 0, 1)[None])[0]
    size = DESIGN_EDGE, DESIGN_EDGE  # in which the world's formula counts
    return float(alignment([tuple(box) for mask in (structure[:2] > 0).numpy() for box in region_boxes(mask, size)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=8000)
    parser.add_argument("--judged", type=int, default=24_000)
    parser.add_argument("--pictures", type=int, default=100)
    for name in DEFAULTS:
        parser.add_argument(f"--{name}", type=said, default={}, metavar="NAME=VALUE,...")
    options = parser.parse_args()
    folder, workspace = options.folder, options.folder / "workspace"
    folder.mkdir(parents=True, exist_ok=True)
    world, other_world = make(workspace, options.count, 0), make(workspace, options.judged, 1)
    seconds, figures = Seconds(folder / "cpu_s.json"), read_numbers(folder / "figures.json")
    values = {name: DEFAULTS[name] | getattr(options, name.replace("-", "_")) for name in DEFAULTS}

    def run(recipe: str, name: str, **more: Any) -> Any:
        kind = {"tuning-32": "diffusion", "judge": "critic"}.get(recipe, recipe.partition("-")[0])
        made = other_world if recipe == "judge" else world
        return trained(seconds, workspace, name, kind, {"made": made, **values[recipe], **more})

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
        judge = run("judge", f"judge-{size}", image_size=size)
        drawing = run(recipe, recipe)
        verdict(f"{recipe}: minutes of CPU", seconds.took[recipe] / 60, MINUTES[recipe], False)
        evaluation = evaluate_designs(drawing.number, judge.number, workspace)
        judge_drawn(size, evaluation)
        for name, picture in evaluation.pictures:
            picture.save(folder / f"{recipe}_{name}.png")
        figures[recipe] = evaluation.as_json()
    if "tuning-32" in options.only:
        judge, before = run("judge", "judge-32", image_size=32), run("diffusion-32", "diffusion-32")
        critic = run("critic", "critic-32", image_size=32)
        reward = {"tune": str(before.number), "tune_for": GRAMMAR, "critic": str(critic.number)}
        figures["tuning-32"] = judge_tuned(before, run("tuning-32", "tuned-32", **reward), judge, critic, workspace)
    if "ascent-64" in options.only:
        drawing, critic = run("diffusion-64", "diffusion-64"), run("critic", "critic-64", image_size=64)
        unet = run("unet", "unet-64", image_size=64, fold=2, seed=300)
        figures["ascent-64"] = judge_ascent(drawing, critic, unet, options.pictures)
    figures |= {"options": values, "cpu_s": seconds.took}
    write_numbers(folder / "figures.json", figures)


if __name__ == "__main__":
    main()
