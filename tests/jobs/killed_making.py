"""Makes the items of a user's file in children that are killed at chosen events, then to the end; prints what came out.

python -m tests.jobs.killed_making FOLDER FILE EVENT...     an event as in `killed_model`
"""

import hashlib
import json
import sys
from pathlib import Path

from headstart.experiments.make_items import make_items
from headstart.pipeline import worker
from headstart.pipeline.workspace import Workspace, open_or_create_workspace
from tests.experiments.killed import fatal_tick
from tests.faults.invariants import Ledger, torn_files

from .killed_head import in_a_child
from .killed_model import OPERATIONS, tick_at

POINTS = (*OPERATIONS, "check")


def outcome_of(workspace: Workspace) -> dict[str, str]:
    """sha256 of all that a making leaves, by its place."""
    [folder] = workspace.features.glob("made_*")
    files = [*folder.glob("*.json"), *folder.glob("code/*"), *folder.glob("shards/*/job_*")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def run_and_kill(root: Path, file: str, event: int, points: tuple[str, ...]) -> None:
    tick_at(fatal_tick(event), points)
    make_items(file, {}, root)


def main() -> None:
    worker.DEATHS = sys.maxsize
    root, file = Path(sys.argv[1]), sys.argv[2]
    workspace = open_or_create_workspace(root)
    deaths, violations, ledger = 0, list[str](), Ledger(workspace)
    for word in sys.argv[3:]:
        point, _, number = word.rpartition(":")
        deaths += in_a_child(lambda: run_and_kill(root, file, int(number), (point,) if point else POINTS))  # noqa: B023
        violations += [*ledger.look(), *torn_files(workspace)]
    made = make_items(file, {}, root)
    print(json.dumps([deaths, made.is_finished, outcome_of(workspace), [*violations, *ledger.look()]]))


if __name__ == "__main__":
    main()
