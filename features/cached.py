"""Mapped features with labels, splits, groups and paths beside them: what heads train on. Reads rows, never the whole matrix."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

from .cache_parts import CachePart
from .cache_rows import CachedRows
from .dataset import Columns, read_columns


@dataclass(frozen=True)
class CachedFeatures:
    """n images with features, ordered by data set and manifest row; position i means the same image everywhere.

    Attributes:
        workspace, folder: whose features these are.
        rows: codes and row numbers.
        parts: mapped.
        selected: the data set whose rows alone were asked for, None if all were.
    """

    workspace: Workspace = field(repr=False)
    folder: Path
    rows: CachedRows = field(repr=False)
    parts: tuple[CachePart, ...] = field(repr=False)
    selected: str | None = None

    def __len__(self) -> int:
        return len(self.rows.index)

    @property
    def digest(self) -> str:
        """sha256 (hex): equal if and only if every position holds the same features and the same manifest row."""
        return self.rows.digest

    @property
    def embed_dim(self) -> int:
        return int(self.parts[0].features.shape[1])

    @property
    def coverage(self) -> str:
        """For people: on how many of how many images."""
        return f"{len(self):,} of {self.rows.images:,} images"

    @property
    def labels(self) -> NDArray[np.str_]:
        """(n,) str, '' for none; `splits` and `groups` likewise. `rows.label` has the same as codes."""
        return self.rows.label.values

    @property
    def splits(self) -> NDArray[np.str_]:
        return self.rows.split.values

    @property
    def groups(self) -> NDArray[np.str_]:
        return self.rows.group.values

    @property
    def paths(self) -> list[str]:
        """n paths relative to their data set's root, read from the manifest when asked for."""
        return self._from_manifest([columns.path for columns in self._columns])

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Names that `column` knows."""
        return tuple(dict.fromkeys(name for columns in self._columns for name in columns.extra))

    def column(self, name: str) -> list[str]:
        """n values of one of the table's other columns. Raises: HeadstartError if no data set has it."""
        if name not in self.extra_columns:
            known = ", ".join(self.extra_columns) or "none"
            raise HeadstartError(
                f"the manifest has no column {name!r}; it has: {known}. Add it to the table and enqueue that again"
            )
        return self._from_manifest([columns.extra.get(name) or [""] * len(columns.path) for columns in self._columns])

    def take(self, positions: NDArray[np.int64], out: NDArray[np.float16] | None = None) -> NDArray[np.float16]:
        """Features (k, d) of any positions, in that order; reads these rows only.

        Args:
            out: filled and returned instead of a new array; (k, d) float16, contiguous.
        """
        result = np.empty((len(positions), self.embed_dim), np.float16) if out is None else out
        physical = self.rows.physical[positions]
        if len(self.parts) == 1:
            # mode="clip": with "raise" numpy fills a buffer first and copies it; the rows are ours and in range.
            return np.take(self.parts[0].features, physical, axis=0, out=result, mode="clip")
        owner = np.searchsorted(self._ends, physical, side="right")
        for number in np.flatnonzero(np.bincount(owner)):  # np.unique would first import numpy.ma, for as long as a step takes
            mine = owner == number
            first = self._ends[number] - len(self.parts[number].index)
            result[mine] = self.parts[number].features[physical[mine] - first]
        return result

    def blocks(self, positions: NDArray[np.int64], size: int = 2048) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """`positions` in ascending order, `size` at a time: (k,) positions and their (k, d) features.

        That is nearly the order in which rows lie on disk, and unlike it the same however they lie: so are sums over blocks.
        """
        ordered = np.sort(positions)
        for start in range(0, len(ordered), size):
            chosen = ordered[start : start + size]
            yield chosen, self.take(chosen)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([len(part.index) for part in self.parts])

    @cached_property
    def _columns(self) -> list[Columns]:
        return [read_columns(self.workspace.root / name) for name in self.rows.datasets]

    def _from_manifest(self, values: list[list[str]]) -> list[str]:
        return [values[dataset][row] for dataset, row in zip(self.rows.dataset, self.rows.index, strict=True)]
