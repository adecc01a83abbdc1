"""What trainings take of a GPU within a budget of 4 GB: the last blocks of two encoders, and a decoder of large pictures.

python -m benchmarks.gpu_trainings [--device cuda] [--steps 40] [--json FILE]

Weights are random: memory and speed do not depend on them. On `--device cpu` it shows that the script runs, nothing else.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from headstart.features.acceptance.gpu_acceptance import draw_photos
from headstart.pipeline.doors import python
from headstart.pipeline.doors.records import read_record

BUDGET = 4 * 10**9
DESIGNS = Path(__file__).resolve().parent.parent / "examples" / "designs" / "designs.py"


def headstart(*words: object) -> str:
    done = python.run(python.module_command("headstart.cli", *map(str, words)), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"headstart {' '.join(map(str, words))}: exit {done.returncode}")
    return str(done.stdout)


def facts_of(root: Path) -> dict[str, object]:
    """Of the newest training."""
    [*_, marker] = sorted(root.glob("experiments/*/done/*/*.done"))
    [*_, course] = sorted(root.glob("experiments/*/checkpoints/course.json"))
    facts = json.loads(marker.read_text())["facts"]
    held, reserved = facts.get("vram_process_bytes"), facts.get("peak_vram_reserved_bytes")
    seconds = dict(read_record(course, None))["seconds_a_step"]
    return {"process_bytes": held, "peak_reserved_bytes": reserved, "seconds_a_step": seconds, "within": fits(held, reserved)}


def fits(held: int | None, reserved: int | None) -> bool | None:
    """Whether what NVML saw of the process, or else what the allocator held, is within the budget; None: nobody says."""
    said = held if held is not None else reserved
    return None if said is None else said <= BUDGET


def finetune(folder: Path, encoder: str, blocks: int, options: argparse.Namespace) -> dict[str, object]:
    root, device, steps, batch = folder / encoder, options.device, options.steps, options.batch
    headstart("enqueue", folder / "photos", "--encoder", encoder, "--weights", "random:0", "--image-size", 224, "-w", root)
    headstart("work", "--device", device, "-w", root)
    headstart("train-head", "--epochs", 5, "--device", device, "-w", root)
    words = ["--way", "images", "--blocks", blocks, "--batch-size", batch, "--max-steps", steps, "--evaluate-every", steps]
    words += ["--vram-budget", "4GB"] if device == "cuda" else []
    headstart("train", "finetune", *words, "--no-judge-start", "--device", device, "-w", root)
    return rated(facts_of(root), batch)


def diffusion(folder: Path, device: str, steps: int, batch: int, size: int) -> dict[str, object]:
    root = folder / "designs"
    headstart("make", DESIGNS, "--count", 8 * batch, "-w", root)
    words = ["--image-size", size, "--batch-size", batch, "--max-steps", steps, "--evaluate-every", steps]
    words += ["--vram-budget", "4GB"] if device == "cuda" else []
    headstart("train", "diffusion", *words, "--gradient-checkpointing", "--device", device, "-w", root)
    return rated(facts_of(root), batch)


def rated(facts: dict[str, object], batch: int) -> dict[str, object]:
    return {**facts, "images_a_second": round(batch / float(str(facts["seconds_a_step"])), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--photos", type=int, default=512)
    parser.add_argument("--design-size", type=int, default=256)
    parser.add_argument("--encoders", default="resnet50:3,efficientnet_b0:4", help="and how many blocks of each are trained")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_photos(folder / "photos", options.photos)
        for chosen in options.encoders.split(","):
            encoder, _, blocks = chosen.partition(":")
            results[f"finetune {encoder}"] = finetune(folder, encoder, int(blocks), options)
            print(encoder, json.dumps(results[f"finetune {encoder}"]), flush=True)
        made = diffusion(folder, options.device, max(12, options.steps // 2), 16, options.design_size)
        results[f"diffusion at {options.design_size}"] = made
        print("diffusion", json.dumps(made), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
