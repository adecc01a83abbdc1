"""The list of jobs: an append-only CSV that says what is to be done. What is done, the files say."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from .files import environment_faults
from .job import Job, is_job_id, job_id_of
from .retire import REMOVED, Withdrawal, read_withdrawn
from .workspace import Workspace

HEADER = ",".join(Job._fields)
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-")
_LARGEST_GAP = 10_000_000


@dataclass
class Reader:
    """One pass over the queue; after it, `problems` and `missing` say what was wrong.

    Attributes:
        problems: one line each, naming the line of the file.
        missing: numbers below the highest that no row has, with the line where the gap shows.
        highest: largest job number seen, -1 in an empty queue.
        foreign: rows of kinds that this version does not know; another one does, so their numbers and items are taken.
        withdrawn: jobs that were paused, cancelled or removed, and trainings whose folder somebody deleted: not handed out.
    """

    workspace: Workspace
    known_kinds: frozenset[str]
    problems: list[str] = field(default_factory=list)
    missing: dict[int, int] = field(default_factory=dict)
    highest: int = -1
    foreign: list[Job] = field(default_factory=list)
    withdrawn: list[tuple[Job, Withdrawal]] = field(default_factory=list)

    def __iter__(self) -> Iterator[Job]:
        listed, experiments = read_withdrawn(self.workspace), f"{self.workspace.experiments.name}/"
        for job in self._rows():
            withdrawal = listed.of(job)
            # An experiment's folder stands before its row does: one that is gone was deleted by its user.
            if withdrawal is None and job.folder.startswith(experiments) and not self.workspace.folder(job).is_dir():
                withdrawal = Withdrawal(REMOVED, f"{job.folder} was deleted")
            if withdrawal is None:
                yield job
            else:
                self.withdrawn.append((job, withdrawal))

    def _rows(self) -> Iterator[Job]:
        try:
            with environment_faults(f"cannot read {self.workspace.queue}"):
                file = open(self.workspace.queue, encoding="utf-8", errors="replace", newline="\n")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            return
        with file, environment_faults(f"cannot read {self.workspace.queue}"):
            common: list[str] = []
            for number, line in enumerate(file, start=1):
                # A million rows are read at each start of a worker: what is the same from row to row is checked once.
                fields = line.split(",")
                if fields[1:4] == common and fields[0] == f"job_{self.highest + 1:06d}" and line[-1] == "\n":
                    job = _job(fields)
                    if job is not None:
                        self.highest += 1
                        yield job
                        continue
                if line[-1] != "\n":
                    break  # half-written by a crash in `enqueue`, which restores it
                checked = self._checked(number, line.rstrip("\r\n").split(","))
                if checked is not None:
                    common = fields[1:4]
                    yield checked
        self._report_missing()

    def _checked(self, number: int, fields: list[str]) -> Job | None:
        if number == 1:
            header = ",".join(fields)
            if header.lstrip("\ufeff") != HEADER:
                self._problem(1, f"expected the header {HEADER}, found {header[:60]!r}")
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
        return job.kind not in self.known_kinds and is_workspace_path(job.folder) and is_workspace_path(job.source)

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
            if not is_workspace_path(path):
                return f"{path!r} is not a path inside the workspace; the row is passed over"
        if _job(fields) is None:
            return f"{start!r} to {stop!r} is not a range of items; the row is passed over"
        return None

    def _order(self, line: int, job: int) -> str | None:
        if job == self.highest + 1:
            self.highest = job
        elif job > self.highest + _LARGEST_GAP:
            return f"{job_id_of(job)} is far beyond {job_id_of(self.highest)}, the highest so far; the row is passed over"
        elif job > self.highest:
            self.missing.update((number, line) for number in range(self.highest + 1, job))
            self.highest = job
        elif job in self.missing:
            del self.missing[job]
        else:
            return f"{job_id_of(job)} appears twice; the first counts"
        return None

    def _report_missing(self) -> None:
        by_line: dict[int, list[int]] = defaultdict(list)
        for number, line in self.missing.items():
            by_line[line].append(number)
        for line, numbers in by_line.items():
            what = job_id_of(numbers[0]) + (f" and {len(numbers) - 1} more are" if len(numbers) > 1 else " is")
            self._problem(line, f"{what} missing before this row; the next enqueue of the same data restores what was there")

    def _problem(self, line: int, text: str) -> None:
        self.problems.append(f"{self.workspace.queue.name} line {line}: {text}")


def _job(fields: list[str]) -> Job | None:
    try:
        job_id, kind, folder, source, start, stop = fields
        first, end = int(start), int(stop)
    except ValueError:
        return None
    return tuple.__new__(Job, (job_id, kind, folder, source, first, end)) if 0 <= first < end else None


def is_workspace_path(path: str) -> bool:
    """Whether `path` is one as this project writes it: relative, with forward slashes, of plain words, never upwards."""
    return bool(path) and all(part not in ("", ".", "..") and _WORD.issuperset(part) for part in path.split("/"))
