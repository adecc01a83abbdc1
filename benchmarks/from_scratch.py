"""`classify` from scratch beside a plain hand-written loop: the same photos, network, augmentation and schedule.

python -m benchmarks.from_scratch CIFAR10.zip FOLDER [--seeds 0,1,2] [--epochs 5]

The zip has train/<class>/*.jpg and test/<class>/*.jpg. 5,000 images of its training part are drawn, as many of each class: 4,500
to learn from and 500 to choose by; 4,000 of its test part are what accuracies are of. FOLDER keeps images, workspace and what was
measured: killed, the same command goes on. `resnet10t` at 64 pixels. About 15 minutes of CPU.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import zipfile
from collections import defaultdict
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.data import create_transform
from timm.optim import create_optimizer_v2
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from .finetune_splits import Notes
from .photos import HERE

MODEL, SIZE, BATCH, RATE, DECAY, WARMUP = "resnet10t", 64, 64, 1e-3, 0.05, 0.05
A_CLASS = {"train": 450, "val": 50, "test": 400}


def draw(archive: Path, target: Path) -> None:
    """Class folders below train, val and test; the same for the same zip."""
    with zipfile.ZipFile(archive) as source:
        by_class: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name in sorted(source.namelist()):
            if name.endswith(".jpg"):
                part, label, _ = name.split("/")
                by_class[part, label].append(name)
        for (part, label), names in by_class.items():
            drawn = random.Random(f"{part} {label}").sample(names, 500)
            places = {"train": drawn[:450], "val": drawn[450:]} if part == "train" else {"test": drawn[:400]}
            for split, chosen in places.items():
                assert len(chosen) == A_CLASS[split]
                (target / split / label).mkdir(parents=True)
                for name in chosen:
                    (target / split / label / Path(name).name).write_bytes(source.read(name))


def plain(images: Path, seed: int, epochs: int) -> float:
    """What one would write by hand. Returns: accuracy on test after the last epoch."""
    torch.manual_seed(seed)
    model = timm.create_model(MODEL, num_classes=10)
    look = {"mean": model.default_cfg["mean"], "std": model.default_cfg["std"]}
    augment = create_transform(SIZE, is_training=True, scale=(0.35, 1.0), hflip=0.5, color_jitter=None, **look)
    loader = DataLoader(ImageFolder(str(images / "train"), augment), BATCH, shuffle=True, num_workers=1)
    optimizer = create_optimizer_v2(model, "adamw", lr=RATE, weight_decay=DECAY)
    steps = epochs * len(loader)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, max(1, int(WARMUP * steps)))
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - int(WARMUP * steps))
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], [int(WARMUP * steps)])
    for _ in range(epochs):
        model.train()
        for pixels, labels in loader:
            F.cross_entropy(model(pixels), labels).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
    model.eval()
    test = DataLoader(ImageFolder(str(images / "test"), create_transform(SIZE, crop_pct=1.0, **look)), BATCH)
    with torch.inference_mode():
        right = sum(int((model(pixels).argmax(1) == labels).sum()) for pixels, labels in test)
    return right / (10 * A_CLASS["test"])


def headstart(*words: object) -> str:
    command = [sys.executable, "-m", "headstart.cli", *map(str, words)]
    return subprocess.run(command, env=HERE, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--plain", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    images, workspace = options.folder / "images", options.folder / "workspace"
    if options.plain is not None:
        print(plain(images, options.plain, options.epochs))
        return
    if not (options.folder / "drawn").exists():
        draw(options.archive, images)
        (options.folder / "drawn").touch()
    notes, gaps = Notes(options.folder / "took.json"), []
    for seed in (int(seed) for seed in options.seeds.split(",")):
        name = f"seed-{seed}"
        words = ("--encoder", MODEL, "--image-size", SIZE, "--epochs", options.epochs, "--seed", seed, "--device", "cpu")
        notes.once(name, "train", "classify", images, *words, "--name", name, "-w", workspace)
        [folder] = workspace.glob(f"experiments/exp_*_{name}")
        noted = json.loads((folder / "metrics.json").read_text())["test"]
        [run] = [
            run for run in json.loads(headstart("runs", "--json", "-w", workspace))["runs"] if run["experiment"] == folder.name
        ]
        again = json.loads(headstart("train", "classify", "--test-only", "--run", run["run"], "--json", "-w", workspace))
        same = "repeats every digit" if all(again[key] == value for key, value in noted.items()) else "DIFFERS"
        if f"plain-{seed}" not in notes.took:
            command = [sys.executable, "-m", "benchmarks.from_scratch", *sys.argv[1:], "--plain", str(seed)]
            notes.keep(f"plain-{seed}", float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        by_hand = notes.took[f"plain-{seed}"]
        gaps.append(noted["accuracy"] - by_hand)
        print(
            f"seed {seed}: classify {noted['accuracy']:.4f} ({notes.took[name]:.0f} s of CPU), by hand {by_hand:.4f}, "
            f"{100 * gaps[-1]:+.2f} points; --test-only {same} of {len(noted)} entries",
            flush=True,
        )
    print(f"mean of {len(gaps)} seeds: {100 * statistics.mean(gaps):+.2f} points")


if __name__ == "__main__":
    main()
