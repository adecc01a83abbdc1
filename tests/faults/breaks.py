"""Ways to break the engine, each of which at least one of the campaigns 1, 4 and 5 has to notice.

    python -m tests.faults.breaks

Prints for each break what each campaign reports; forked workers inherit the break.
"""

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from headstart.pipeline import claims, markers, verify, worker
from headstart.pipeline.claims import Claimant
from headstart.pipeline.files import FileSystem
from headstart.pipeline.workspace import Workspace

from . import kill_storm, processes, state_machine, zombies

CAMPAIGNS = {"kill storm": (kill_storm.run, 300), "zombies": (zombies.run, 200), "state machine": (state_machine.run, 30)}


def _publish_in_place(self: FileSystem, path: Path, data: bytes) -> bool:
    try:
        with open(path, "xb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        return True
    except FileExistsError:
        return False


def _publish_over(self: FileSystem, path: Path, data: bytes) -> bool:
    self.replace(path, data)
    return True


def _marker_first(workspace: Workspace, job: Any, fingerprint: str, result: Any) -> bool:
    sha256 = hashlib.sha256(result.payload).hexdigest()
    payload, marker = workspace.payload(job, sha256, result.suffix), workspace.marker(job)
    workspace.make_folder(payload.parent)
    workspace.make_folder(marker.parent)
    is_mine = workspace.files.publish(marker, markers._marker_bytes(job, fingerprint, payload.name, sha256, result))
    workspace.files.publish(payload, result.payload)
    return is_mine


def _create_anyway(self: Claimant, path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.link(self._file, path)


def _leave_with_all(self: Claimant) -> None:
    for path in [*self.workspace.root.glob("*/*/claims/*/job_*"), self._file]:
        path.unlink(missing_ok=True)


def _one_name(self: Workspace, job: Any, sha256: str, suffix: str) -> Path:
    return self.payloads(job) / f"{job.job_id}.{'0' * 16}{suffix}"


BREAKS: dict[str, tuple[tuple[Any, str, Any], ...]] = {
    "publish in place, not by link": ((FileSystem, "publish", _publish_in_place),),
    "publish over what is there": ((FileSystem, "publish", _publish_over),),
    "marker before payload": ((worker, "commit", _marker_first), (markers, "commit", _marker_first)),
    "payload not checked": ((markers, "_payload_flaw", lambda marker, deep: None),),
    "no digest in the payload's name": ((Workspace, "payload", _one_name),),
    "claims exclude nobody": ((Claimant, "_create", _create_anyway),),
    "others' claims are removed": ((Claimant, "leave", _leave_with_all),),
    "the dead seem alive": ((claims, "is_alive", lambda owner: True),),
    "temporaries are never swept": ((verify, "is_abandoned", lambda path: False),),
    "dead claims are never swept": ((verify, "is_claim", lambda name: False),),
}


@contextlib.contextmanager
def broken(name: str) -> Iterator[None]:
    """The engine with one break, in this process and all that it forks."""
    with contextlib.ExitStack() as stack:
        for target, attribute, value in BREAKS[name]:
            stack.enter_context(mock.patch.object(target, attribute, value))
        stack.enter_context(mock.patch.object(processes, "_PATIENCE_S", 3.0))
        yield


def noticed(name: str, campaign: str) -> str | None:
    """What the campaign says of a break; None if it noticed nothing."""
    run, count = CAMPAIGNS[campaign]
    with broken(name):
        try:
            report = run(count, 0)
        except AssertionError as error:  # not even the uninterrupted run held
            return str(error).splitlines()[0]
    return report.notes.split("; ", 1)[-1] if report.violations else None


def main() -> int:
    missed = []
    print("| break | kill storm | zombies | state machine |\n|---|---|---|---|", flush=True)
    for name in BREAKS:
        found = {campaign: noticed(name, campaign) for campaign in CAMPAIGNS}
        print(f"| {name} | {' | '.join('noticed' if text else '-' for text in found.values())} |", flush=True)
        missed += [name] if not any(found.values()) else []
    print(f"unnoticed: {missed or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
