"""Linear heads at once against one after the other: python -m benchmarks.heads [ROUNDS]

50,000 x 1,280 float16 and 10,000 rows for validation, 10 classes, batch 128, AdamW, warm-up and cosine; 10 epochs, as many as
`train-head` makes unless told otherwise, of Headstart, which also standardizes and validates, and of the loops, which need not.
`slices` are of a shuffled matrix of standardized float32 rows in memory; `DataLoader` takes float16 rows item by item, from a
matrix in memory or from HDF5, in no or in two further processes. Loops are timed on one configuration and multiplied: they do the
same for each. All begin with the same weights and see the rows in the same order. Medians of 3 rounds in which all take turns.
About 5 minutes on two quiet cores.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np

from headstart.experiments.config import HeadConfig, TrainingOptions
from headstart.experiments.data.statistics import standardization_from
from headstart.experiments.data.training_data import TrainingData, scaling_of
from headstart.experiments.heads.batches import BatchReader
from headstart.experiments.heads.parameters import Parameters
from headstart.experiments.heads.trainer import train
from headstart.experiments.training.schedule import learning_rate_factor, row_order

from .synthetic import medians, seconds_of, synthetic, verdict

OPTIONS = TrainingOptions()


def linear_heads(count: int) -> list[HeadConfig]:
    return [HeadConfig(name=f"linear {i}", learning_rate=float(rate)) for i, rate in enumerate(np.geomspace(3e-4, 3e-3, count))]


class Loop:
    """The plain way to train one linear head."""

    def __init__(self, data: TrainingData) -> None:
        import torch

        self.data, self.last_loss = data, float("nan")
        self.reader = BatchReader(data, scaling_of(data, standardization_from(data.source, data.train), False), OPTIONS)
        self.rows, self.codes = self.reader.rows(data.train), torch.from_numpy(data.targets.codes[data.train])
        self.half = torch.from_numpy(data.source.take(data.train))

    def by_slices(self, head: HeadConfig) -> None:
        import torch

        def batches(epoch: int) -> Iterable[Any]:
            order = torch.from_numpy(row_order(len(self.codes), 0, len(self.codes), OPTIONS.seed, epoch))
            return ((self.rows[part], self.codes[part]) for part in order.split(OPTIONS.batch_size))

        self._train(head, batches)

    def by_loader(self, head: HeadConfig, workers: int, file: Path | None = None) -> None:
        import torch

        half, codes, scaling = self.half, self.codes, self.reader.scaling
        mean, inverse_scale = torch.from_numpy(scaling.mean), torch.from_numpy(scaling.inverse_scale)

        class Rows(torch.utils.data.Dataset[Any]):
            def __len__(self) -> int:
                return len(codes)

            def __getitem__(self, item: int) -> Any:
                return half[item], codes[item]

        class FileRows(Rows):
            rows: Any = None

            def __getitem__(self, item: int) -> Any:
                if self.rows is None:  # in the process that reads: a file must not be shared with a child
                    self.rows = h5py.File(file)["features"]
                return self.rows[item], codes[item]

        def batches(epoch: int) -> Iterable[Any]:
            order = row_order(len(codes), 0, len(codes), OPTIONS.seed, epoch).tolist()
            rows = FileRows() if file else Rows()
            loader = torch.utils.data.DataLoader(rows, OPTIONS.batch_size, sampler=order, num_workers=workers)
            return (((found.float() - mean) * inverse_scale, wanted) for found, wanted in loader)

        self._train(head, batches)

    def _train(self, head: HeadConfig, batches: Any) -> None:
        import torch

        module = torch.nn.Linear(self.data.inputs, self.data.targets.outputs)
        start = Parameters([head], self.data.inputs, self.data.targets.outputs, "cpu")
        with torch.no_grad():
            for parameter, block in zip(module.parameters(), start.views(start.values, 0), strict=True):
                parameter.copy_(block.view(parameter.shape))
        optimizer = torch.optim.AdamW(module.parameters(), lr=head.learning_rate, weight_decay=head.decay)
        steps, number = OPTIONS.epochs * self.reader.steps_per_epoch, 0
        for epoch in range(OPTIONS.epochs):
            total = 0.0
            for found, wanted in batches(epoch):
                for group in optimizer.param_groups:
                    group["lr"] = head.learning_rate * learning_rate_factor(number, steps, round(OPTIONS.warmup * steps))
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(module(found), wanted)
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(found)
                number += 1
            self.last_loss = total / len(self.codes)


def peak_gflops(size: int = 2048) -> float:
    """Of matrix products in float32, with all cores."""
    import torch

    square = torch.randn(size, size)
    return 2 * size**3 / min(seconds_of(lambda: square @ square) for _ in range(5)) / 1e9


def main() -> None:
    import torch

    rounds = int((sys.argv[1:] or ["3"])[0])
    data = synthetic()
    loop, three, thirty = Loop(data), linear_heads(3), linear_heads(30)
    outcomes: dict[int, Any] = {}
    peak = peak_gflops()
    train(data, three, TrainingOptions(epochs=1))  # what is only slow the first time
    with TemporaryDirectory() as folder:
        file = Path(folder) / "features.h5"
        with h5py.File(file, "w") as made:
            made["features"] = loop.half.numpy()
        found = medians(
            {
                "3 heads at once": lambda: outcomes.update({3: train(data, three, OPTIONS)}),
                "30 heads at once": lambda: outcomes.update({30: train(data, thirty, OPTIONS)}),
                "one head, slices": lambda: loop.by_slices(three[0]),
                "one head, DataLoader": lambda: loop.by_loader(three[0], workers=0),
                "one head, DataLoader with 2 processes": lambda: loop.by_loader(three[0], workers=2),
                "one head, DataLoader of HDF5": lambda: loop.by_loader(three[0], workers=0, file=file),
                "one head, DataLoader of HDF5 with 2 processes": lambda: loop.by_loader(three[0], workers=2, file=file),
            },
            rounds,
        )
    gap = abs(outcomes[3][0].history[-1]["train_loss"] - loop.last_loss)
    peak = max(peak, peak_gflops())
    products = 2 * 2 * OPTIONS.epochs * len(data.train) + 2 * OPTIONS.epochs * len(data.val)
    for count, least_loader, least_slices in ((3, 25, 3), (30, 60, 6)):
        ours = found[f"{count} heads at once"]
        work = products * data.inputs * count * data.targets.outputs / 1e9
        print(f"\n{count} heads compute at {work / ours:.0f} GFLOP/s. Large matrix products reach {peak:.0f} with "
              f"{torch.get_num_threads()} threads: {work / peak:.2f} s for these alone")  # fmt: skip
        for loop_name, seconds in found.items():
            if loop_name.startswith("one head, "):
                least = least_slices if loop_name.endswith("slices") else least_loader
                verdict(f"{count} times {loop_name}", count * seconds / ours, least)
    verdict("difference of the final losses, in thousandths", gap * 1e3, 1, is_least=False)


if __name__ == "__main__":
    main()
