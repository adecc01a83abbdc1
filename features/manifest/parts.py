"""One immutable part of a manifest: `part_0000.0-100000.<sha16>.csv`, one image a line.

The name carries the global rows (half open) and the digest, so that a part can be checked and placed without any other file.
Format: UTF-8 CSV, one header line, rows end in a single newline, fields escaped as in `text`, so no field holds a newline.
The first column tells the two formats apart: parts of format 1 begin with `path` and know no digests.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from headstart.features.sources.source import FIXED_COLUMNS, IMAGE_COLUMNS, Image
from headstart.pipeline import paths
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import FileSystem, environment_faults
from headstart.pipeline.text import printable, unescape

from .csv_lines import columns, fields, pieces
from .names import PART

_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a manifest.

    Attributes:
        image: as it was listed, or as a later revision has it.
        index: counts over all parts of the data set.
        retired: why it no longer counts, '' if it does.
    """

    image: Image
    index: int
    retired: str = ""


@dataclass(frozen=True, order=True)
class Part:
    """What a part's name says; nothing has been read."""

    number: int
    first_row: int
    rows: int
    digest: str
    path: Path

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class CheckedPart:
    """A part whose bytes fit its name.

    Attributes:
        fixed: the columns that it begins with, those of its format.
        columns: names of the rows' `extra`.
        starts: byte offset of each row and of the end, int64 (rows + 1,).
    """

    part: Part
    fixed: tuple[str, ...]
    columns: tuple[str, ...]
    starts: npt.NDArray[np.int64]

    def rows(self, start: int, stop: int) -> list[Row]:
        """Rows `start` to `stop` (half open, within this part). Raises: HeadstartError if there are fewer or the file is gone."""
        if not 0 <= start <= stop <= self.part.rows:
            raise HeadstartError(
                f"{_shown(self.part)} has rows 0 to {self.part.rows}, asked for {start} to {stop}. "
                "Delete the row of jobs_queue.csv that asks for them; the next enqueue adds what is missing."
            )
        index = self.part.first_row + start
        data = self._bytes(start, stop)
        return [self._row(index + i, values) for i, values in enumerate(fields(data))]

    def read_columns(self, start: int = 0, stop: int | None = None) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Rows column by column: IMAGE_COLUMNS by name, '' for those that an older format lacks, and the others by name."""
        stop = self.part.rows if stop is None else min(stop, self.part.rows)
        names = (*self.fixed, *self.columns)
        read = columns(self._bytes(start, stop), len(names))
        fixed = {name: [""] * (stop - start) for name in IMAGE_COLUMNS} | dict(zip(self.fixed, read, strict=False))
        return fixed, dict(zip(self.columns, read[len(self.fixed) :], strict=True))

    def _bytes(self, start: int, stop: int) -> bytes:
        begin, end = int(self.starts[start]), int(self.starts[stop])
        # Read, not mapped: a mapped file that somebody cuts off kills the process with SIGBUS.
        with _reading(self.part) as file:
            file.seek(begin)
            data = file.read(end - begin)
        if len(data) != end - begin:
            raise _damaged(self.part, "it became shorter while in use")
        return data

    def _row(self, index: int, values: list[str]) -> Row:
        known = dict(zip(self.fixed, values, strict=False))
        image = Image(
            path=unescape(known["path"]),
            label=unescape(known["label"]),
            split=known["split"],
            group=unescape(known["group"]),
            size=int(known["size"]),
            mtime_ns=int(known["mtime_ns"]),
            extra=tuple(map(unescape, values[len(self.fixed) :])),
            digest=known.get("image_digest", ""),
        )
        return Row(image, index)


def part_of(folder: Path, name: str) -> Part:
    """What `name` says about a part in `folder`. Raises: HeadstartError if it is no part's name, for example a path."""
    path = folder / name
    match = PART.fullmatch(name)
    if not match or int(match[3]) <= int(match[2]):
        raise HeadstartError(
            f"{printable(str(path))} is no part of a manifest; expected a name like part_0000.0-640.<16 hex>.csv. "
            "Delete the row of jobs_queue.csv that names it."
        )
    first, stop = int(match[2]), int(match[3])
    return Part(number=int(match[1]), first_row=first, rows=stop - first, digest=match[4], path=path)


def list_parts(folder: Path) -> tuple[Part, ...]:
    """The parts in `folder` in order. Raises: HeadstartError if one is missing or stands twice."""
    names = [name for name in paths.names(folder) if PART.fullmatch(name)] if paths.is_folder(folder) else []
    parts = sorted(part_of(folder, name) for name in names)
    row = 0
    for number, part in enumerate(parts):
        if part.number < number:
            raise HeadstartError(
                f"{printable(str(folder))} has two parts of number {part.number}: {parts[number - 1].name} and {part.name}. "
                "Delete the one that no job in jobs_queue.csv names."
            )
        if part.number > number or part.first_row != row:
            raise HeadstartError(
                f"{printable(str(folder))}: part_{number:04d} starting at row {row} is missing, found {part.name}. "
                "Restore it from a copy."
            )
        row += part.rows
    return tuple(parts)


def publish_part(files: FileSystem, folder: Path, extra_columns: Sequence[str], images: Iterable[tuple[Image, str]]) -> Part:
    """Writes images, each with its split, in the order given as the part after those in `folder`.

    Raises: TryLaterError if the disk is full; nothing is left then.
    """
    before = list_parts(folder)
    first_row = sum(part.rows for part in before)
    rows: Iterator[Sequence[str | int]] = (
        (i.digest, i.path, i.label, split, i.group, i.size, i.mtime_ns, "", "", "", *i.extra) for i, split in images
    )
    sha256, stop = hashlib.sha256(), first_row - 1  # a line of the header

    def data() -> Iterator[bytes]:
        nonlocal stop
        for piece in pieces([*IMAGE_COLUMNS, *extra_columns], rows):
            sha256.update(piece)
            stop += piece.count(b"\n")
            yield piece

    def name() -> str:
        return f"part_{len(before):04d}.{first_row}-{stop}.{sha256.hexdigest()[:16]}.csv"

    return part_of(folder, files.publish_by_pieces(folder, data(), name).name)


def check_part(part: Part) -> CheckedPart:
    """Reads all of `part` once to check it. Raises: HeadstartError naming it if it is not the file that was published."""
    digest = hashlib.sha256()
    ends = []
    position = 0
    with _reading(part) as file:
        header = file.readline()
        file.seek(0)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            ends.append(np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")).astype(np.int64) + (position + 1))
            position += len(chunk)
    if digest.hexdigest()[:16] != part.digest:
        raise _damaged(part, f"its sha256 begins with {digest.hexdigest()[:16]}")
    starts = np.concatenate(ends) if ends else np.zeros(0, np.int64)
    names = tuple(map(unescape, next(fields(header), [])))
    fixed = IMAGE_COLUMNS if names[:1] == IMAGE_COLUMNS[:1] else FIXED_COLUMNS
    if len(starts) != part.rows + 1 or names[: len(fixed)] != fixed:
        raise _damaged(part, f"it has {len(starts) - 1} rows and begins with {','.join(names[: len(fixed)])}")
    return CheckedPart(part=part, fixed=fixed, columns=names[len(fixed) :], starts=starts)


@contextlib.contextmanager
def _reading(part: Part) -> Iterator[BinaryIO]:
    try:
        with environment_faults(f"cannot read {_shown(part)}"), reading.opened(part.path, reading.TABLE_BYTES) as file:
            yield file
    except OSError as error:
        raise HeadstartError(f"{_shown(part)} cannot be read: {error.strerror}. Restore it from a copy.") from error


def _damaged(part: Part, difference: str) -> HeadstartError:
    return HeadstartError(
        f"{_shown(part)} was changed or cut off: {difference}. Restore it from a copy, or enqueue the data "
        "into a new workspace (-w DIR)."
    )


def _shown(part: Part) -> str:
    return printable(str(part.path))
