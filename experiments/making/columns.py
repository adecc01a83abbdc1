"""The items of a job as columns of one payload: numbers and arrays stacked, text as UTF-8 with where each ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.arrays import DTYPES, NamedArrays
from headstart.pipeline.errors import HeadstartError

ENDS = ".ends"  # of text: a name that no column of the user's can have


def as_columns(numbers: Sequence[int], made: Sequence[Mapping[str, Any]]) -> NamedArrays:
    """One array a name, an item a row, and `index`: their numbers.

    Raises: HeadstartError that names the item whose names, shape or type differ from the first one's, or a type that is not kept.
    """
    columns: NamedArrays = {"index": np.array(numbers, np.int64)}
    for name in made[0] if made else ():
        for number, one in zip(numbers, made, strict=True):
            if one.keys() != made[0].keys():
                raise HeadstartError(
                    f"item {number} has {', '.join(sorted(one))} and item {numbers[0]} {', '.join(sorted(made[0]))}. Give all "
                    "items the same names"
                )
        values = [one[name] for one in made]
        if all(isinstance(value, str) for value in values):
            parts = [value.encode("utf-8", "surrogatepass") for value in values]
            columns[name] = np.frombuffer(b"".join(parts), np.uint8)
            columns[name + ENDS] = np.cumsum([len(part) for part in parts], dtype=np.int64)
        else:
            columns[name] = _stacked(name, numbers, values)
    return columns


def _stacked(name: str, numbers: Sequence[int], values: Sequence[Any]) -> NDArray[Any]:
    arrays = [np.asarray(value) for value in values]
    first = arrays[0]
    if first.dtype.newbyteorder("<").str not in DTYPES:
        known = ", ".join(sorted(np.dtype(one).name for one in DTYPES))
        raise HeadstartError(f"'{name}' is {first.dtype}, expected text or one of {known}. Convert it, or write it as text")
    for number, array in zip(numbers, arrays, strict=True):
        if (array.dtype, array.shape) != (first.dtype, first.shape):
            raise HeadstartError(
                f"'{name}' of item {number} is {array.dtype} of shape {array.shape}, of item {numbers[0]} {first.dtype} of shape "
                f"{first.shape}. Pad it, or write it as text"
            )
    return np.ascontiguousarray(np.stack(arrays), first.dtype.newbyteorder("<"))


def texts(columns: Mapping[str, NDArray[Any]], name: str) -> list[str]:
    """A column of text, an item each."""
    data, ends = columns[name].tobytes(), columns[name + ENDS].tolist()
    return [data[begin:end].decode("utf-8", "surrogatepass") for begin, end in zip([0, *ends], ends, strict=False)]


def arrays_and_texts(columns: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Columns as arrays, and lists of text."""
    return {
        name: texts(columns, name) if name + ENDS in columns else column
        for name, column in columns.items()
        if not name.endswith(ENDS)
    }
