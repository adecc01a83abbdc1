"""Whatever a user's file makes, from its options to finished jobs by one call: what `headstart make` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.experiments.making.begin_making import begin_making
from headstart.experiments.making.kind_file import ItemKind, load_kind_file
from headstart.experiments.runs.finishing import do_first
from headstart.experiments.training.options import merged_options
from headstart.pipeline.doors.code import allow_named
from headstart.pipeline.enqueue import enqueue_work
from headstart.pipeline.kinds import Fingerprints, Settings, known_kinds
from headstart.pipeline.markers import NotDone, read_marker
from headstart.pipeline.queue import Reader
from headstart.pipeline.worker import Finished
from headstart.pipeline.workspace import Workspace, find_root, open_or_create_workspace


@dataclass(frozen=True)
class NamedKind:
    """A kind of job, and the user's file that it stands in."""

    kind: ItemKind
    file: Path


@dataclass(frozen=True)
class MakingOutcome:
    """How far a making is.

    Attributes:
        folder: where the items lie; `headstart.open_made` reads them.
        items: to be made; ok: made so far; failed: of these no result came, `headstart status --failed` says why.
        is_finished: whether every job is done.
        exit_code: of the command: 10 where a time limit ended it.
    """

    folder: Path
    items: int
    ok: int
    failed: int
    is_finished: bool
    exit_code: int


def named_kind(name: str | Path) -> NamedKind:
    """A user's kind of job, which is allowed to run because its user names it. Raises: HeadstartError if it is none."""
    code = allow_named(name)
    return NamedKind(load_kind_file(code), code.path)


def make_items(
    file: str | Path | NamedKind,
    values: Mapping[str, Any] | None = None,
    workspace: Workspace | Path | str | None = None,
    *,
    config: Path | None = None,
    time_limit_s: float | None = None,
    is_only_queued: bool = False,
    report: Callable[[str], None] = lambda line: None,
    heard: Callable[[Finished], None] = lambda finished: None,
) -> MakingOutcome:
    """Makes all items of a user's file as jobs; killed and called again, it goes on, and other workers help.

    Args:
        file: of the user, which runs. values: its options by name; config: a YAML file with others.
        workspace: a folder, made if absent; None is the one that every command would take, see `find_root`.
        time_limit_s: leave by then. is_only_queued: queue the jobs and leave them to `headstart work`.
        report: gets a line as soon as it is known. heard: is told of each job.

    Raises: HeadstartError with one line if options do not fit or the file fails; TryLaterError if the disk is full.
    """
    named = file if isinstance(file, NamedKind) else named_kind(file)
    options = merged_options(named.kind.Options, values or {}, config)
    opened = workspace if isinstance(workspace, Workspace) else open_or_create_workspace(find_root(workspace))
    making, work = begin_making(opened, named.kind, named.file, options)
    folder = making.folder(opened)
    report(f"{opened.relative(folder)}: {making.count:,} items, {work.job_size:,} a job")
    if is_only_queued:
        enqueue_work(opened, [work])
        return _looked_at(opened, folder, making.count, None)
    status = do_first(opened, [work], Settings(), time_limit_s, report, heard)
    return _looked_at(opened, folder, making.count, status)


def _looked_at(workspace: Workspace, folder: Path, count: int, status: int | None) -> MakingOutcome:
    ok, failed, left = 0, 0, 0
    relative, fingerprints = workspace.relative(folder), Fingerprints(workspace)
    for job in Reader(workspace, known_kinds()):
        if job.folder != relative:
            continue
        try:
            marker = read_marker(workspace, job, fingerprints.of(job))
        except NotDone:
            left += 1
            continue
        ok, failed = ok + marker.ok, failed + len(marker.failed)
    return MakingOutcome(folder, count, ok, failed, is_finished=not left, exit_code=status or 0)
