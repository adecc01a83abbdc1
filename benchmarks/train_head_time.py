"""Wall time of `train-head` without options, from process start: on 2,000 and on 50,000 images of 1,280 features, ten classes.

python -m benchmarks.train_head_time [--old CHECKOUT] [--rounds 3]

CHECKOUT is another version with its own `.venv/bin/python` and `tests/`: it makes the workspace of 2,000 images, which both then
train on, in turn, each time in a copy. Features are synthetic: a class is a point in 1,280 dimensions under noise, separable to
about 77 %; splits 70/15/15. The time includes the start of Python, packing the cache on 50,000 images, all heads, metrics and
files. Three minutes on two quiet cores.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from .photos import ROOT
from .synthetic import seconds_of, synthetic, verdict

MAKE = """
import sys
from pathlib import Path
import numpy as np
from headstart.pipeline.workspace import open_or_create_workspace
from tests.features.packed import Extracted
features, labels, splits = (np.load(f"{sys.argv[1]}/{name}.npy") for name in ("features", "labels", "splits"))
workspace = open_or_create_workspace(Path(sys.argv[1]) / "workspace")
Extracted(workspace, embed_dim=features.shape[1], job_size=1000).add(features, labels.tolist(), splits.tolist())
"""


def workspace_of(rows: int, folder: Path, checkout: Path, python: str) -> Path:
    """A workspace with so many images, as the version of `checkout` makes it."""
    folder.mkdir()
    made = synthetic(rows)
    np.save(folder / "features.npy", made.source.features)
    np.save(folder / "labels.npy", np.array([f"class {code}" for code in made.targets.codes]))
    np.save(
        folder / "splits.npy", np.random.default_rng(0).permutation(np.resize(["train"] * 14 + ["val"] * 3 + ["test"] * 3, rows))
    )
    subprocess.run([python, "-c", MAKE, str(folder)], check=True, cwd=checkout, env={"PYTHONPATH": str(checkout)})
    return folder / "workspace"


def train(workspace: Path, checkout: Path, python: str, scratch: Path) -> tuple[float, str]:
    """Seconds, and what it says; in a copy."""
    copy = scratch / "copy"
    shutil.copytree(workspace, copy)
    said: list[str] = []

    def run() -> None:
        command = [python, "-m", "headstart.cli", "train-head", "-w", str(copy)]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=checkout, env={"PYTHONPATH": str(checkout)}
        )
        said.append(done.stdout)

    seconds = seconds_of(run)
    shutil.rmtree(copy)
    return seconds, said[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    versions = {"now": (ROOT, sys.executable)}
    if options.old is not None:
        old = options.old.resolve()
        versions = {"before": (old, str(old / ".venv" / "bin" / "python")), **versions}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        small = workspace_of(2000, scratch / "small", *next(iter(versions.values())))
        seconds: dict[str, list[float]] = {version: [] for version in versions}
        for number in range(options.rounds):
            for version, (checkout, python) in versions.items():
                took, said = train(small, checkout, python, scratch)
                seconds[version].append(took)
                if not number:
                    print(said, flush=True)
        for version, took in seconds.items():
            print(
                f"2,000 images, {version:8} {statistics.median(took):6.1f} s of {' '.join(f'{each:.1f}' for each in took)}",
                flush=True,
            )
        large = workspace_of(50_000, scratch / "large", *versions["now"])
        took, said = train(large, *versions["now"], scratch)
        print(said)
    verdict("50,000 images with the logistic path, s", took, 45, is_least=False)


if __name__ == "__main__":
    main()
