"""What the loop costs beside a plain hand-written one on the same batches of `classify`, its checkpoints, and a resume.

python -m benchmarks.recipe_price [DATA] [STEPS] [ROUNDS]     DATA: a folder of class folders, '' for made ones

30 steps and 7 rounds unless said otherwise, on one thread and without data workers. Each round runs both loops, in turn the one
and the other first; the ratio is the median of the rounds' ratios.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.recipe_kills import photos
from headstart.experiments.recipes import classify
from headstart.experiments.training.conduct import Conduct
from headstart.experiments.training.loop import Loop
from headstart.experiments.training.options import options_from
from headstart.experiments.training.state.checkpoints import Checkpoints
from headstart.pipeline.files import FileSystem
from headstart.pipeline.workspace import open_or_create_workspace, open_workspace

IDENTITY = "price"
OPTIONS = {"encoder": "resnet10t", "image_size": 64, "threads": 1}
EVERY = 250  # steps between checkpoints, as --save-every is used


def splits_of(root: Path, options: classify.Options):
    return classify.data(options, open_workspace(root))


def plain(loop: Loop, steps: int) -> None:
    """Same rows, same model, AdamW, nothing else."""
    model = classify.model(loop.options, loop.about).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        batch = loop.splits.train.batch(loop.order.rows(step), loop.order.epoch_key(step))
        F.cross_entropy(model(batch.image), batch.label).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def cpu_seconds(action: Callable[[], object]) -> float:
    begun = time.process_time()
    action()
    return time.process_time() - begun


def against_plain(root: Path, data: str, steps: int, rounds: int) -> str:
    """The loop's judging is left out of its time by judging one row once; a plain loop has none."""
    options = options_from(
        classify.Options,
        {**OPTIONS, "data": data, "max_steps": steps, "evaluate_every": 10**9, "evaluate_rows": 1, "epochs": 1000},
    )
    splits = splits_of(root, options)
    ratios, ours = [], []
    for number in range(rounds + 1):
        loop = Loop(classify, options, splits, Conduct(data_workers=0))
        actions = {"plain": lambda loop=loop: plain(loop, steps), "loop": lambda loop=loop: loop.run(None, IDENTITY)}
        took = {name: cpu_seconds(actions[name]) for name in sorted(actions, reverse=number % 2 == 0)}
        if number:  # the first round warms up
            ratios.append(took["loop"] / took["plain"])
            ours.append(took["loop"] / steps)
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    return (
        f"loop against plain loop: {middle - 1:+.1%} (rounds {low - 1:+.1%} to {high - 1:+.1%}), "
        f"{statistics.median(ours):.4f} s of CPU a step"
    )


def checkpoints(root: Path, data: str, folder: Path, rounds: int) -> str:
    """By the clock: writing waits for the disk."""
    options = options_from(classify.Options, {**OPTIONS, "data": data, "max_steps": 6, "epochs": 1000, "evaluate_rows": 64})
    loop = Loop(classify, options, splits_of(root, options), Conduct(data_workers=0))
    begun = time.monotonic()
    loop.run(None, IDENTITY)
    a_step = (time.monotonic() - begun) / 6
    keeper, took = Checkpoints(folder, FileSystem()), []
    for number in range(rounds):
        loop.progress.step += 1
        begun = time.monotonic()
        keeper.keep(number, IDENTITY, loop.state())
        took.append(time.monotonic() - begun)
    middle = statistics.median(took)
    size = max(path.stat().st_size for path in folder.glob("step_*.pt"))
    return f"a checkpoint of {size / 1e6:.0f} MB: {middle:.3f} s, {middle / (EVERY * a_step):.2%} of {EVERY} steps"


def resume(root: Path, data: str, folder: Path, steps: int) -> str:
    """A process of its own: seconds from the end of its imports to the end of the first step, 90 % into a training."""
    values = {**OPTIONS, "data": data, "max_steps": steps, "epochs": steps, "evaluate_rows": 64}
    options = options_from(classify.Options, values)
    loop = Loop(
        classify, options_from(classify.Options, {**values, "max_steps": 1}), splits_of(root, options), Conduct(data_workers=0)
    )
    loop.run(None, IDENTITY)
    [entry] = loop.progress.history
    at = steps * 9 // 10
    loop.progress.step = at
    loop.progress.history = [{**entry, "step": at * number // 1000} for number in range(1, 1001)]
    Checkpoints(folder, FileSystem()).keep(at, IDENTITY, loop.state())
    command = [sys.executable, "-m", "benchmarks.recipe_price", "--resume", str(root), str(folder), json.dumps(values)]
    took = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)]
    return f"first step after a resume at step {at:,} of {steps:,}: {statistics.median(took):.2f} s after the imports"


def first_step(root: Path, folder: Path, values: dict[str, object]) -> None:
    begun = time.monotonic()
    options = options_from(classify.Options, values)
    splits = splits_of(root, options)
    loop = Loop(classify, options, splits, Conduct(data_workers=0), Checkpoints(folder, FileSystem()).latest(IDENTITY))

    class Stopwatch:
        def stepped(self, taken: object) -> None:
            print(time.monotonic() - begun, flush=True)
            raise SystemExit

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *arguments: None

    loop.run(None, IDENTITY, listeners=[Stopwatch()])


def main() -> None:
    if sys.argv[1:2] == ["--resume"]:
        first_step(Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))
        return
    data, steps, rounds = (*sys.argv[1:], *("", "30", "7")[len(sys.argv) - 1 :])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace = open_or_create_workspace(folder / "workspace").root
        data = data or str(photos(folder / "photos", 500))
        print(against_plain(workspace, data, int(steps), int(rounds)), flush=True)
        print(checkpoints(workspace, data, folder / "states", int(rounds)), flush=True)
        for length in (1_000, 1_000_000):
            print(resume(workspace, data, folder / f"states-{length}", length), flush=True)


if __name__ == "__main__":
    main()
