"""Trains a recipe as `train` does, in children that are killed at chosen events, then to the end; prints what came out.

python -m tests.jobs.killed_model FOLDER RECIPE EVENT...     options in $KILLED_OPTIONS, as JSON; $KILLED_TENSORBOARD: with it

After each death the files are judged as in the kill storm: what they violate is printed, too.
An event is the begin or the end of a file operation, of a batch of rows in the database, or a look whether to leave: the
number of one of all, or of one sort, `link:2`.
"""

import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from headstart.experiments.runs.beginning.begin_recipe import begin_recipe
from headstart.experiments.runs.database import database
from headstart.experiments.training.conduct import Conduct
from headstart.experiments.training.options import options_from
from headstart.experiments.training.recipe import has, load_recipe, load_recipe_file, recipe_path
from headstart.pipeline import worker
from headstart.pipeline.doors.code import read_code
from headstart.pipeline.enqueue import enqueue_work
from headstart.pipeline.kinds import Settings
from headstart.pipeline.stop import Stop
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import Workspace, open_or_create_workspace
from tests.experiments.killed import fatal_tick, watched
from tests.faults.invariants import Ledger, torn_files

from .killed_head import in_a_child

OPERATIONS = ("fsync", "link", "unlink", "replace", "mkdir")
POINTS = (*OPERATIONS, "replace_experiment", "check")
QUICK = {"epochs": 2, "threads": 1}


def train_to_the_end(workspace: Workspace, name: str) -> int:
    """What the command does; returns the worker's exit status."""
    file = recipe_path(name) if not name.endswith(".py") else Path(name)
    recipe = load_recipe_file(read_code(file)) if name.endswith(".py") else load_recipe(name)
    options = options_from(recipe.Options, {**QUICK, **json.loads(os.environ.get("KILLED_OPTIONS", "{}"))})
    if has(recipe, "needs"):
        enqueue_work(workspace, recipe.needs(options, workspace))
        Worker(workspace, Settings(), Limits(kinds=frozenset({"activations"})), lambda finished: None).run()
    conduct = Conduct(save_every=1, tensorboard="KILLED_TENSORBOARD" in os.environ)
    begun = begin_recipe(workspace, recipe, file, options, conduct, "killed")
    limits = Limits(only=frozenset({begun.job.job_id}))
    return Worker(workspace, Settings(), limits, lambda finished: None).run().exit_code


def outcome_of(workspace: Workspace) -> dict[str, str]:
    """sha256 of every file that the training leaves for its user, and of the rows of the database."""
    [folder] = workspace.experiments.glob("exp_*_killed")
    paths = [*folder.glob("*.json"), *folder.glob("*.txt"), *folder.glob("*/*.py"), *folder.glob("shards/*/job_*")]
    paths += [
        *folder.glob("checkpoints/*.safetensors"),
        *folder.glob("checkpoints/step_*"),
        *folder.glob("shown/*"),
        *folder.glob("figures/*"),
    ]
    # What a kill cut short is no result: verify --repair removes it.
    whole = [path for path in sorted(paths) if not path.name.startswith(".tmp-")]
    result = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in whole}
    connection = sqlite3.connect(workspace.database)
    for table in ("runs", "metrics"):
        rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4").fetchall()
        result[table] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    connection.close()
    return result


def tick_at(tick: Callable[[], None], points: tuple[str, ...]) -> None:
    for name in OPERATIONS:
        if name in points:
            setattr(os, name, watched(getattr(os, name), tick))
    for name in ("replace_experiment",):
        if name in points:
            setattr(database.Database, name, watched(getattr(database.Database, name), tick))
    if "check" in points:
        Stop.check = watched(Stop.check, tick)


def run_and_kill(root: Path, name: str, event: int, points: tuple[str, ...]) -> None:
    tick_at(fatal_tick(event), points)
    train_to_the_end(open_or_create_workspace(root), name)


def count_events(root: Path, name: str) -> None:
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    workspace = open_or_create_workspace(root)
    tick_at(tick, POINTS)
    train_to_the_end(workspace, name)
    (workspace.root / "events").write_text(str(count))


def main() -> None:
    import scipy.stats
    import timm
    import torch
    from sklearn.datasets import load_digits

    torch.set_num_threads(1)
    assert scipy.stats, (load_digits, timm)
    worker.DEATHS = sys.maxsize
    root, name = Path(sys.argv[1]), sys.argv[2]
    workspace = open_or_create_workspace(root)
    deaths, violations, ledger = 0, list[str](), Ledger(workspace)
    for word in sys.argv[3:]:
        point, _, number = word.rpartition(":")
        deaths += in_a_child(lambda: run_and_kill(root, name, int(number), (point,) if point else POINTS))  # noqa: B023
        violations += [*ledger.look(), *torn_files(workspace)]
    in_a_child(lambda: count_events(root, name))
    events = int((root / "events").read_text())
    print(json.dumps([deaths, events, outcome_of(workspace), [*violations, *ledger.look()]]))


if __name__ == "__main__":
    main()
