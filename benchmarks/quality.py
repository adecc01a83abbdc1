"""What the recipe quality is worth on real logos, how long the way from them to an exported model is, and how fast that is.

python -m benchmarks.quality LOGOS WEIGHTS FOLDER

LOGOS: a folder of folders of logos, by type. WEIGHTS: of timm's mobilenetv2_100. FOLDER keeps workspaces, files and what was
measured: killed, the same command goes on. It needs `pip install vtracer resvg-py scikit-image`. 20 drawings a logo, three
trainings (pooled features, with early stages, with statistics), a ResNet-50 of seeded random weights, exports, rankings: best on
two quiet cores. Pearson is of five folds of logos, judged by heads that have not seen them; leaking: of rows divided.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .photos import HERE

COUNT, SETS = 20, 10_000
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "vectorizer" / "vectorize.py"
TRAININGS = {
    "pooled": ("--features", "pooled", "--head", "classic"),
    "early": ("--features", "early", "--head", "classic"),
    "statistics": ("--features", "early", "--image-stats", "--head", "trees"),
}
FROM_LOGOS = ("make", "files", "ingest", "enqueue", "work", "train statistics", "export onnx")
LEAST = {("pooled", "classic"): 0.65, ("early", "classic"): 0.80, ("statistics", "classic"): 0.85, ("statistics", "trees"): 0.88}


class Steps:
    """Commands, each done once, with what it said and how many seconds it took."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "steps.json"
        self.done: dict[str, dict[str, Any]] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def headstart(self, name: str, *words: object) -> Any:
        """What a command of Headstart wrote to its output."""
        return self.run(name, [sys.executable, "-m", "headstart.cli", *map(str, words)])

    def run(self, name: str, command: list[str]) -> Any:
        if name not in self.done:
            begun = time.monotonic()
            done = subprocess.run(command, env=HERE, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{' '.join(command)}: {done.stderr}")
            said = json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout
            self.done[name] = {"seconds": time.monotonic() - begun, "said": said}
            self._path.write_text(json.dumps(self.done, indent=1))
        return self.done[name]["said"]


def extracted(steps: Steps, logos: Path, folder: Path, encoder: str, weights: object, *more: str) -> Path:
    root = folder / encoder
    prefix = "" if encoder == "mobilenetv2_100" else f"{encoder} "
    steps.headstart(f"{prefix}enqueue", "enqueue", logos, "--encoder", encoder, "--weights", weights, *more, "-w", root)
    steps.headstart(f"{prefix}work", "work", "-w", root)
    return root


def exported(steps: Steps, root: Path, run: int, prefix: str = "") -> dict[str, dict[str, Any]]:
    """By format, size in bytes, largest difference and milliseconds by threads."""
    words = ("export", "--run", run, "--with-encoder", "--half", "--json", "--force", "-w", root)
    return {
        form: steps.headstart(f"{prefix}export {form}", *words, "--format", form, "-o", root / f"whole.{form}")
        for form in ("onnx", "torchscript")
    }


def measured(steps: Steps, logos: Path, weights: Path, folder: Path) -> list[str]:
    """All of it; lines to print."""
    made = folder / "made"
    steps.headstart("make", "make", EXAMPLE, "--folder", logos, "--count", COUNT, "-w", made)
    [results] = (made / "features").glob("made_vectorize_*")
    steps.run("files", [sys.executable, str(EXAMPLE), str(results), str(folder / "results")])
    table = folder / "results.csv"
    steps.headstart("ingest", "ingest", folder / "results", "--images", logos, "--out", table, "--force")
    root = extracted(steps, logos, folder, "mobilenetv2_100", weights, "--stages", "--image-stats")
    lines = []
    for name, options in TRAININGS.items():
        words = ("train", "quality", "--results", table, *options, "--name", name, "--json", "-w", root)
        said = steps.headstart(f"train {name}", *words)
        for head in said["test"]["heads"]:
            least = LEAST.get((name, head["head"]))
            wanted = "" if least is None else f"  (>= {least:.2f})"
            leaking = "" if head["leaking"] is None else f"  leaking {head['leaking']:.4f}"
            lines.append(f"{name:10}  {head['head']:16}  {head['grouped']:.4f}{leaking}{wanted}")
    exports = {"mobilenetv2_100": exported(steps, root, 3)}
    seconds = sum(steps.done[step]["seconds"] for step in FROM_LOGOS)
    lines.append(f"from {len(list(logos.rglob('*.png'))):,} logos to an exported model: {seconds / 60:.1f} min  (<= 10)")
    image = min(logos.rglob("*.png"))
    for run, name in ((2, "classic"), (3, "trees")):
        ranked = steps.headstart(f"rank {name}", "rank", image, "--run", run, "--sets", SETS, "--json", "-w", root)
        lines.append(f"rank, {name}: {SETS:,} sets in {ranked['head_s']:.3f} s after the encoder  (<= 1)")
    root = extracted(steps, logos, folder, "resnet50", "random:0")
    steps.headstart("resnet50 train", "train", "quality", "--results", table, "--head", "classic", "--epochs", 2, "-w", root)
    exports["resnet50"] = exported(steps, root, 1, "resnet50 ")
    for encoder, forms in exports.items():
        for form, said in forms.items():
            times = ", ".join(f"{value:.1f} ms with {threads}" for threads, value in said["median_ms"].items())
            size, gap = said["bytes"] / 1e6, said["largest_difference"]
            lines.append(f"{encoder} and head, {form}: {size:.1f} MB, within {gap:.1e} of float32, {times} threads")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logos", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    print("\n".join(measured(Steps(given.folder), given.logos.resolve(), given.weights.resolve(), given.folder.resolve())))


if __name__ == "__main__":
    main()
