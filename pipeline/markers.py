"""`.done` markers: the only commit point. A job is done when its marker parses and its payload fits; nothing else says so."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from . import paths
from .doors import reading, records
from .errors import HeadstartError
from .files import environment_faults
from .job import Job, group_of, is_job_id, is_plain_path
from .retire import read_withdrawn
from .workspace import Workspace

FORMAT = 1
_IN_OBJECTS = "objects"


@dataclass(frozen=True)
class FailedItem:
    """One item of a job that gave no result, and why; it costs the job nothing else.

    Attributes:
        item: position in the job's source.
        name: what a person calls it (a path).
        code: one word for programs.
        reason: one line for people.
    """

    item: int
    name: str
    code: str
    reason: str


@dataclass(frozen=True)
class Result:
    """What a kind hands to the engine, which commits it.

    Attributes:
        payload: the file's bytes; the same for the same job, always.
        suffix: `.npz` or the like.
        arrays: dtype and shape by name, for readers that plan before they open the payload.
        items, ok: how many items the job has, and how many gave a result.
        facts: what is good to know but decides nothing (seconds, versions).
    """

    payload: bytes
    suffix: str
    arrays: dict[str, dict[str, Any]]
    items: int
    ok: int
    failed: tuple[FailedItem, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Marker:
    """What a job's marker says.

    Attributes:
        payload: where it lies, or where a copy would, if `is_in_objects`.
        is_in_objects: whether the payload was put into an object store; a copy in the workspace is welcome and not missed.
    """

    job: Job
    fingerprint: str
    payload: Path
    payload_bytes: int
    sha256: str
    items: int
    ok: int
    failed: tuple[FailedItem, ...]
    arrays: dict[str, dict[str, Any]]
    facts: dict[str, Any]
    is_in_objects: bool = False

    def payload_here(self) -> Path:
        """The payload's path. Raises: HeadstartError if only the object store has it."""
        if self.is_in_objects and not paths.exists(self.payload):
            raise HeadstartError(
                f"{self.payload.name} lies in an object store. Bring what is there here: headstart fetch --objects URL"
            )
        return self.payload


class PayloadStore(Protocol):
    """Where payloads may lie instead of the workspace, by their paths in it: see `objects.Objects`."""

    def put(self, name: str, data: bytes) -> None:
        """Makes `data` the payload `name`, whole or not at all; one that has the same bytes already stays."""

    def require(self, workspace: Workspace, marker: Marker, deep: bool) -> None:
        """Raises: NotDone if a payload that lies here alone is not as it was committed. Args: deep: compare every byte."""


class NotDone(Exception):
    """Why a job does not count as done. `is_absent` tells a job nobody finished from a marker that lies."""

    def __init__(self, reason: str, is_absent: bool = False) -> None:
        super().__init__(reason)
        self.is_absent = is_absent


class DoneCounts(NamedTuple):
    """What is counted of a done job, as its marker says it."""

    items: int
    ok: int
    payload_bytes: int
    facts: Mapping[str, Any]


# One pattern for all jobs: one that names its job would be compiled for each of a million markers.
_PAYLOAD_NAME = r"job_\d+\.[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_KIND = "[A-Za-z0-9_]{1,60}"


def read_marker(workspace: Workspace, job: Job, fingerprint: str, deep: bool = False) -> Marker:
    """The verified marker of `job`.

    Args:
        fingerprint: of what produces the payload now; a marker of anything else does not count.
        deep: also read the payload and compare its sha256.

    Raises: NotDone; HeadstartError if a newer version wrote the marker (then nothing may be redone over it).
    """
    path = workspace.marker(job)
    try:
        with environment_faults(f"cannot read {path}"):
            data = reading.read(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NotDone("no marker", is_absent=True) from None
    except reading.UnreadableError as error:
        raise NotDone(f"the marker {error.why}") from None
    except paths.LinkError as error:
        if error.path != path:
            raise  # a folder above it: nothing there is this workspace's
        raise NotDone("the marker is a symbolic link") from None
    except OSError as error:
        raise NotDone(f"the marker cannot be read: {error.strerror}") from None
    marker = _parse(workspace, path, data)
    if marker.job != job:
        raise NotDone(f"the marker is of {marker.job}")
    if marker.fingerprint != fingerprint:
        raise NotDone(f"the marker is of another encoder or configuration ({marker.fingerprint[:8]}, expected {fingerprint[:8]})")
    flaw = _payload_flaw(marker, deep)
    if flaw is not None:
        raise NotDone(flaw)
    return marker


class GroupMarkers:
    """The markers of one folder's group, asked one after the other: each as `read_marker` judges it, in a third of the time.

    Of a marker that is as `commit` writes it, of a job without failed items whose payload lies here, a glance is enough. It sees
    less than `read_marker` and says only what that would say; whatever else there is, that one judges.

    Args:
        job: any of the group, as a `Reader` gives it, like all that are asked for.
        fingerprint: as of `read_marker`.
    """

    def __init__(self, workspace: Workspace, job: Job, fingerprint: str) -> None:
        self._workspace, self._fingerprint = workspace, fingerprint
        self._markers, self._payloads = paths.Held(workspace.marker(job).parent), paths.Held(workspace.payloads(job))
        self._name = re.compile(_PAYLOAD_NAME)
        self._may_glance = re.fullmatch(_KIND, job.kind) is not None

    def counts(self, job: Job) -> DoneCounts:
        """Raises: as `read_marker`."""
        seen = self._glance(job) if self._may_glance else None
        if seen is not None:
            return seen
        marker = read_marker(self._workspace, job, self._fingerprint)
        return DoneCounts(marker.items, marker.ok, marker.payload_bytes, marker.facts)

    def _glance(self, job: Job) -> DoneCounts | None:
        data = reading.read_held(self._markers, f"{job[0]}.done")
        facts = None if data is None else records.parse_sealed(data)
        if facts is None:
            return None
        try:
            said, payload, noted = facts["job"], facts["payload"], facts["facts"]
            name, size, items, ok = payload["name"], payload["bytes"], facts["items"], facts["ok"]
            is_as_written = (
                tuple(said) == Job._fields
                and tuple(said.values()) == job
                and facts["fingerprint"] == self._fingerprint
                and facts["failed"] == []
                and facts["format"] == FORMAT
                # To Python 1 is True, and 1.0.
                and {*map(type, (facts["format"], said["start"], said["stop"], size, items, ok))} == {int}
                and job.stop <= records.LARGEST
                and 0 <= ok <= items <= records.LARGEST
                and 0 <= size <= reading.PAYLOAD_BYTES
                and type(payload["arrays"]) is type(noted) is dict
                and type(payload["sha256"]) is str
                and self._name.fullmatch(name) is not None
                and name.startswith(f"{job[0]}.")
            )
        except (KeyError, TypeError, AttributeError):
            return None
        there = self._payloads.stat(name) if is_as_written else None
        if there is None or there.st_size != size or not stat.S_ISREG(there.st_mode):
            return None
        return DoneCounts(items, ok, size, noted)


def _parse(workspace: Workspace, path: Path, data: bytes) -> Marker:
    if not data:
        raise NotDone("the marker is empty")
    try:
        facts = records.parse_record(data, path, FORMAT, is_finite=False)
        job = _job(facts.record("job"))
        payload = facts.record("payload")
        name = payload.text("name", _PAYLOAD_NAME)
        if not name.startswith(f"{job.job_id}."):
            payload.refuse("name", name)
        return Marker(
            job=job,
            fingerprint=facts.text("fingerprint"),
            payload=workspace.payloads(job) / name,
            payload_bytes=payload.integer("bytes", most=reading.PAYLOAD_BYTES),
            sha256=payload.text("sha256"),
            items=facts.integer("items"),
            ok=facts.integer("ok", most=facts.integer("items")),
            failed=tuple(_failed_item(item) for item in facts.records("failed")),
            arrays=dict(payload.record("arrays")),
            facts=dict(facts.record("facts")),
            is_in_objects=payload.get("in") == _IN_OBJECTS,
        )
    except records.DamagedError as error:
        raise NotDone(f"the marker does not parse ({error.why})") from None


def _job(facts: records.Record) -> Job:
    """What a marker says of its job passes the same check as a row of the queue: it may become one again."""
    job_id, folder, source = facts.text("job_id"), facts.text("folder"), facts.text("source")
    if not is_job_id(job_id):
        facts.refuse("job_id", job_id)
    for key, path in (("folder", folder), ("source", source)):
        if not is_plain_path(path):
            facts.refuse(key, path)
    start = facts.integer("start")
    return Job(job_id, facts.text("kind", _KIND), folder, source, start, facts.integer("stop", least=start + 1))


def _failed_item(facts: records.Record) -> FailedItem:
    return FailedItem(facts.integer("item"), facts.text("name"), facts.text("code"), facts.text("reason"))


def _payload_flaw(marker: Marker, deep: bool) -> str | None:
    try:
        with environment_faults(f"cannot read {marker.payload}"):
            facts = paths.stat(marker.payload)
            size = facts.st_size
            if not stat.S_ISREG(facts.st_mode):
                return f"{marker.payload.name} is no file"
            if size != marker.payload_bytes:
                return f"{marker.payload.name} has {size} bytes, expected {marker.payload_bytes}"
            if deep and digest_of(marker.payload, reading.PAYLOAD_BYTES) != marker.sha256:
                return f"{marker.payload.name} has other bytes than were committed (sha256 differs)"
    except reading.UnreadableError as error:
        return f"{marker.payload.name} {error.why}"
    except FileNotFoundError:
        return None if marker.is_in_objects else f"{marker.payload.name} is missing"
    return None


def digest_of(path: Path, limit: int = reading.WEIGHTS_BYTES) -> str:
    """sha256 (hex) of a file's bytes. Raises: UnreadableError, also if it has more than `limit`; LinkError; OSError."""
    with reading.opened(path, limit) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_file_of(path: Path, sha256: str) -> bool:
    try:
        return digest_of(path) == sha256
    except (reading.UnreadableError, paths.LinkError):
        return False


def commit(workspace: Workspace, job: Job, fingerprint: str, result: Result, objects: "PayloadStore | None" = None) -> bool:
    """Makes `result` the outcome of `job`, durably: first the payload, then the marker that names it.

    Args:
        objects: where the payload goes instead of the workspace.

    Returns: False if the job was done already; what was committed first stays, and this payload is an orphan for `verify`.
    Raises: TryLaterError if the disk is full or gone; nothing is then half done.
    """
    files = workspace.files
    sha256 = hashlib.sha256(result.payload).hexdigest()
    payload = workspace.payload(job, sha256, result.suffix)
    marker = workspace.marker(job)
    workspace.make_folder(marker.parent)
    if objects is None:
        _publish_payload(workspace, payload, result.payload, sha256)
    else:
        objects.put(workspace.relative(payload), result.payload)
    data = _marker_bytes(job, fingerprint, payload.name, sha256, result, objects is not None)
    while not files.publish(marker, data):
        try:
            read_marker(workspace, job, fingerprint)
        except NotDone as flaw:
            if flaw.is_absent:
                continue  # it went away between the two looks
            if paths.is_folder(marker):
                paths.rename(marker, marker.with_name(f"{marker.name}.folder-{os.getpid()}"))
            files.replace(marker, data)
            return True
        return False
    return True


def _publish_payload(workspace: Workspace, path: Path, data: bytes, sha256: str) -> None:
    workspace.make_folder(path.parent)
    # A file of this name is the same bytes from an earlier attempt, or those bytes damaged; the digest tells.
    if not workspace.files.publish(path, data):
        if not _is_file_of(path, sha256):
            workspace.files.replace(path, data)
        paths.touch(path)  # young again, so that no sweep takes it for an orphan before its marker is there


def _marker_bytes(job: Job, fingerprint: str, name: str, sha256: str, result: Result, is_in_objects: bool) -> bytes:
    record = {
        "format": FORMAT,
        "job": job._asdict(),
        "fingerprint": fingerprint,
        "payload": {
            "name": name,
            "bytes": len(result.payload),
            "sha256": sha256,
            "arrays": result.arrays,
            **({"in": _IN_OBJECTS} if is_in_objects else {}),
        },
        "items": result.items,
        "ok": result.ok,
        "failed": [vars(item) for item in result.failed],
        "facts": result.facts,
    }
    # Sealed, because a flipped bit of a reason, a count or a peak would be another reason, count or peak otherwise.
    return records.seal(record)


def recorded_jobs(workspace: Workspace, first: int = 0, within: Path | None = None) -> Iterator[Job]:
    """Every job from number `first` that some marker names, whether or not the queue lists it. Torn markers and those of removed
    jobs are passed over.

    Args:
        within: only markers of this folder; None for all.
    """
    withdrawn = read_withdrawn(workspace)
    base, pattern = (workspace.root, "*/*/done/*") if within is None else (within, "done/*")
    for folder in paths.matching(base, pattern):
        if folder.name < group_of(first) and len(folder.name) <= len(group_of(first)):
            continue
        for path in paths.matching(folder, "job_*.done"):
            job = finished_job(workspace, path)
            if job is not None and job.number >= first and not withdrawn.is_removed(job.job_id):
                yield job


def finished_job(workspace: Workspace, path: Path) -> Job | None:
    """The job that the marker at `path` names; None of a torn marker, or one that lies where another's belongs."""
    parsed = _parsed(workspace, path)
    return parsed.job if parsed is not None and workspace.marker(parsed.job) == path else None


def newest_facts(workspace: Workspace, folder: str) -> dict[str, Any]:
    """What the marker of `folder` that was written last notes of its job, {} if none can be read; it decides nothing."""
    marked = paths.matching(workspace.root / folder, "done/*")
    markers = [path for group in sorted(marked, key=lambda group: paths.stat(group).st_mtime)[-1:] for path in _markers(group)]
    for path in sorted(markers, key=lambda path: paths.stat(path).st_mtime)[-1:]:
        parsed = _parsed(workspace, path)
        return {} if parsed is None else parsed.facts
    return {}


def _markers(group: Path) -> list[Path]:
    return list(paths.matching(group, "job_*.done"))


def _parsed(workspace: Workspace, path: Path) -> Marker | None:
    try:
        return _parse(workspace, path, reading.read(path))
    except (OSError, NotDone, reading.UnreadableError, paths.LinkError):
        return None
