"""What a step sees: rows as named tensors, and random numbers that belong to the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.features.accelerators import of_a_batch
from headstart.pipeline.errors import HeadstartError

from .keys import Key

if TYPE_CHECKING:
    from torch import Tensor


class Facts(Mapping[str, Any]):
    """Named facts, ready for JSON: `facts.classes` and `facts["classes"]` are the same."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"there is no fact '{name}' here; there are {', '.join(self._values) or 'none'}") from None

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Batch:
    """Rows as named columns: `batch.image` is a tensor (rows, ...), or a list with one entry a row.

    Args:
        columns: by name, all of one length.
        weight: (rows,) what each row counts for in a mean loss, such as the points of a line; None: all the same.
    """

    def __init__(self, columns: Mapping[str, Any], weight: Tensor | None = None, broken: Mapping[int, str] | None = None) -> None:
        self.columns = dict(columns)
        self.weight = weight
        self.broken = dict(broken or {})
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise HeadstartError(f"a batch has columns of different lengths: {lengths}. Give each one entry a row")
        self._rows = next(iter(lengths.values()), 0)

    def __getattr__(self, name: str) -> Any:
        columns = self.__dict__.get("columns", {})
        if name in columns:
            return columns[name]
        raise AttributeError(f"a batch has no '{name}', it has {', '.join(columns)}")

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, rows: slice) -> Batch:
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Batch(columns, None if self.weight is None else self.weight[rows], self.broken)

    def to(self, device: str) -> Batch:
        """The same with its tensors on `device`; float64 becomes float32 where that has none."""
        if device == "cpu":
            return self
        columns = {name: of_a_batch(column, device) if hasattr(column, "to") else column for name, column in self.columns.items()}
        return Batch(columns, self.weight, self.broken)

    def share_of(self, whole: Batch) -> float:
        """What these rows count for in the mean over those of `whole`."""
        if self.weight is None or whole.weight is None:
            return len(self) / len(whole)
        return float(self.weight.sum()) / float(whole.weight.sum())


def collate(items: Sequence[Mapping[str, Any]], broken: Mapping[int, str] | None = None) -> Batch:
    """Items of equal shapes as one batch: arrays and numbers are stacked, everything else is a list.

    Raises: HeadstartError if their shapes differ.
    """
    import torch

    columns: dict[str, Any] = {}
    for name in items[0] if items else ():
        values = [item[name] for item in items]
        if isinstance(values[0], str | bytes | list | tuple | dict) or values[0] is None:
            columns[name] = values
            continue
        tensors = [value if isinstance(value, torch.Tensor) else torch.tensor(np.asarray(value)) for value in values]
        shapes = {tuple(tensor.shape) for tensor in tensors}
        if len(shapes) > 1:
            shown = ", ".join(map(str, sorted(shapes)[:3]))
            raise HeadstartError(
                f"items have '{name}' of different shapes ({shown}) and make no batch. Resize or pad them in the data set, or "
                "let it make its batches itself: a method batch(rows, key)"
            )
        columns[name] = torch.stack(tensors)
    return Batch(columns, broken=broken)


@dataclass(frozen=True)
class Step:
    """Where a batch stands in a training, and the random numbers that belong there.

    What is drawn is drawn for the whole batch of the step and then cut, so that a step done in smaller pieces sees the same.

    Attributes:
        number: optimizer steps made before; in an evaluation as many batches of it.
        epoch: from 0; -1 in an evaluation.
        options: the recipe's.
        about: what the data said about itself.
        device: where drawn tensors are put.
    """

    number: int
    epoch: int
    options: Any
    about: Facts
    key: Key
    device: str = "cpu"
    rows: int = 0
    start: int = 0
    stop: int = 0
    _drawn: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_training(self) -> bool:
        return self.epoch >= 0

    def part(self, start: int, stop: int) -> Step:
        """The same for rows `start` to `stop` of the batch."""
        return replace(self, start=start, stop=stop, _drawn=self._drawn)

    def normal(self, name: str, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers for the rows in hand, float32. Args: shape: its first number is that of rows."""
        import torch

        return self._cut("normal", name, shape, lambda whole, draw: torch.randn(whole, generator=draw))

    def uniform(self, name: str, shape: int | Sequence[int]) -> Tensor:
        """Numbers from [0, 1), as `normal`; a single number is that of rows."""
        import torch

        return self._cut("uniform", name, shape, lambda whole, draw: torch.rand(whole, generator=draw))

    def integers(self, name: str, low: int, high: int, shape: int | Sequence[int]) -> Tensor:
        """Whole numbers from `low` to below `high`, int64, as `uniform`."""
        import torch

        return self._cut("integers", name, shape, lambda whole, draw: torch.randint(low, high, whole, generator=draw))

    def _cut(self, kind: str, name: str, shape: int | Sequence[int], draw: Any) -> Tensor:
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        if sizes[0] != self.stop - self.start:
            raise HeadstartError(f"step.{kind}('{name}', {sizes}): the first number must be len(batch), {self.stop - self.start}")
        place = (kind, name, sizes[1:])
        if place not in self._drawn:
            self._drawn[place] = draw((self.rows, *sizes[1:]), self.key.of(kind, name).torch())
        drawn: Tensor = self._drawn[place][self.start : self.stop]
        return drawn.to(self.device)
