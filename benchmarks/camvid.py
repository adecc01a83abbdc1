"""CamVid: what maps take, what heads on them reach and how long they learn, and what smaller maps cost.

python -m benchmarks.camvid CAMVID WEIGHTS FOLDER [--encoder mobilenetv2_100] [--seeds 0,1,2] [--compress pca:128,int8]

CAMVID: folders train, trainannot, val, valannot (and test, testannot, if they are there) of 480 x 360 pixels. FOLDER keeps the
data, a workspace with whole maps and one with compressed ones, and what was measured: killed, the same command goes on. About a
quarter of an hour on two cores. mIoU is that of validation, which also chose the best epoch, unless there is a test split.
"""

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path

from .finetune_splits import Notes
from .photos import headstart

HEADS = ("linear", "conv")
MAPS = ("--image-size", "360x480", "--maps", "8,16,32")


class Timed(Notes):
    """Wall clock of commands, by name."""

    def measured(self, *words: object) -> float:
        begun = time.monotonic()
        headstart(*words)
        return time.monotonic() - begun


def table(camvid: Path, folder: Path) -> Path:
    """The photos and masks in `folder`, and a table of them."""
    if not (folder / "table.csv").exists():
        lines = ["path,split,mask"]
        for split in ("train", "val", "test"):
            if not (camvid / split).is_dir():
                continue
            for name in (split, f"{split}annot"):
                shutil.rmtree(folder / name, ignore_errors=True)
                shutil.copytree(camvid / name, folder / name, copy_function=shutil.copyfile)
            lines += [f"{split}/{path.name},{split},{split}annot/{path.stem}.png" for path in sorted((camvid / split).iterdir())]
        (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def shard_bytes(workspace: Path) -> int:
    return sum(path.stat().st_size for path in workspace.glob("features/encoder_*/shards/*/*"))


def reached(workspace: Path, name: str) -> float:
    """mIoU of that training: on test if there is one, else on validation."""
    [folder] = workspace.glob(f"experiments/exp_*_{name}")
    judged = json.loads((folder / "metrics.json").read_text())
    return float(judged.get("test", judged["val"])["miou"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("camvid", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="mobilenetv2_100")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--compress", default="pca:128,int8")
    parser.add_argument("--train", default="", help="more options of the trainings, in one text: '--epochs 20'")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    data, seeds = table(options.camvid, options.folder), [int(seed) for seed in options.seeds.split(",")]
    images = len(data.read_text().splitlines()) - 1
    notes = Timed(options.folder / "took.json")
    encoder = ("--encoder", options.encoder, "--weights", options.weights.absolute(), *MAPS)
    scores: dict[tuple[str, str], list[float]] = {}
    for kind, more in (("whole", ()), ("compressed", ("--compress", options.compress))):
        workspace = options.folder / kind
        notes.once(f"{kind} enqueue", "enqueue", data, *encoder, *more, "-w", workspace)
        notes.once(f"{kind} work", "work", "--device", "cpu", "-w", workspace)
        print(
            f"{kind}: enqueue {notes.took[f'{kind} enqueue']:.1f} s, extraction {notes.took[f'{kind} work']:.1f} s for {images} "
            f"images, {shard_bytes(workspace) / images / 1e6:.2f} MB each",
            flush=True,
        )
        for head in HEADS:
            seconds = []
            for seed in seeds:
                name = f"{head}-{seed}"
                learn = ("--masks", "mask", "--void", 11, "--head", head, "--seed", seed, "--name", name, *options.train.split())
                notes.once(f"{kind} {name}", "train", "segment", *learn, "-w", workspace)
                seconds.append(notes.took[f"{kind} {name}"])
                scores.setdefault((kind, head), []).append(reached(workspace, name))
            each = ", ".join(f"{score:.4f}" for score in scores[kind, head])
            print(
                f"  {head:6} mIoU median {statistics.median(scores[kind, head]):.4f} ({each}); trained in {min(seconds):.0f} to "
                f"{max(seconds):.0f} s, the process and its judgement included",
                flush=True,
            )
    sizes = [shard_bytes(options.folder / kind) for kind in ("whole", "compressed")]
    for head in HEADS:
        lost = [one - other for one, other in zip(scores["whole", head], scores["compressed", head], strict=True)]
        print(f"{options.compress} costs {head} {statistics.mean(lost):+.4f} mIoU ({min(lost):+.4f} to {max(lost):+.4f})")
    print(f"{options.compress}: {sizes[1] / sizes[0]:.3f} of the disk")


if __name__ == "__main__":
    main()
