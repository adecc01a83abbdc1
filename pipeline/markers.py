"""`.done` markers: the only commit point. A job is done when its marker parses and its payload fits; nothing else says so."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import HeadstartError
from .files import environment_faults
from .job import Job, group_of
from .retire import read_withdrawn
from .workspace import Workspace

FORMAT = 1


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


class NotDone(Exception):
    """Why a job does not count as done. `is_absent` tells a job nobody finished from a marker that lies."""

    def __init__(self, reason: str, is_absent: bool = False) -> None:
        super().__init__(reason)
        self.is_absent = is_absent


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
            data = path.read_bytes()
    except FileNotFoundError:
        raise NotDone("no marker", is_absent=True) from None
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


def _parse(workspace: Workspace, path: Path, data: bytes) -> Marker:
    try:
        facts: dict[str, Any] = json.loads(data)
        version = facts["format"]
        if isinstance(version, int) and version > FORMAT:
            raise HeadstartError(
                f"{path} has format {version}, this version reads up to {FORMAT}. Upgrade: pip install -U headstart"
            )
        job = Job(**facts["job"])
        payload = facts["payload"]
        name = str(payload["name"])
        if "/" in name or "\\" in name or not name.startswith(f"{job.job_id}."):
            raise ValueError(f"payload name {name!r}")
        return Marker(
            job=job,
            fingerprint=str(facts["fingerprint"]),
            payload=workspace.payloads(job) / name,
            payload_bytes=int(payload["bytes"]),
            sha256=str(payload["sha256"]),
            items=int(facts["items"]),
            ok=int(facts["ok"]),
            failed=tuple(FailedItem(**item) for item in facts["failed"]),
            arrays=dict(payload["arrays"]),
            facts=dict(facts["facts"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotDone(f"the marker does not parse ({error})" if data else "the marker is empty") from None


def _payload_flaw(marker: Marker, deep: bool) -> str | None:
    try:
        with environment_faults(f"cannot read {marker.payload}"):
            size = marker.payload.stat().st_size
            if size != marker.payload_bytes:
                return f"{marker.payload.name} has {size} bytes, expected {marker.payload_bytes}"
            if deep and digest_of(marker.payload) != marker.sha256:
                return f"{marker.payload.name} has other bytes than were committed (sha256 differs)"
    except FileNotFoundError:
        return f"{marker.payload.name} is missing"
    return None


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def commit(workspace: Workspace, job: Job, fingerprint: str, result: Result) -> bool:
    """Makes `result` the outcome of `job`, durably: first the payload, then the marker that names it.

    Returns: False if the job was done already; what was committed first stays, and this payload is an orphan for `verify`.
    Raises: TryLaterError if the disk is full or gone; nothing is then half done.
    """
    files = workspace.files
    sha256 = hashlib.sha256(result.payload).hexdigest()
    payload = workspace.payload(job, sha256, result.suffix)
    marker = workspace.marker(job)
    for folder in (payload.parent, marker.parent):
        workspace.make_folder(folder)
    # A file of this name is the same bytes from an earlier attempt, or those bytes damaged; the digest tells.
    if not files.publish(payload, result.payload):
        if digest_of(payload) != sha256:
            files.replace(payload, result.payload)
        os.utime(payload)  # young again, so that no sweep takes it for an orphan before its marker is there
    data = _marker_bytes(job, fingerprint, payload.name, sha256, result)
    while not files.publish(marker, data):
        try:
            read_marker(workspace, job, fingerprint)
        except NotDone as flaw:
            if flaw.is_absent:
                continue  # it went away between the two looks
            if marker.is_dir():
                os.replace(marker, marker.with_name(f"{marker.name}.folder-{os.getpid()}"))
            files.replace(marker, data)
            return True
        return False
    return True


def _marker_bytes(job: Job, fingerprint: str, name: str, sha256: str, result: Result) -> bytes:
    record = {
        "format": FORMAT,
        "job": job._asdict(),
        "fingerprint": fingerprint,
        "payload": {"name": name, "bytes": len(result.payload), "sha256": sha256, "arrays": result.arrays},
        "items": result.items,
        "ok": result.ok,
        "failed": [vars(item) for item in result.failed],
        "facts": result.facts,
    }
    # ASCII only: lone surrogates, which stand for bytes of a path that are no UTF-8, survive as escapes.
    return (json.dumps(record, indent=1) + "\n").encode("ascii")


def recorded_jobs(workspace: Workspace, first: int = 0, within: Path | None = None) -> Iterator[Job]:
    """Every job from number `first` that some marker names, whether or not the queue lists it. Torn markers and those of removed
    jobs are passed over.

    Args:
        within: only markers of this folder; None for all.
    """
    withdrawn = read_withdrawn(workspace)
    for folder in sorted(workspace.root.glob("*/*/done/*") if within is None else within.glob("done/*")):
        if folder.name < group_of(first) and len(folder.name) <= len(group_of(first)):
            continue
        for path in sorted(folder.glob("job_*.done")):
            try:
                job = _parse(workspace, path, path.read_bytes()).job
            except (OSError, NotDone):
                continue
            if job.number >= first and workspace.marker(job) == path and not withdrawn.is_removed(job.job_id):
                yield job
