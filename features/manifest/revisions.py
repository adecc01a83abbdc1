"""What became of rows after their part was written: `revision_0003.20.<sha16>.csv`, one line a row that is no longer as there.

A revision is whole by itself: it holds every row that differs, and the one with the highest number counts. Earlier ones stay,
because trainings were begun on them. The name says how many rows are retired, so that `status` need not open the file.
"""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from headstart.features.sources.source import IMAGE_COLUMNS
from headstart.pipeline import paths
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import FileSystem, environment_faults
from headstart.pipeline.text import printable, unescape

from .csv_lines import columns, fields, written
from .names import REVISION

_HEADER = ("row", "retired", *IMAGE_COLUMNS)


@dataclass(frozen=True, order=True)
class Revision:
    """What a revision's name says; nothing has been read. Number 0 is no file: rows as their parts have them."""

    number: int
    retired: int
    digest: str
    path: Path


class RevisedRow(NamedTuple):
    """One row as it is now: why it no longer counts ('' if it does), IMAGE_COLUMNS and the revision's own columns in order."""

    retired: str
    fixed: tuple[str, ...]
    extra: tuple[str, ...]


@dataclass(frozen=True)
class RevisedRows:
    """The content of a revision.

    Attributes:
        columns: names of the rows' `extra`; from this revision on, columns that are not among them are no longer kept.
        rows: by number.
    """

    columns: tuple[str, ...]
    rows: Mapping[int, RevisedRow]


def list_revisions(folder: Path) -> list[Revision]:
    """The revisions in `folder`, oldest first. Raises: HeadstartError if one stands twice."""
    matches = [match for name in paths.names(folder) if (match := REVISION.fullmatch(name))] if paths.is_folder(folder) else []
    revisions = sorted(Revision(int(m[1]), int(m[2]), m[3], folder / m[0]) for m in matches)
    for one, two in pairwise(revisions):
        if one.number == two.number:
            raise HeadstartError(
                f"{printable(str(folder))} has two revisions of number {one.number}: {one.path.name} and {two.path.name}. "
                "Delete one of them and run the same enqueue again"
            )
    return revisions


def revision_of(folder: Path, number: int | None) -> Revision | None:
    """The revision of that number, the newest for None; None if there is none or `number` is 0.

    Raises: HeadstartError if the one asked for is gone.
    """
    revisions = [] if number == 0 else list_revisions(folder)
    if number is None:
        return revisions[-1] if revisions else None
    chosen = next((revision for revision in revisions if revision.number == number), None)
    if chosen is None and number:
        raise HeadstartError(f"{printable(str(folder))} no longer has revision {number}. Restore it from a copy")
    return chosen


def read_revision(revision: Revision) -> RevisedRows:
    """Raises: HeadstartError if it is not the file that was published."""
    shown = printable(str(revision.path))
    try:
        with environment_faults(f"cannot read {shown}"):
            data = reading.read(revision.path, reading.TABLE_BYTES)
    except OSError as error:
        raise HeadstartError(f"{shown} cannot be read: {error.strerror}. Restore it from a copy") from error
    damaged = f"{shown} was changed or cut off. Restore it from a copy, or delete it and run the same enqueue again"
    if hashlib.sha256(data).hexdigest()[:16] != revision.digest:
        raise HeadstartError(damaged)
    try:
        head, _, body = data.partition(b"\n")
        names = list(map(unescape, next(fields(head + b"\n"), [])))
        if tuple(names[: len(_HEADER)]) != _HEADER:
            raise HeadstartError(damaged)
        read = columns(body, len(names))
    except (ValueError, csv.Error):
        raise HeadstartError(damaged) from None
    fixed = list(zip(*read[2 : len(_HEADER)], strict=True))
    extra = list(zip(*read[len(_HEADER) :], strict=True)) or [()] * len(read[0])
    rows = {
        int(row): RevisedRow(retired, about, more)
        for row, retired, about, more in zip(read[0], read[1], fixed, extra, strict=True)
    }
    return RevisedRows(tuple(names[len(_HEADER) :]), rows)


def publish_revision(files: FileSystem, folder: Path, number: int, revised: RevisedRows) -> Revision:
    """Writes a revision, complete and durable. Raises: TryLaterError if the disk is full; nothing is left then."""
    lines: list[Sequence[str | int]] = [
        (row, state.retired, *state.fixed, *state.extra) for row, state in sorted(revised.rows.items())
    ]
    data = written([*_HEADER, *revised.columns], lines)
    retired = sum(bool(state.retired) for state in revised.rows.values())
    digest = hashlib.sha256(data).hexdigest()[:16]
    path = folder / f"revision_{number:04d}.{retired}.{digest}.csv"
    files.publish(path, data)
    return Revision(number, retired, digest, path)
