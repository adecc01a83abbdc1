"""Launches in a process of their own, of jobs that any launched worker knows, and what must be true after them."""

import subprocess
import sys
import time
from pathlib import Path

from headstart.pipeline.files import TEMPORARY_PREFIX
from headstart.pipeline.verify import verify
from headstart.pipeline.worker import run_job
from headstart.pipeline.workspace import open_or_create_workspace, open_workspace
from tests.support import ROOT, enqueue_fakes

LAUNCHED = Path(__file__).resolve().parents[2] / "launched"
PATIENCE_S = 120.0


def workspace_of(root: Path, jobs: int, is_slow: bool = False):
    workspace = open_or_create_workspace(root)
    enqueue_fakes(workspace, jobs * 10)
    if is_slow:
        (workspace.root / "features/fake/slow").touch()  # 0.4 s a job
    return workspace


def launch(workspace, *arguments) -> subprocess.Popen:
    """`headstart launch`, as a user types it."""
    command = [sys.executable, str(ROOT / "cli.py"), "launch", "-w", str(workspace.root), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen) -> str:
    """What it said, once it has ended well."""
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, (process.returncode, errors)
    return output + errors


def wait_until(what, timeout_s: float = PATIENCE_S):
    """What `what` answers when it answers something true."""
    end = time.monotonic() + timeout_s
    while not (answer := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return answer


def done(workspace) -> int:
    return len(list(workspace.root.glob("features/fake/done/*/*.done")))


def outcome(workspace) -> dict[str, bytes]:
    """Payloads by name, of jobs that are all sound: nothing lost, nothing twice, nothing torn."""
    findings = verify(open_workspace(workspace.root), deep=True)
    assert (findings.pending, findings.torn, findings.problems) == (0, [], [])
    # What a worker that was killed between writing and renaming left behind stays until `verify --repair`.
    leftovers = {path for path in findings.orphans if path.name.startswith(TEMPORARY_PREFIX)}
    payloads = set(workspace.root.glob("features/fake/shards/*/*")) - leftovers
    return {path.name: path.read_bytes() for path in payloads}


def outcome_of_one(folder: Path, jobs: int) -> dict[str, bytes]:
    """The same of jobs that were done one after the other in this process."""
    workspace = workspace_of(folder, jobs)
    for number in range(jobs):
        run_job(workspace, f"job_{number:06d}")
    return outcome(workspace)
