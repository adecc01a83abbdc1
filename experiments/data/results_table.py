"""A table with several results an image: what `headstart ingest` writes, as arrays; each image is named once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.features.sources.read_table import TextTable, read_table
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

_IMAGE_COLUMNS = ("image", "path", "image_path", "file", "file_name", "filename")


@dataclass(frozen=True)
class Results:
    """n results.

    Attributes:
        images: names, each once, in the order of their first result.
        image: (n,) which of these a result is of.
        values: (n, p) float32, what was done: the auxiliary columns.
        target: (n,) float32, what came of it.
        kinds: by column (`logo_type`, `method`), n texts; only of columns that are there.
    """

    images: tuple[str, ...]
    image: NDArray[np.int64]
    values: NDArray[np.float32]
    target: NDArray[np.float32]
    kinds: dict[str, NDArray[np.str_]]

    def __len__(self) -> int:
        return len(self.target)


def read_results(path: Path, target: str, auxiliary: Sequence[str], kinds: Sequence[str] = ()) -> Results:
    """The table at `path`. Args: target, auxiliary: columns of numbers; kinds: columns of texts, if they are there.

    Raises: HeadstartError if a column is missing, or a row has no number there: it is named.
    """
    table = read_table(path)
    names = _column(table, next((name for name in _IMAGE_COLUMNS if name in table.columns), _IMAGE_COLUMNS[0]))
    number_of: dict[str, int] = {}
    image = np.array([number_of.setdefault(name, len(number_of)) for name in names], np.int64)
    empty = next((row for row, name in zip(table.row_numbers, names, strict=True) if not name.strip()), None)
    if empty is not None:
        raise HeadstartError(f"{table.name} row {empty} names no image. Fill it in, or delete the row")
    values = np.stack([_numbers(table, name) for name in auxiliary], 1) if auxiliary else np.empty((len(names), 0), np.float32)
    said = {name: np.array(table.columns[name]) for name in kinds if name in table.columns}
    return Results(tuple(number_of), image, values, _numbers(table, target), said)


def _column(table: TextTable, name: str) -> list[str]:
    if name not in table.columns:
        near = difflib.get_close_matches(name, table.columns, 1)
        hint = f"Did you mean '{printable(near[0])}'?" if near else f"It has: {', '.join(map(printable, table.columns))}."
        raise HeadstartError(f"{table.name} has no column '{printable(name)}'. {hint}")
    return table.columns[name]


def _numbers(table: TextTable, name: str) -> NDArray[np.float32]:
    column = _column(table, name)
    numbers = np.empty(len(column), np.float32)
    for i, text in enumerate(column):
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not abs(number) < 1e30:
            raise HeadstartError(
                f"{table.name} row {table.row_numbers[i]}: column '{printable(name)}' is {printable(text[:60])!r}, expected a "
                "number. Mend the row, or delete it"
            )
        numbers[i] = number
    return numbers


def places_among(images: Sequence[str], paths: Sequence[str]) -> NDArray[np.int64]:
    """(len(images),) which of `paths` each is: the same, or the only one that ends with it or that it ends with; -1 for none.

    Tables are often made from another folder than the images are enqueued from.
    """
    exact = {path: number for number, path in enumerate(paths)}
    by_tail: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        for tail in _tails(path):
            by_tail.setdefault(tail, []).append(number)
    return np.array([_place(image, exact, by_tail) for image in images], np.int64)


def _place(image: str, exact: dict[str, int], by_tail: dict[str, list[int]]) -> int:
    if image in exact:
        return exact[image]
    candidates = by_tail.get(image, [])
    for tail in _tails(image):  # the longest first
        candidates = candidates or ([exact[tail]] if tail in exact else [])
    return candidates[0] if len(candidates) == 1 else -1


def _tails(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(1, len(parts))]
