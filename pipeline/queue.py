"""The list of jobs: an append-only CSV that says what is to be done. What is done, the files say."""

import os
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader, RawIOBase, TextIOWrapper
from itertools import chain, groupby
from typing import Any

from . import paths
from .blocks import Span
from .doors import reading
from .errors import HeadstartError
from .files import environment_faults
from .job import Job, is_job_id, is_plain_path, job_id_of
from .retire import REMOVED, Withdrawal, Withdrawn, read_withdrawn
from .workspace import Workspace

HEADER = ",".join(Job._fields)
LARGEST_GAP = 10_000_000  # between two numbers that follow one another
LONGEST_LINE = 1 << 16
_READ_AT_ONCE = 1 << 20
_MOST_PROBLEMS = 1000
_APPENDED_S = 10.0  # how long one write may take
_NONE = ("", "", "")
_SEPARATOR = re.compile("[,;\t]")  # a spreadsheet saves with the one of its language; no field holds any, or a quote
_UTF_16 = ("\ufffd\ufffdj\0", "\ufffd\ufffd\0j")  # its byte order mark and the header's first letter, read as UTF-8
_ROW = re.compile(rb"job_(\d{6,12}),")
_ROUNDED = re.compile(r"\d+(?:[.,]\d+)?E\+?\d+", re.IGNORECASE)


class Missing:
    """Numbers that no row has, as ranges: a row may skip millions. They are added in ascending order; `in` and iteration too."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._lines: list[int] = []

    def add(self, start: int, stop: int, line: int) -> None:
        """`start` to `stop` (half open), above all others; seen in that line of the file."""
        self._starts.append(start)
        self._stops.append(stop)
        self._lines.append(line)

    def discard(self, number: int) -> None:
        """One of them is there after all."""
        at = self._range_of(number)
        if at is None:
            return
        start, stop, line = self._starts[at], self._stops[at], self._lines[at]
        kept = [(first, end) for first, end in ((start, number), (number + 1, stop)) if first < end]
        self._starts[at : at + 1] = [first for first, _ in kept]
        self._stops[at : at + 1] = [end for _, end in kept]
        self._lines[at : at + 1] = [line] * len(kept)

    def lowest(self) -> int | None:
        return self._starts[0] if self._starts else None

    def by_line(self) -> Iterator[tuple[int, int, int]]:
        """Line, lowest number and how many there are, for each line that shows a gap."""
        for line, ranges in groupby(zip(self._lines, self._starts, self._stops, strict=True), key=lambda entry: entry[0]):
            gaps = list(ranges)
            yield line, gaps[0][1], sum(stop - start for _, start, stop in gaps)

    def __contains__(self, number: int) -> bool:
        return self._range_of(number) is not None

    def __iter__(self) -> Iterator[int]:
        for start, stop in zip(self._starts, self._stops, strict=True):
            yield from range(start, stop)

    def _range_of(self, number: int) -> int | None:
        at = bisect_right(self._starts, number) - 1
        return at if at >= 0 and number < self._stops[at] else None


class Ranges:
    """Which items of each source some row asks for: as they were written, rows cut a source into ranges that meet."""

    def __init__(self) -> None:
        self._by_source: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
        self._loose: set[tuple[str, str, str]] = set()

    def add(self, source: tuple[str, str, str], start: int, stop: int) -> None:
        """Items of a source (kind, folder and name) that a row asks for, or several that follow each other."""
        self._by_source.setdefault(source, []).append((start, stop))

    def leave_out(self, source: tuple[str, str, str]) -> None:
        """Asks nothing of this source: rows of it were withdrawn, and others may have taken their place."""
        self._loose.add(source)

    def flaws(self, count_items: Callable[[str, str], int | None]) -> Iterator[str]:
        """What is wrong with the rows that ask for a source, one line each."""
        for source, ranges in self._by_source.items():
            if source in self._loose:
                continue
            kind, folder, name = source
            of = f"of {name} ({folder})"
            position = 0
            for start, stop in sorted(ranges):
                if start > position:
                    yield f"no row asks for items {position} to {start} {of}; the next enqueue of the same data adds them"
                elif start < position:
                    yield f"two rows ask for items {start} to {min(stop, position)} {of}; one of them is not as it was written"
                position = max(position, stop)
            items = count_items(kind, name)
            if items is not None and position < items:
                yield f"no row asks for items {position} to {items} {of}; the next enqueue of the same data adds them"
            elif items is not None and position > items:
                yield f"a row asks for items up to {position} {of}, which has {items}; it is not as it was written"


class _EndlessLine(Exception):
    """No line end for as long as no row is: the file is none of ours from here on."""


class _Lines(RawIOBase):
    """The bytes of a file from where it stands, as long as lines end. Args: length: so many of them; None for all."""

    def __init__(self, file: BufferedReader, length: int | None = None) -> None:
        self._file = file
        self._left = length
        self._unended = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer if self._left is None else memoryview(buffer)[: self._left])
        if self._left is not None:
            self._left -= count
        end = bytes(memoryview(buffer)[:count]).rfind(b"\n")
        self._unended = count - end - 1 if end >= 0 else self._unended + count
        if self._unended > LONGEST_LINE:
            raise _EndlessLine
        return count


@dataclass
class Reader:
    """One pass over the queue; after it, `problems` and `missing` say what was wrong.

    Attributes:
        problems: one line each, naming the line of the file.
        missing: numbers below the highest that no row has, with the line where the gap shows.
        highest: largest job number seen, -1 in an empty queue.
        foreign: rows of kinds that this version does not know; another one does, so their numbers and items are taken.
        withdrawn: jobs that were paused, cancelled or removed, and trainings whose folder somebody deleted: not handed out.
        count_items: of a kind and a source, how many items it has, for who reports problems; None if nobody knows.
        ranges: what its rows ask for.
        passed_over: jobs whose rows are left out unread, in ascending order, where they stand as they were written. The
            attributes above then tell of the other rows alone, and lines in `problems` are counted without them.
    """

    workspace: Workspace
    known_kinds: frozenset[str]
    count_items: Callable[[str, str], int | None] = lambda kind, source: None
    ranges: Ranges = field(default_factory=Ranges)
    problems: list[str] = field(default_factory=list)
    missing: Missing = field(default_factory=Missing)
    highest: int = -1
    foreign: list[Job] = field(default_factory=list)
    withdrawn: list[tuple[Job, Withdrawal]] = field(default_factory=list)
    passed_over: Sequence[Span] = ()

    def __iter__(self) -> Iterator[Job]:
        # One loop and no generator in another: a million rows are read at each start of a worker.
        try:
            with environment_faults(f"cannot read {self.workspace.queue}"):
                raw = reading.stream(paths.open_file(self.workspace.queue), self.workspace.queue)
        except FileNotFoundError:
            return
        is_under_way = False
        with raw, environment_faults(f"cannot read {self.workspace.queue}"), self._endless_line_noted():
            lines = chain.from_iterable(self._pieces(raw))
            withdrawn = read_withdrawn(self.workspace)
            self.problems += withdrawn.problems
            # What is the same from row to row is checked once: it has the next number, names the same source, and begins where
            # the row before ended.
            source, common, run, stop, ended = _NONE, "", 0, 0, ""
            may_be_withdrawn = True
            for number, line in enumerate(lines, start=1):
                job_id = f"job_{self.highest + 1:06d}"
                expected = f"{job_id}{common}{ended},"
                if line.startswith(expected) and line[-1] == "\n":
                    end = line[len(expected) :]
                    job = _next_job(job_id, source, stop, end)
                    if job is not None:
                        stop, ended = job[5], end.rstrip()
                        self.highest += 1
                        if not may_be_withdrawn or self._is_live(job, withdrawn):
                            yield job
                        continue
                if line[-1] != "\n":
                    # Half-written: by a crash in `enqueue`, which restores it, or by one that has not ended yet.
                    is_under_way = time.time() - os.fstat(raw.fileno()).st_mtime < _APPENDED_S
                    break
                checked = self._checked(number, _fields(line))
                if checked is not None:
                    if source != _NONE:
                        self.ranges.add(source, run, stop)
                    source, run, stop = checked[1:4], checked.start, checked.stop
                    common, ended = f",{','.join(source)},", str(stop)
                    may_be_withdrawn = bool(withdrawn.jobs) or _is_training(self.workspace, checked)
                    if self._is_live(checked, withdrawn):
                        yield checked
            if source != _NONE:
                self.ranges.add(source, run, stop)
        self._report_missing()
        # Rows that are gone leave gaps, too, but of these something is said already.
        if not is_under_way and not self.problems and not self.passed_over:
            self.problems += [f"{self.workspace.queue.name}: {flaw}" for flaw in self.ranges.flaws(self.count_items)]

    def _pieces(self, raw: BufferedReader) -> Iterator[TextIOWrapper]:
        """The lines before, between and behind the rows that are passed over."""
        begin = 0
        for span in self.passed_over:
            first, last = _row_at(raw, span.first, begin), _row_at(raw, span.last, begin)
            # The first line is the header, so it is no row to pass over; rows in another order are no stretch.
            if first is None or last is None or not 0 < first[0] < last[1]:
                continue
            yield _text_of(raw, begin, first[0])
            self.highest, begin = max(self.highest, span.last), last[1]
        yield _text_of(raw, begin, None)

    @contextmanager
    def _endless_line_noted(self) -> Iterator[None]:
        try:
            yield
        except _EndlessLine:
            self.problems.append(f"{self.workspace.queue.name}: a line has no end; what follows is passed over")

    def _is_live(self, job: Job, withdrawn: Withdrawn) -> bool:
        withdrawal = withdrawn.of(job)
        # An experiment's folder stands before its row does: one that is gone was deleted by its user.
        if withdrawal is None and _is_training(self.workspace, job) and not paths.is_folder(self.workspace.folder(job)):
            withdrawal = Withdrawal(REMOVED, f"{job.folder} was deleted")
        if withdrawal is None:
            return True
        self.withdrawn.append((job, withdrawal))
        self.ranges.leave_out(job[1:4])
        return False

    def _checked(self, number: int, fields: list[str]) -> Job | None:
        if number == 1:
            if fields[0].startswith(_UTF_16):  # no row can be read, and none may be added behind it
                where = self.workspace.queue
                raise HeadstartError(
                    f"{where} is UTF-16, 'Unicode text' of a spreadsheet. Nothing is lost: save it as 'CSV UTF-8'"
                )
            header = ",".join(fields)
            if header != HEADER:
                self._problem(1, f"expected the header {HEADER}, found {header[:60]!r}; save it as CSV, in UTF-8")
            return None
        flaw = self._flaw(fields)
        job = _job(fields) if is_job_id(fields[0]) else None
        if job is not None and (flaw is None or self._is_foreign(job)):
            flaw = self._order(number, job.number) or flaw
            if flaw is not None and self._is_foreign(job):
                self.foreign.append(job)
        if flaw is not None:
            self._problem(number, flaw)
            return None
        return job

    def _is_foreign(self, job: Job) -> bool:
        return job.kind not in self.known_kinds and is_plain_path(job.folder) and is_plain_path(job.source)

    def _flaw(self, fields: list[str]) -> str | None:
        if len(fields) != 6:
            return f"expected 6 fields, found {len(fields)}; the row is passed over"
        job_id, kind, folder, source, start, stop = fields
        if not is_job_id(job_id):
            return f"{job_id!r} is not a job id; the row is passed over"
        if kind not in self.known_kinds:
            known = ", ".join(sorted(self.known_kinds))
            return f"unknown kind {kind!r} (this version knows {known}); the row is passed over"
        for path in (folder, source):
            if not is_plain_path(path):
                return f"{path!r} is not a path inside the workspace; the row is passed over"
        if _job(fields) is None:
            is_rounded = any(map(_ROUNDED.fullmatch, (start, stop)))
            hint = ", a spreadsheet rounded it. Delete the row, then enqueue the same data again" if is_rounded else ""
            return f"{start!r} to {stop!r} is not a range of items; the row is passed over{hint}"
        return None

    def _order(self, line: int, job: int) -> str | None:
        if job == self.highest + 1:
            self.highest = job
        elif job > self.highest + LARGEST_GAP:
            return f"{job_id_of(job)} is far beyond {job_id_of(self.highest)}, the highest so far; the row is passed over"
        elif job > self.highest:
            self.missing.add(self.highest + 1, job, line)
            self.highest = job
        elif job in self.missing:
            self.missing.discard(job)
        else:
            return f"{job_id_of(job)} appears twice; the first counts"
        return None

    def _report_missing(self) -> None:
        for line, first, count in self.missing.by_line():
            what = job_id_of(first) + (f" and {count - 1} more are" if count > 1 else " is")
            self._problem(line, f"{what} missing before this row; the next enqueue of the same data restores what was there")

    def _problem(self, line: int, text: str) -> None:
        if len(self.problems) == _MOST_PROBLEMS:
            self.problems.append("and more like these")
        elif len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(f"{self.workspace.queue.name} line {line}: {text}")


def stretches(rows: Iterable[Job]) -> Iterator[list[Job]]:
    """Rows that follow one another and are of one kind, folder and group: at most a thousand, one stretch in memory at a time."""
    for _, stretch in groupby(rows, key=lambda job: (job[1], job[2], job[0][:-3])):
        yield list(stretch)


def _text_of(raw: BufferedReader, begin: int, end: int | None) -> TextIOWrapper:
    raw.seek(begin)
    lines = _Lines(raw, None if end is None else end - begin)
    return TextIOWrapper(BufferedReader(lines, _READ_AT_ONCE), encoding="utf-8", errors="replace", newline="\n")


def _row_at(raw: BufferedReader, number: int, low: int) -> tuple[int, int] | None:
    """Where the row of a job begins and ends, looked for from `low` on by halving, for rows stand in the order of their numbers.

    None if it is not where it would be then.
    """
    high = raw.seek(0, os.SEEK_END)
    while high - low > 2 * LONGEST_LINE:
        middle = raw.seek((low + high) // 2)
        here = middle + len(raw.readline(LONGEST_LINE))
        row = _ROW.match(raw.readline(LONGEST_LINE))
        if row is None:
            return None
        if int(row[1]) <= number:
            low = here
        else:
            high = here
    raw.seek(low)
    text = raw.read(high - low)
    row_id = f"{job_id_of(number)},".encode()
    begin = 0 if text.startswith(row_id) else text.find(b"\n" + row_id) + 1
    end = text.find(b"\n", begin) + 1
    return (low + begin, low + end) if end and text.startswith(row_id, begin) else None


def _is_training(workspace: Workspace, job: Job) -> bool:
    return job.folder.startswith(f"{workspace.experiments.name}/")


def _next_job(job_id: str, source: tuple[str, str, str], start: int, end: str) -> Job | None:
    try:
        stop = int(end)
    except ValueError:
        return None
    return tuple.__new__(Job, (job_id, *source, start, stop)) if start < stop else None


def _fields(line: str) -> list[str]:
    """Of a row as it was written, or as a spreadsheet saved it: with another separator, quotes, or a byte order mark."""
    text = line.rstrip("\r\n")
    if not ('"' in text or ";" in text or "\t" in text or "\ufeff" in text):  # as almost every row of a million is
        return text.split(",")
    text = text.removeprefix("\ufeff")
    separator = _SEPARATOR.search(text)
    fields = text.split(separator[0] if separator else ",")
    return [field[1:-1] if len(field) > 1 and field[0] == field[-1] == '"' else field for field in fields]


def _job(fields: list[str]) -> Job | None:
    try:
        job_id, kind, folder, source, start, stop = fields
        first, end = int(start), int(stop)
    except ValueError:
        return None
    return tuple.__new__(Job, (job_id, kind, folder, source, first, end)) if 0 <= first < end else None
