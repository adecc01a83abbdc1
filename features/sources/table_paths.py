"""Which file a table means: names that are there as they stand or under an obvious other spelling, and what no spelling helps."""

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import normpath
from typing import NamedTuple
from urllib.parse import unquote

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, printable, verb

from .read_table import TextTable
from .spellings import nfc
from .walk import is_image_name, is_inside, join

_UP = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|$)")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:[/\\]|\\\\")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_FILE_URL = re.compile(r"file://(?:localhost)?(?=/)", re.IGNORECASE)
_TRIED = 20  # rows that are looked at to learn where the paths of another machine begin


class MeantPaths(NamedTuple):
    """Attributes:
    paths: one a row, relative to the table's folder.
    notes: what was read in another way than it stands.
    """

    paths: list[str]
    notes: list[str]


def meant_paths(table: TextTable, root: Path, values: Sequence[str]) -> MeantPaths:
    """The path of each row below `root`. A file that is not there under any spelling keeps the path that the table gives.

    Read are backslashes, names without extension or in other case where only one file fits, both Unicode forms, absolute paths
    below `root`, and those of another machine whose ends are here.

    Raises: HeadstartError naming the row whose path is empty, a URL, absolute and elsewhere, or leads out by '..'.
    """
    folders = _Folders(str(root))
    begin = _foreign_begin(values, folders)
    paths = [_relative(table, i, value, begin, folders) for i, value in enumerate(values)]
    other: list[int] = []
    for i, path in enumerate(paths):
        if not os.path.lexists(join(str(root), path)):
            spelling = folders.other_spelling(path)
            if spelling is not None:
                other.append(i)
                paths[i] = spelling
    notes = [f"paths begin with {printable(begin)}, which is taken for the table's folder"] if begin else []
    if other:
        first = other[0]
        notes.append(
            f"{plural(len(other), 'name')} {verb(len(other), 'are')} "
            f"there in another spelling, such as {printable(values[first])} as {printable(paths[first])}"
        )
    return MeantPaths(paths, notes)


def names_files(root: Path, values: Sequence[str]) -> bool:
    """Whether values of a column name files below `root`, in any spelling: the first few that are not empty."""
    folders = _Folders(str(root))
    some = [value for value in values if value.strip()][:_TRIED]
    return bool(some) and all(
        not _ABSOLUTE.match(value)
        and not _UP.search(value)
        and (there := folders.other_spelling(normpath(value))) is not None
        and not (root / there).is_dir()
        for value in some
    )


def where_it_is(root: Path, path: str) -> str:
    """Where the file that `path` means probably lies and what to do, as half a sentence; '' if none is like it."""
    folders = _Folders(str(root))
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    for cut in range(1, len(parts)):
        if there := folders.other_spelling("/".join(parts[cut:])):
            return f"{printable(there)} is there: cut what stands before it"
    *above, name = parts or [""]
    stem, _, ending = name.rpartition(".")
    if stem and (there := folders.other_spelling("/".join([*above, stem]))):
        return f"{printable(there)} is there: mend the ending"
    if there := folders.with_zeros("/".join(above), stem if stem and (not ending.strip("0") or is_image_name(name)) else name):
        return f"{printable(there)} is there: keep the zeros of the names, as text"
    for folder in folders.folders()[:_TRIED]:
        if there := folders.other_spelling(f"{folder}/{path}"):
            return f"{printable(there)} is there: write {printable(folder)}/ before the paths, or move the table into that folder"
    return ""


def _relative(table: TextTable, i: int, value: str, begin: str, folders: "_Folders") -> str:
    row = f"{table.name} row {table.row_numbers[i]}"
    if not value.strip() or "\0" in value:
        raise HeadstartError(f"{row} has {'a NUL in its' if value.strip() else 'no'} path. Fill it in, or delete the row.")
    if _FILE_URL.match(value):
        value = unquote(_FILE_URL.sub("", value), errors="surrogateescape")
    if _URL.match(value):
        raise HeadstartError(
            f"{row} names a URL, {printable(value)}; images are not downloaded. Download them, and name the files in the table."
        )
    if _UP.search(value):
        raise HeadstartError(
            f"{row}: path {printable(value)} leads out of the table's folder by '..'. Move the table above the images."
        )
    if not _ABSOLUTE.match(value):
        return normpath(value)
    if is_inside(normpath(value), folders.root):
        return normpath(os.path.relpath(value, folders.root))
    if begin and value.startswith(begin):
        return normpath(value[len(begin) :].replace("\\", "/").strip("/"))
    real = os.path.realpath(value)
    if is_inside(real, folders.root):
        return os.path.relpath(real, folders.root)
    raise HeadstartError(
        f"{row}: path {printable(value)} is absolute, and not below the table's folder; expected one relative to it. Move the "
        "table above the images, or cut what stands before."
    )


def _foreign_begin(values: Sequence[str], folders: "_Folders") -> str:
    """What absolute paths of another machine begin with, if their ends name files here; '' for none."""
    foreign = [value for value in values if _ABSOLUTE.match(value)][:_TRIED]
    for value in foreign:
        if os.path.lexists(value) or is_inside(normpath(value), folders.root):
            continue
        for cut in re.finditer(r"[/\\]+", value):
            end = value[cut.end() :]
            # A bare name proves nothing: another folder may have one like it.
            if (
                re.search(r"[/\\]", end)
                and not _UP.search(end)
                and folders.other_spelling(normpath(end.replace("\\", "/"))) is not None
            ):
                return value[: cut.end()]
    return ""


@dataclass
class _Listing:
    names: set[str] = field(default_factory=set)
    alike: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    stems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def fitting(self, name: str, may_lack_ending: bool) -> list[str]:
        return self.alike.get(_key(name)) or (self.stems.get(_key(name)) if may_lack_ending else None) or []


class _Folders:
    """Names in folders below a root, each listed once."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._listings: dict[str, _Listing] = {}

    def other_spelling(self, path: str) -> str | None:
        """The one file that `path` may mean, as it is spelled there; None if there is none, or more than one.

        Also where it stands in quotes, between blanks, or with `%20` in place of them.
        """
        there = self._spelled(path)
        if there is None and "%" in path:
            there = self._spelled(unquote(path))
        return there

    def with_zeros(self, folder: str, number: str) -> str | None:
        """The one image in `folder` whose name is `number` with zeros before it."""
        if not number.isdecimal():
            return None
        stems = self._listing(folder).stems
        names = [name for stem, its in stems.items() if stem.isdecimal() and int(stem) == int(number) for name in its]
        return "/".join([*([folder] if folder else []), names[0]]) if len(names) == 1 else None

    def folders(self) -> list[str]:
        """Those in the root that are not hidden."""
        names = (name for name in self._listing("").names if not name.startswith(".") and not is_image_name(name))
        return sorted(name for name in names if Path(self.root, name).is_dir())

    def _spelled(self, path: str) -> str | None:
        parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
        if "\0" in path or ".." in parts or not parts:
            return None
        here = ""
        for number, part in enumerate(parts):
            listing = self._listing(here)
            is_last = number == len(parts) - 1
            if part not in listing.names:
                fitting = listing.fitting(part, is_last) or listing.fitting(part.strip(" \t\"'"), is_last)
                if len(fitting) != 1:
                    return None
                part = fitting[0]  # noqa: PLW2901
            here = f"{here}/{part}" if here else part
        return here

    def _listing(self, folder: str) -> _Listing:
        if folder not in self._listings:
            listing = _Listing()
            with contextlib.suppress(OSError):  # no folder: nothing is there
                listing.names.update(os.listdir(join(self.root, folder)))
            for name in listing.names:
                listing.alike[_key(name)].append(name)
                if is_image_name(name):
                    listing.stems[_key(name.rpartition(".")[0])].append(name)
            self._listings[folder] = listing
        return self._listings[folder]


def _key(name: str) -> str:
    return nfc(name).casefold()
