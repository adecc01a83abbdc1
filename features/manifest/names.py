"""What the names of a manifest's files say, without opening one: `status` counts rows by them. Imports no numpy."""

import re
from pathlib import Path
from typing import NamedTuple

from headstart.pipeline import paths

PART = re.compile(r"part_(\d{4,9})\.(\d{1,18})-(\d{1,18})\.([0-9a-f]{16})\.csv")
REVISION = re.compile(r"revision_(\d{4,9})\.(\d{1,18})\.([0-9a-f]{16})\.csv")


def rows_of_part(name: str) -> int | None:
    """How many rows a part has by its name; None if that is no part's name."""
    match = PART.fullmatch(name)
    return int(match[3]) - int(match[2]) if match else None


class RowCounts(NamedTuple):
    """How many rows a data set has, and how many of them are retired."""

    rows: int
    retired: int


def count_rows(folder: Path) -> RowCounts:
    """Of the manifest in `folder`, by the names of its files alone."""
    names = paths.names(folder) if paths.is_folder(folder) else []
    rows = max((int(match[3]) for name in names if (match := PART.fullmatch(name))), default=0)
    newest = max(((int(match[1]), int(match[2])) for name in names if (match := REVISION.fullmatch(name))), default=(0, 0))
    return RowCounts(rows, newest[1])
