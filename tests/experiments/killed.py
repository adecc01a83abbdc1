"""Trains in children that are killed at chosen events, then to the end; prints what came out. Run by test_checkpoints.

python -m tests.experiments.killed FOLDER EVENT...
"""

import json
import os
import signal
import sys
from pathlib import Path

from headstart.experiments.config import HeadConfig, TrainingOptions
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.heads.trainer import train
from headstart.experiments.training.state.checkpoints import Checkpoints
from headstart.pipeline.files import FileSystem

from .samples import clouds

HEADS = [
    HeadConfig(name="linear", learning_rate=0.01),
    HeadConfig(name="normed", hidden=(24, 8), batch_norm=True, dropout=0.3, noise=0.2, mixup=0.3),
    HeadConfig(name="stops", hidden=(64,), learning_rate=0.1, optimizer="sgd", clip_norm=0.5),
]
OPTIONS = TrainingOptions(epochs=6, batch_size=32, accumulation=2, patience=2, monitor="loss", checkpoint_s=0)
POINTS = ("fsync", "link", "unlink", "open")


def data() -> TrainingData:
    made = clouds(5000)
    return TrainingData(made.source, made.targets, made.train, made.val)


def outcome_of(folder: Path, check=lambda: None) -> str:
    outcomes = train(data(), HEADS, OPTIONS, Checkpoints(folder, FileSystem()), check)
    return json.dumps([[outcome.head.digest, outcome.best_epoch, outcome.history] for outcome in outcomes])


def watched(action, tick):
    """`action`, with a call of `tick` before and after it."""

    def both(*arguments, **options):
        tick()
        result = action(*arguments, **options)
        tick()
        return result

    return both


def fatal_tick(event: int):
    """A function that ends this process when it is called for the `event`-th time."""
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count == event:
            os.kill(os.getpid(), signal.SIGKILL)

    return tick


def kill_at(event: int):
    """Counts chunks and every step of publishing a file; at that one this process is gone, before or after it happened."""
    tick = fatal_tick(event)
    for name in POINTS[:3]:
        setattr(os, name, watched(getattr(os, name), tick))
    return tick


def main() -> None:
    folder = Path(sys.argv[1])
    deaths = 0
    for event in map(int, sys.argv[2:]):
        child = os.fork()
        if child == 0:
            outcome_of(folder, kill_at(event))
            os._exit(0)
        deaths += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    child = os.fork()
    if child == 0:  # to the end in a child as well: this process never starts a thread, so that forking stays safe
        (folder.parent / f"{folder.name}.json").write_text(outcome_of(folder))
        os._exit(0)
    os.waitpid(child, 0)
    print(json.dumps([deaths, (folder.parent / f"{folder.name}.json").read_text()]))


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    main()
