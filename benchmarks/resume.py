"""Going on at 90 % of a long run, and what checkpoints cost: python -m benchmarks.resume [REPEATS]

The default ablation on 51,200 x 1,280 mapped rows, 100 epochs. Each repeat is a process of its own, whose clock runs from the end
of its imports until every lane has made its first step. Checkpoints are kept every ten seconds, so their share is what one takes
of those. Medians of 5. Half a minute on two quiet cores.
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from headstart.experiments.config import TrainingOptions, default_ablation
from headstart.experiments.data.targets import Targets
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.heads.parameters import Parameters
from headstart.experiments.heads.trainer import Trainer, train
from headstart.experiments.training.state.checkpoints import Checkpoints
from headstart.pipeline.files import FileSystem

from .heads_from_disk import PART_ROWS, on_disk
from .synthetic import verdict

ROWS, CLASSES = 2 * PART_ROWS, 10
OPTIONS = TrainingOptions(epochs=100)


class Stepped(Exception):
    """A lane made its first step."""


def opened(folder: Path) -> tuple[TrainingData, Checkpoints]:
    codes = np.random.default_rng(0).integers(0, CLASSES, ROWS)
    targets = Targets("classification", tuple(map(str, range(CLASSES))), codes, np.empty((ROWS, 0), np.float32))
    data = TrainingData(on_disk(folder / "parts", ROWS), targets, np.arange(ROWS - 5000), np.arange(ROWS - 5000, ROWS))
    return data, Checkpoints(folder / "checkpoints", FileSystem())


def resume(folder: Path) -> None:
    """Prints the seconds until every lane has made its first step, and which it was."""
    import h5py  # noqa: F401 - imports do not count
    import numpy.random  # noqa: F401 - which numpy puts off
    import torch

    step, ends = Parameters.step, {}

    def stop_after(self: Parameters, number: int, factor: float) -> None:
        step(self, number, factor)
        ends[number] = time.perf_counter()
        raise Stepped

    Parameters.step = stop_after  # type: ignore[method-assign]
    torch.zeros(1)
    begun = time.perf_counter()
    data, keeper = opened(folder)
    with contextlib.suppress(Stepped):
        train(data, default_ablation(), OPTIONS, keeper)
    ((number, end),) = ends.items()
    print(end - begun, number)


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        return resume(Path(sys.argv[2]))
    repeats = int((sys.argv[1:] or ["5"])[0])
    with tempfile.TemporaryDirectory() as name:
        data, keeper = opened(Path(name))
        trainer = Trainer(data, default_ablation(), OPTIONS)
        trainer.epoch = OPTIONS.epochs * 9 // 10
        kept = []
        for number in range(repeats):
            begun = time.perf_counter()
            keeper.keep(trainer.step - number, trainer.identity, trainer.state())
            kept.append(time.perf_counter() - begun)
        command = [sys.executable, "-m", "benchmarks.resume", "child", name]
        found = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(repeats)]
        size = max(path.stat().st_size for path in keeper.folder.iterdir())
        assert all(int(number) == trainer.step + 1 for _, number in found)
    print("resumed, ms:", *(f"{1e3 * float(seconds):.0f}" for seconds, _ in found))
    print("kept, ms:   ", *(f"{1e3 * seconds:.0f}" for seconds in kept), f"  {size / 1e6:.0f} MB each\n")
    verdict("first step after a resume, ms after the imports", 1e3 * statistics.median(float(s) for s, _ in found), 100, False)
    verdict("share of checkpoints in the time, %", 100 * statistics.median(kept) / OPTIONS.checkpoint_s, 2, is_least=False)


if __name__ == "__main__":
    main()
