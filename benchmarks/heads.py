"""Training many heads at once against one after the other, on synthetic features: python -m benchmarks.heads [quick]

50,000 x 1,280 float16, 10 classes. `loop` is the plain way with the matrix in memory: slices of shuffled float32 rows, torch.nn,
torch.optim, one configuration after the other; `DataLoader` reads the same rows one by one. Wall and CPU seconds of this process,
and the load of the machine, stand beside each figure: ratios mean something only where the load was the same.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from headstart.experiments.batches import Reader, TrainingData, scaling_of
from headstart.experiments.checkpoints import Checkpoints
from headstart.experiments.closed_form import fit_ridge_path, scores_of
from headstart.experiments.configurations import HeadConfig, TrainingOptions, default_ablation
from headstart.experiments.folds import cross_validate_ridge, group_folds
from headstart.experiments.plans import plan
from headstart.experiments.schedule import learning_rate_factor, row_order
from headstart.experiments.source import ArrayFeatures
from headstart.experiments.statistics import gather, standardization_from
from headstart.experiments.targets import class_targets
from headstart.experiments.trainer import Trainer
from headstart.experiments.training import train
from headstart.pipeline.files import FileSystem

SPREAD = 0.72  # of the noise around a class's mean


def synthetic(rows: int = 60_000, channels: int = 1280, classes: int = 10) -> TrainingData:
    """Linearly separable to about 77 %, a sixth of the rows for validation."""
    random = np.random.default_rng(0)
    codes = random.integers(0, classes, rows)
    means = random.standard_normal((classes, channels)).astype(np.float32) * 0.05
    features = np.empty((rows, channels), np.float16)
    for start in range(0, rows, 5000):
        block = slice(start, start + 5000)
        noise = random.standard_normal((len(codes[block]), channels), np.float32)
        features[block] = 1 + means[codes[block]] + SPREAD * noise
    train_rows, val_rows = np.split(np.arange(rows), [rows * 5 // 6])
    return TrainingData(ArrayFeatures(features), class_targets([f"{code}" for code in codes], train_rows), train_rows, val_rows)


def timed(name: str, action: Callable[[], Any]) -> tuple[Any, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = action()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:58} {wall:8.2f} s wall {cpu:8.2f} s CPU   load {os.getloadavg()[0]:.1f}", flush=True)
    return result, wall


def linear_heads(count: int) -> list[HeadConfig]:
    return [HeadConfig(name=f"linear {i}", learning_rate=float(rate)) for i, rate in enumerate(np.geomspace(3e-4, 3e-3, count))]


def one_after_the_other(data: TrainingData, heads: list[HeadConfig], options: TrainingOptions, from_loader: bool) -> list[float]:
    """The loss of the last epoch of each head."""
    import torch

    reader = Reader(data, scaling_of(data, standardization_from(data.source, data.train), False), options)
    rows, codes = reader.rows(data.train), torch.from_numpy(data.targets.codes[data.train])
    losses = []
    for head in heads:
        module = torch.nn.Linear(data.inputs, data.targets.outputs)
        optimizer = torch.optim.AdamW(module.parameters(), lr=head.learning_rate, weight_decay=head.weight_decay)
        steps, number = options.epochs * reader.steps_per_epoch, 0
        for epoch in range(options.epochs):
            total = 0.0
            if from_loader:
                batches = iter(torch.utils.data.DataLoader(_rows(data, reader), options.batch_size, shuffle=True))
            else:
                order = torch.from_numpy(row_order(len(data.train), 0, len(data.train), options.seed, epoch))
                batches = ((rows[part], codes[part]) for part in order.split(options.batch_size))
            for found, wanted in batches:
                for group in optimizer.param_groups:
                    group["lr"] = head.learning_rate * learning_rate_factor(number, steps, round(options.warmup * steps))
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(module(found), wanted)
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(found)
                number += 1
            losses.append(total / len(data.train))
    return losses[options.epochs - 1 :: options.epochs]


def _rows(data: TrainingData, reader: Reader) -> Any:
    """What people hand to a DataLoader: one cached row an item, standardized when it is asked for."""
    import torch

    class Rows(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(data.train)

        def __getitem__(self, item: int) -> Any:
            position = data.train[item]
            row = data.source.take(np.array([position]))[0].astype(np.float32)
            return (row - reader.scaling.mean) * reader.scaling.inverse_scale, int(data.targets.codes[position])

    return Rows()


def compare(data: TrainingData, count: int, epochs: int, loop_heads: int, from_loader: bool) -> None:
    heads, options = linear_heads(count), TrainingOptions(epochs=epochs)
    name = "DataLoader" if from_loader else "loop"
    ours, seconds = timed(f"{count} linear heads at once, {epochs} epochs", lambda: train(data, heads, options))
    losses, theirs = timed(
        f"{loop_heads} of {count}, one after the other, {name}",
        lambda: one_after_the_other(data, heads[:loop_heads], options, from_loader),
    )
    gap = max(abs(outcome.history[-1]["train_loss"] - loss) for outcome, loss in zip(ours, losses, strict=False))
    print(
        f"    {theirs * count / loop_heads / seconds:.1f} times faster than {name}; final losses differ by {gap:.1e}", flush=True
    )


def main() -> None:
    is_quick = "quick" in sys.argv[1:]
    data, _ = timed("make features", synthetic)
    import torch

    timed("import torch (done)", lambda: torch.zeros(1))
    size = 2048
    square = torch.randn(size, size)
    _, seconds = timed("20 products 2048 x 2048", lambda: [square @ square for _ in range(20)])
    print(f"    {20 * 2 * size**3 / seconds / 1e9:.0f} GFLOP/s", flush=True)
    epochs = 1 if is_quick else 2
    compare(data, 3, epochs, 3, from_loader=False)
    compare(data, 30, epochs, 2 if is_quick else 6, from_loader=False)
    compare(data, 3, 1, 1, from_loader=True)
    penalties = list(np.geomspace(1e-4, 10, 12))

    def ridge() -> None:
        statistics = gather(data.source, data.targets, {"train": data.train})["train"]
        found = scores_of(data.source, data.val, fit_ridge_path(statistics, penalties))
        best = max(float((scores.argmax(axis=1) == data.targets.codes[data.val]).mean()) for scores in found)
        print(f"    best ridge {best:.4f}")

    timed("12 ridge penalties with validation", ridge)
    timed("one ridge fit", lambda: fit_ridge_path(gather(data.source, data.targets, {"t": data.train})["t"], [0.1]))
    folds = group_folds([""] * len(data.train), 5)
    timed("5-fold cross-validation of ridge", lambda: cross_validate_ridge(data.source, data.targets, data.train, folds, [0.1]))
    with tempfile.TemporaryDirectory() as folder:
        keeper = Checkpoints(Path(folder), FileSystem())
        options = TrainingOptions(epochs=1 if is_quick else 10)
        outcomes, _ = timed(
            f"default ablation, {options.epochs} epochs", lambda: train(data, default_ablation(), options, keeper)
        )
        print("    " + ", ".join(f"{outcome.head.config.name} {outcome.best_score:.4f}" for outcome in outcomes))
        # One state as that run keeps it, and the way back: what a resumed process does after its imports.
        trainer = Trainer(data, default_ablation(), options)
        timed("keep a state", lambda: keeper.keep(1, trainer.identity, trainer.state()))
        trainer.epoch, trainer.batch = options.epochs - 1, 64
        keeper.keep(10**6, trainer.identity, trainer.state())

        def first_batch() -> None:
            planned = plan(data, default_ablation(), options)
            resumed = Trainer(data, default_ablation(), options, planned, keeper.latest(planned.identity))
            next(resumed.reader.chunks(resumed.epoch, resumed.batch))

        timed("resume in the last epoch, to its first batches", first_batch)


if __name__ == "__main__":
    main()
