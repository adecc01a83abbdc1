"""What the loop costs beside a plain hand-written one: seconds a step of `classify` on the same batches, and of its checkpoints.

python -m benchmarks.recipe_price DATA [STEPS]       DATA: a folder of class folders; on one thread, both in turn, three times
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from headstart.experiments.recipes import classify
from headstart.experiments.training.checkpoints import Checkpoints
from headstart.experiments.training.conduct import Conduct
from headstart.experiments.training.loop import Loop
from headstart.experiments.training.options import options_from
from headstart.pipeline.files import FileSystem
from headstart.pipeline.workspace import open_or_create_workspace

ROUNDS = 3


def plain(loop: Loop, steps: int) -> float:
    """Seconds of CPU time a step: same rows, same model, AdamW, nothing else."""
    model = classify.model(loop.options, loop.about).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    begun = time.process_time()
    for step in range(steps):
        batch = loop.splits.train.batch(loop.order.rows(step), loop.order.epoch_key(step))
        F.cross_entropy(model(batch.image), batch.label).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (time.process_time() - begun) / steps


def ours(loop: Loop, keeper: Checkpoints | None) -> float:
    begun = time.process_time()
    loop.run(keeper, "price")
    return (time.process_time() - begun) / loop.steps


def main() -> None:
    data, steps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        workspace = open_or_create_workspace(Path(name) / "workspace")
        values = {"data": data, "encoder": "resnet10t", "max_steps": steps, "evaluate_every": 10**9, "threads": 1}
        options = options_from(classify.Options, {**values, "evaluate_rows": 1})
        splits = classify.data(options, workspace)
        took: dict[str, list[float]] = {"plain": [], "loop": [], "with a checkpoint every 10 steps": []}
        for number in range(ROUNDS):
            fresh = Loop(classify, options, splits, Conduct(data_workers=0))
            took["plain"].append(plain(fresh, steps))
            took["loop"].append(ours(fresh, None))
            keeper = Checkpoints(Path(name) / f"states-{number}", FileSystem())
            saving = Loop(classify, options, splits, Conduct(data_workers=0, save_every=10))
            took["with a checkpoint every 10 steps"].append(ours(saving, keeper))
        least = min(took["plain"])
        for what, seconds in took.items():
            best, middle = min(seconds), statistics.median(seconds)
            print(f"{what}: {best:.4f} s of CPU a step (median {middle:.4f}), {best / least - 1:+.1%}")


if __name__ == "__main__":
    main()
