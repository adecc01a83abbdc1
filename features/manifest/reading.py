"""Reads the manifest of a data set: `features/manifests/<name>-<8 hex>/` with `dataset.json` and immutable parts.

Rows are only ever added. A changed image is added again: the last row of a path is the one that counts.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

from .parts import CheckedPart, Part, Row, check_part, list_parts, part_of

FORMAT = 1
DATASET_FILE = "dataset.json"


@dataclass(frozen=True)
class Dataset:
    """What `dataset.json` says: where the images lie and how they were read. Attributes as in `sources.source.Source`."""

    root: str
    layout: str
    file: str | None
    roles: dict[str, str]
    seed: int
    allow_symlinks: bool

    def encode(self) -> bytes:
        """The bytes of `dataset.json`."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n").encode()


@dataclass(frozen=True)
class Columns:
    """All rows of a manifest, column by column; item i is global row i.

    Attributes:
        path, label, split, group: text, '' for none.
        size, mtime_ns: int64 (rows,).
        extra: the table's other columns; '' where a part lacks one.
        latest: bool (rows,), False where a later row has the same path.
    """

    path: list[str]
    label: list[str]
    split: list[str]
    group: list[str]
    size: npt.NDArray[np.int64]
    mtime_ns: npt.NDArray[np.int64]
    extra: dict[str, list[str]]
    latest: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Manifest:
    """An opened manifest; parts are checked when they are first read, once per object."""

    folder: Path
    dataset: Dataset
    _checked_parts: dict[str, CheckedPart] = field(default_factory=dict, repr=False, compare=False)

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts in order, listed anew. Raises: HeadstartError if one is missing."""
        return list_parts(self.folder)

    def rows(self, part: str, start: int, stop: int) -> list[Row]:
        """Rows `start` to `stop` (half open) of the part of that file name. Raises: HeadstartError if it is damaged."""
        return self._checked(part_of(self.folder, part)).rows(start, stop)

    def read_all(self) -> Columns:
        """Every row of every part. Raises: HeadstartError if a part is missing or damaged."""
        opened = [self._checked(part) for part in self.parts]
        rows = [row for part in opened for row in part.rows(0, part.part.rows)]
        names = list(dict.fromkeys(name for part in opened for name in part.columns))
        extra: dict[str, list[str]] = {name: [""] * len(rows) for name in names}
        for part in opened:
            for row in rows[part.part.first_row : part.part.first_row + part.part.rows] if names else ():
                for name, value in zip(part.columns, row.extra, strict=True):
                    extra[name][row.index] = value
        last = {row.path: row.index for row in rows}
        latest = np.zeros(len(rows), np.bool_)
        latest[list(last.values())] = True
        return Columns(
            path=[row.path for row in rows],
            label=[row.label for row in rows],
            split=[row.split for row in rows],
            group=[row.group for row in rows],
            size=np.array([row.size for row in rows], np.int64),
            mtime_ns=np.array([row.mtime_ns for row in rows], np.int64),
            extra=extra,
            latest=latest,
        )

    def _checked(self, part: Part) -> CheckedPart:
        if part.name not in self._checked_parts:
            self._checked_parts[part.name] = check_part(part)
        return self._checked_parts[part.name]


def read_columns(folder: Path) -> Columns:
    """Every row of the manifest in `folder`. Raises as `open_manifest` and `Manifest.read_all`."""
    return open_manifest(folder).read_all()


def open_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`. Raises: HeadstartError if it is not there, damaged or newer."""
    path = folder / DATASET_FILE
    shown = printable(str(path))
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if facts["format"] > FORMAT:
            raise HeadstartError(
                f"{shown} has format {facts['format']}, this version reads up to {FORMAT}: pip install -U headstart"
            )
        dataset = Dataset(**{name: facts[name] for name in Dataset.__dataclass_fields__})
    except OSError as error:
        raise HeadstartError(
            f"{shown} cannot be read: {error.strerror}. Run the same enqueue again; it writes the file anew."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise HeadstartError(f"{shown} is damaged ({error!r}). Delete that one file and run the same enqueue again.") from None
    return Manifest(folder, dataset)
