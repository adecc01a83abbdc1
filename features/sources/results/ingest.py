"""Results of vectorizer optimizers become one table: a row a result, and a counted reason for every entry that is none."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import secrets
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TextIO

from headstart.features.sources.walk import is_image_name
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.text import no_formula, one_line, printable

from .json_stream import JsonPath
from .optimizer_results import PARAMETERS, OptimizerResult, Refusal, place_in, read_entries

PATTERNS = ("optimization_*.json", "benchmark_*.json")
COLUMNS = ("image", "group", "logo_type", "method", "iteration", *PARAMETERS, "ssim", "results_file", "where")
# What repeats an entry of a history or a list beside it.
_SUMMARIES = ("best", "best_result", "final", "final_result")


@dataclass(frozen=True)
class Ingested:
    """What became of the entries of all files.

    Attributes:
        files: how many were read.
        rows: results in the table, each once.
        images: different ones among them.
        absent: how many of these are not in the folder of images; `enqueue` keeps their rows, and they fail until they are there.
        left_out: entries that are no row, by sort of reason.
    """

    files: int
    rows: int
    images: int
    absent: int
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class LeftOut:
    """An entry that is no row: the file as it was named, the place in it ('' for all of it), the sort of reason, and why."""

    file: str
    where: str
    sort: str
    why: str


@dataclass(frozen=True)
class IngestedRow:
    """A result whose image is relative to the folder of images, where it is known to be or expected."""

    file: str
    where: str
    result: OptimizerResult


def ingest_results(
    results: Sequence[Path],
    images: Path,
    out: Path | TextIO,
    left_out: Path | None = None,
    force: bool = False,
    report: Callable[[LeftOut], None] = lambda left_out: None,
) -> Ingested:
    """Makes one table of all results: a CSV with COLUMNS, in which `group` is the image, so that no split parts its rows.

    Args:
        results: JSON files, and folders in which those with a name of PATTERNS are searched.
        images: the folder that names of images are relative to.
        out: where the table goes. Names in it are relative to its folder if that holds `images`, else to `images`.
        left_out: where a CSV of the entries that are no row goes, with the reasons.
        force: replace files that are there.
        report: hears of each entry that is no row.

    Returns: counts. The files appear when all is read, or not at all.
    Raises: HeadstartError if there is nothing to read, or a file is in the way.
    """
    files = list_result_files(results)
    below = below_table(out, images) or "" if isinstance(out, Path) else ""
    with ExitStack() as stack:
        table = stack.enter_context(_written(out, force)) if isinstance(out, Path) else out
        reasons = csv.writer(stack.enter_context(_written(left_out, force)), lineterminator="\n") if left_out else None
        if reasons:
            reasons.writerow(["file", "where", "why"])
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        counts, is_there = Counter[str](), dict[str, bool]()
        rows = 0
        for row in read_rows(files, images):
            if isinstance(row, LeftOut):
                counts[row.sort] += 1
                report(row)
                if reasons:
                    reasons.writerow([no_formula(cell) for cell in (row.file, row.where, row.why)])
                continue
            said, image = row.result, f"{below}{row.result.image}"
            rows += 1
            if said.image not in is_there:
                is_there[said.image] = names_a_file(images / said.image)
            iteration = "" if said.iteration is None else said.iteration
            if no_formula(image) != image:
                image = f"./{image}"  # the same file
            logo_type, method, file, where = map(
                no_formula, (printable(said.logo_type), printable(said.method), row.file, row.where)
            )
            writer.writerow([image, image, logo_type, method, iteration, *said.parameters, said.ssim, file, where])
    return Ingested(len(files), rows, len(is_there), list(is_there.values()).count(False), counts)


def below_table(table: Path, images: Path) -> str | None:
    """What leads from the table's folder to the images ('' or ends with '/'); None if they are not below it."""
    try:
        between = images.resolve().relative_to(table.resolve().parent).as_posix()
    except ValueError:
        return None
    return "" if between == "." else f"{between}/"


@contextmanager
def _written(path: Path, force: bool) -> Iterator[TextIO]:
    """A text file that takes its name when it is complete."""
    if path.exists() and not (force and path.is_file()):
        raise HeadstartError(f"{path} exists. {'Pass --force to replace it' if path.is_file() else 'Name a file'}")
    if not path.absolute().parent.is_dir():
        raise HeadstartError(f"{path.absolute().parent} is no folder. Make it, or choose another place")
    try:
        with environment_faults(f"cannot write {path}"):
            temporary = path.absolute().parent / f".{path.name[:40]}.{secrets.token_hex(4)}"
            try:
                with open(temporary, "x", encoding="utf-8", newline="") as file:
                    yield file
                os.replace(temporary, path)
            finally:
                with suppress(OSError):
                    os.unlink(temporary)
    except OSError as error:
        raise HeadstartError(f"cannot write {path}: {error.strerror}. Choose another place") from None


def list_result_files(results: Sequence[Path]) -> list[tuple[str, Path]]:
    """Names for messages, and files: each that was named, and those in folders, sorted, none twice."""
    files: dict[str, tuple[str, Path]] = {}
    for given in results:
        if given.is_dir():
            matching = [
                Path(folder, name)
                for folder, _, names in os.walk(given)
                for name in names
                if any(fnmatch(name, pattern) for pattern in PATTERNS)
            ]
            if not matching:
                raise HeadstartError(
                    f"{given} has no file {' or '.join(PATTERNS)}. Name the files themselves if they are called otherwise"
                )
            named = [(path.relative_to(given).as_posix(), path) for path in sorted(matching)]
        elif given.exists():
            named = [(given.name, given)]
        else:
            raise HeadstartError(f"{given} does not exist. Give JSON files of an optimizer, or folders that hold some")
        for name, path in named:
            files.setdefault(os.path.realpath(path), (printable(name), path))
    return list(files.values())


def read_rows(files: Sequence[tuple[str, Path]], images: Path) -> Iterator[IngestedRow | LeftOut]:
    """Results and reasons in the order of the files; memory does not grow with their length.

    A result that stands somewhere a second time, or contradicts an earlier one, is left out and named with that one.
    """
    if not images.is_dir():
        raise HeadstartError(f"{images} is no folder. --images is the one that the results' names of images are relative to")
    names = _Names(images)
    with closing(_Seen()) as seen:
        for name, path in files:
            is_empty = True
            try:
                with environment_faults(f"cannot read {path}"), reading.opened_given(path) as file:
                    for place, entry in read_entries(file):
                        is_empty = False
                        yield _row(name, place, entry, names, seen)
            except (OSError, reading.UnreadableError) as error:
                why = getattr(error, "why", None) or getattr(error, "strerror", None) or str(error)
                yield LeftOut(name, "", "unreadable file", f"cannot be read: {why}")
            else:
                if is_empty:
                    yield LeftOut(name, "", "file without results", "holds no result")


def _row(name: str, path: JsonPath, entry: OptimizerResult | Refusal, names: _Names, seen: _Seen) -> IngestedRow | LeftOut:
    where = one_line(place_in(path))
    if isinstance(entry, Refusal):
        return LeftOut(name, where, entry.sort, one_line(entry.why))
    image = names.find(entry.image)
    if isinstance(image, Refusal):
        return LeftOut(name, where, image.sort, image.why)
    earlier = seen.note(image, entry, (name, path))
    if earlier is None:
        return IngestedRow(name, where, OptimizerResult(image, *_others(entry)))
    ssim, other_name, other_path = earlier
    if other_name != name:
        other = f"{other_name} {place_in(other_path)}".rstrip()
    else:
        other = place_in(other_path[len(path) - 1 :] if other_path[: len(path) - 1] == path[:-1] else other_path)
    other = one_line(other)
    if ssim != entry.ssim:
        return LeftOut(name, where, "conflict", f"conflicts with {other}: same image and parameters, another ssim")
    is_summary = bool(path) and path[-1] in _SUMMARIES
    what = "" if is_summary else " (same image, method, parameters and ssim)"
    return LeftOut(name, where, "duplicate", f"duplicate of {other}{what}: dropped, counted")


def _others(entry: OptimizerResult) -> tuple[tuple[int | float, ...], float, str, str, int | None]:
    return entry.parameters, entry.ssim, entry.logo_type, entry.method, entry.iteration


def names_a_file(path: Path) -> bool:
    """Whether a file is there. Not `Path.is_file`, which raises where a name is too long to be one."""
    return os.path.isfile(path)  # noqa: PTH113


class _Seen:
    """Results so far, in a temporary database: a history of millions does not fit into memory."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA temp_store = FILE")
        self._database.execute("PRAGMA cache_size = -32000")
        self._database.execute(
            "CREATE TABLE seen (key BLOB, method TEXT, ssim REAL, file TEXT, place TEXT, PRIMARY KEY (key, method)) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")

    def close(self) -> None:
        self._database.close()

    def note(self, image: str, entry: OptimizerResult, place: tuple[str, JsonPath]) -> tuple[float, str, JsonPath] | None:
        """The earlier result that this one repeats or contradicts; None if it is new."""
        key = hashlib.blake2b(repr((image, [float(value) for value in entry.parameters])).encode(), digest_size=16).digest()
        method = printable(entry.method)
        same = self._database.execute("SELECT ssim, method, file, place FROM seen WHERE key = ?", (key,)).fetchall()
        for ssim, other, file, path in sorted(same, key=lambda one: one[1] != method):
            if ssim != entry.ssim or other == method:
                return ssim, file, tuple(json.loads(path))
        self._database.execute(
            "INSERT INTO seen VALUES (?, ?, ?, ?, ?)", (key, method, entry.ssim, place[0], json.dumps(place[1]))
        )
        return None


class _Names:
    """Names of images as results have them, and where these lie below a folder."""

    def __init__(self, images: Path) -> None:
        self._images = images
        self._places: dict[str, str | Refusal] = {}
        self._by_name: dict[str, list[str]] | None = None

    def find(self, name: str) -> str | Refusal:
        """Relative to the folder; a name without folder may stand in any of its folders, if only in one."""
        if name not in self._places:
            self._places[name] = self._find(name)
        return self._places[name]

    def _find(self, name: str) -> str | Refusal:
        if printable(name) != name.replace("\\", "\\\\"):
            return Refusal("image not there", f"image {printable(name)} has control characters in its name")
        path = PureWindowsPath(name) if "\\" in name or name[1:3] == ":/" else PurePosixPath(name)
        parts = [part for part in PurePosixPath(os.path.normpath(path.as_posix())).parts if part not in ("/", "..")]
        is_outside = path.is_absolute() or bool(path.drive) or ".." in path.parts
        # The longest end of the name that is there: results are often made from another folder, or on another machine.
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            if names_a_file(self._images / tail):
                return tail
        if len(parts) == 1 and not is_outside:
            there = self._named(parts[0])
            if len(there) > 1:
                return Refusal(
                    "image not there", f"image {name} stands in {len(there)} folders of {self._images}: {', '.join(there[:3])}"
                )
            if there:
                return there[0]
        if is_outside or not parts:
            return Refusal("image not there", f"image {printable(name)} is not below {self._images}")
        return "/".join(parts)

    def _named(self, name: str) -> list[str]:
        if self._by_name is None:
            self._by_name = {}
            for folder, _, names in os.walk(self._images):
                for one in filter(is_image_name, names):
                    self._by_name.setdefault(one, []).append(Path(folder, one).relative_to(self._images).as_posix())
        return sorted(self._by_name.get(name, []))
