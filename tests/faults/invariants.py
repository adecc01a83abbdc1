"""What must be true after every fault, judged from the files alone: the engine's own readers may be what is broken.

Each violation is one line whose first word is its sort: `lost:`, `duplicated:`, `wrong:`, `orphan:` or `wedged:`.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headstart.pipeline.workspace import Workspace

Expected = Mapping[tuple[str, int, int], bytes]  # (folder, start, stop) of a job: its payload in an uninterrupted run

_CLAIM = re.compile(r"job_\d+\.g\d+")
_QUARANTINE = 3


def check_drained(workspace: Workspace, expected: Expected, counts_items: bool = True) -> list[str]:
    """Violations after a fresh worker found nothing left and `verify --repair` ran.

    Args: counts_items: False for trainings, whose one item is no image and is not counted.
    """
    rows = queue_rows(workspace)
    markers = {path.relative_to(workspace.root).as_posix(): path for path in _markers(workspace)}
    violations = list(_queue_flaws(rows, expected))
    named = set()
    for row in rows:
        path = markers.pop(f"{row['folder']}/done/{_group(row)}/{row['job_id']}.done", None)
        if path is None:
            violations.append(f"lost: {row['job_id']} has no marker")
            continue
        facts = _parsed(path)
        if facts is None:
            violations.append(f"wrong: the marker of {row['job_id']} does not parse")
            continue
        named.add(_payload(path, facts))
        violations += _job_flaws(row, facts, _payload(path, facts), expected, counts_items)
    violations += [f"duplicated: {name} is the marker of no row" for name in markers]
    return [*violations, *_quarantined(workspace), *_leftovers(workspace, named)]


def queue_rows(workspace: Workspace) -> list[dict[str, str]]:
    """Rows of the queue by column, whatever they say; a last line without its end is none."""
    try:
        lines = workspace.queue.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    except FileNotFoundError:
        return []
    columns = lines[0].split(",") if lines else []
    return [dict(zip(columns, line.split(","), strict=False)) for line in lines[1:]]


def payloads_of(workspace: Workspace) -> dict[tuple[str, int, int], bytes]:
    """The `Expected` of others: what the markers of an uninterrupted run name."""
    payloads = {}
    for path in _markers(workspace):
        facts = json.loads(path.read_bytes())
        job = facts["job"]
        payloads[job["folder"], int(job["start"]), int(job["stop"])] = _payload(path, facts).read_bytes()
    return payloads


def unsound_markers(workspace: Workspace) -> list[str]:
    """Markers that parse although their payload is missing or has another digest: true of no state whatsoever."""
    return [
        f"wrong: {path.name} names {_payload(path, facts).name}, whose bytes differ or are missing"
        for path, facts in _facts(workspace)
        if _digest(_payload(path, facts)) != facts["payload"]["sha256"]
    ]


def torn_files(workspace: Workspace) -> list[str]:
    """Published files that are not complete. A kill alone never leaves one; a power cut may, before anybody repairs it."""
    markers = [f"wrong: {path.name} does not parse" for path in _markers(workspace) if _parsed(path) is None]
    payloads = [
        f"wrong: {path.name} has not the bytes its name says"
        for path in workspace.root.glob("*/*/shards/*/job_*")
        if not (_digest(path) or path.name).startswith(path.name.split(".")[1])
    ]
    return [*markers, *payloads]


class Ledger:
    """Remembers what was committed when it was first seen, and says when that changes."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._committed: dict[Path, str] = {}

    def look(self) -> list[str]:
        """Violations since the last look: a commitment that vanished or names other bytes, or a marker that lies."""
        violations = unsound_markers(self.workspace)
        named = {path: str(facts["payload"]["sha256"]) for path, facts in _facts(self.workspace)}
        for path, sha256 in self._committed.items():
            if path not in named:
                violations.append(f"lost: the committed {path.name} is gone")
            elif named[path] != sha256:
                violations.append(f"wrong: {path.name} names other bytes than when it was committed")
        self._committed |= named
        return violations

    def forget(self) -> None:
        """Begins anew: for campaigns that damage what was committed, or retry it."""
        self._committed.clear()


def age(folder: Path, seconds: float = 3600, pattern: str = "*") -> None:
    """Makes every such file below `folder` look untouched for a while, as a lease or a sweep sees it."""
    then = time.time() - seconds
    for path in folder.rglob(pattern):
        if path.is_file():
            os.utime(path, (then, then))


def _queue_flaws(rows: list[dict[str, str]], expected: Expected) -> Iterator[str]:
    ranges = [(row["folder"], int(row["start"]), int(row["stop"])) for row in rows]
    for folder in {folder for folder, _, _ in expected}:
        wanted = {item for name, start, stop in expected if name == folder for item in range(start, stop)}
        held = [item for name, start, stop in ranges if name == folder for item in range(start, stop)]
        if wanted - set(held):
            yield f"lost: items {sorted(wanted - set(held))} of {folder} are in no job"
        if len(held) > len(set(held)):
            yield f"duplicated: {len(held) - len(set(held))} items of {folder} are in two jobs"
        if set(held) - wanted:
            yield f"wrong: items {sorted(set(held) - wanted)} of {folder} were never enqueued"


def _job_flaws(
    row: dict[str, str], facts: dict[str, Any], payload: Path, expected: Expected, counts_items: bool
) -> Iterator[str]:
    if {key: str(value) for key, value in facts["job"].items()} != row:
        yield f"wrong: the marker of {row['job_id']} is of another job"
    start, stop = int(row["start"]), int(row["stop"])
    count = stop - start if counts_items else 0
    if (facts["items"], facts["ok"], facts["failed"]) != (count, count, []):
        yield f"lost: {row['job_id']} committed {facts['ok']} of {count} innocent items"
    if not payload.is_file():
        yield f"lost: the payload of {row['job_id']} is missing"
        return
    if _digest(payload) != facts["payload"]["sha256"]:
        yield f"wrong: the payload of {row['job_id']} has another digest than its marker"
    if expected.get((row["folder"], start, stop), b"") != payload.read_bytes():
        yield f"wrong: {row['job_id']} has other bytes than in an uninterrupted run"


def _quarantined(workspace: Workspace) -> Iterator[str]:
    failed: dict[str, set[int]] = {}
    forgiven: dict[str, int] = {}
    for path in workspace.root.glob("*/*/claims/*/job_*"):
        job_id, attempt, *outcome = path.name.split(".")
        if outcome == ["failed"]:
            failed.setdefault(job_id, set()).add(int(attempt[1:]))
        elif outcome == ["retry"]:
            forgiven[job_id] = max(forgiven.get(job_id, 0), int(attempt[1:]))
    for job_id, attempts in sorted(failed.items()):
        if sum(attempt > forgiven.get(job_id, 0) for attempt in attempts) >= _QUARANTINE:
            yield f"lost: the innocent {job_id} is quarantined"


def _leftovers(workspace: Workspace, named: set[Path]) -> Iterator[str]:
    strays = [path for path in workspace.root.glob("*/*/claims/*/*") if _CLAIM.fullmatch(path.name)]
    strays += workspace.root.glob("*/*/claims/*/blocks/*")
    unnamed = [path for path in workspace.root.glob("*/*/shards/*/*") if path not in named]
    for path in sorted({*strays, *unnamed, *workspace.workers.glob("*"), *workspace.root.rglob(".tmp-*")}):
        yield f"orphan: {path.relative_to(workspace.root)}"


def _markers(workspace: Workspace) -> list[Path]:
    return sorted(workspace.root.glob("*/*/done/*/job_*.done"))


def _facts(workspace: Workspace) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in _markers(workspace):
        facts = _parsed(path)
        if facts is not None:
            yield path, facts


def _parsed(path: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(path.read_bytes())
        return facts if {"job", "payload", "items", "ok", "failed"} <= facts.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _payload(marker: Path, facts: dict[str, Any]) -> Path:
    return marker.parents[2] / "shards" / marker.parent.name / str(facts["payload"]["name"])


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _group(row: dict[str, str]) -> str:
    return f"{int(row['job_id'][4:]) // 1000:04d}"
