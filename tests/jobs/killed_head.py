"""Trains heads as `train-head` does, in children that are killed at chosen events, then to the end; prints what came out.

python -m tests.jobs.killed_head WORKSPACE EVENT...      an event is the begin or the end of a file operation, a batch of
                                                         rows in the database, or a chunk of the training
"""

import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from headstart.experiments.config import BaselineOptions, TrainingOptions
from headstart.experiments.heads import trainer
from headstart.experiments.runs.beginning.begin_heads import Request, begin_heads
from headstart.experiments.runs.database import database
from headstart.features.encoders.folder import chosen_encoder
from headstart.features.store.packing import open_cache
from headstart.pipeline import worker
from headstart.pipeline.kinds import Settings
from headstart.pipeline.stop import Stop
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import Workspace, open_or_create_workspace, open_workspace
from tests.experiments.killed import HEADS, fatal_tick, watched
from tests.experiments.samples import clouds
from tests.features.packed import Extracted

OPTIONS = TrainingOptions(epochs=3, batch_size=32, accumulation=2, patience=1, monitor="loss")
BASELINES = BaselineOptions(logistic=True, folds=3)
OPERATIONS = ("fsync", "link", "unlink", "replace", "mkdir")


def extracted(root: Path, count: int = 4000) -> Extracted:
    """A workspace whose features are there, with a train, a val and a test split."""
    made = clouds(count)
    result = Extracted(open_or_create_workspace(root), embed_dim=12, job_size=1000)
    splits = ["train"] * (count * 6 // 10) + ["val"] * (count * 2 // 10) + ["test"] * (count * 2 // 10)
    result.add(made.source.features, [made.targets.names[code] for code in made.targets.codes], splits)
    return result


def train_to_the_end(workspace: Workspace) -> int:
    """What the command does; returns the worker's exit status."""
    features = open_cache(chosen_encoder(workspace, None))
    request = Request(features, "classification", (), (), tuple(HEADS), OPTIONS, "killed", baselines=BASELINES)
    begun = begin_heads(workspace, request)
    limits = Limits(only=frozenset({begun.job.job_id}))
    return Worker(workspace, Settings(), limits, lambda finished: None).run().exit_code


def outcome_of(workspace: Workspace) -> dict[str, str]:
    """sha256 of every file that the training leaves for its user, and of the rows of the database."""
    folder = workspace.experiments / "exp_0001_killed"
    paths = [*folder.glob("*.json"), *folder.glob("*.txt"), *folder.glob("*.bin"), *folder.glob("shards/*/job_*")]
    paths += [path for path in folder.glob("checkpoints/*.pt") if not path.name.startswith("step_")]
    result = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}
    connection = sqlite3.connect(workspace.database)
    for table in ("runs", "metrics"):
        rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4").fetchall()
        result[table] = hashlib.sha256(json.dumps(rows).encode()).hexdigest() + f" {len(rows)} rows"
    connection.close()
    return result


def tick_at_each_event(tick: Callable[[], None]) -> None:
    """From now on `tick` is called before and after every operation that a kill could fall between."""

    for name in OPERATIONS:
        setattr(os, name, watched(getattr(os, name), tick))
    for name in ("replace_experiment",):
        setattr(database.Database, name, watched(getattr(database.Database, name), tick))
    Stop.check = watched(Stop.check, tick)


def kept_after_every_chunk() -> None:
    """States every ten seconds would be none at all in so short a training."""
    plain = trainer.train

    def often(data, heads, options, *others):
        return plain(data, heads, replace(options, checkpoint_s=0), *others)

    trainer.train = often


def begin_child(action: Callable[[], object]) -> int:
    """Its number. This process itself never starts a thread, so that forking stays safe."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child


def was_killed(child: int) -> bool:
    """Waits for its end. Raises: RuntimeError if it failed."""
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) and status != 0:
        raise RuntimeError(f"a child failed with status {status}")
    return os.WIFSIGNALED(status)


def in_a_child(action: Callable[[], object]) -> bool:
    """Whether it was killed."""
    return was_killed(begin_child(action))


def run_and_kill(workspace: Workspace, event: int) -> None:
    tick_at_each_event(fatal_tick(event))
    train_to_the_end(workspace)


def count_events(workspace: Workspace) -> None:
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    tick_at_each_event(tick)
    train_to_the_end(workspace)
    (workspace.root / "events").write_text(str(count))


def prepare() -> None:
    """Loads once, for all children, what a training loads; their states are kept after every chunk, however often they die."""
    import scipy.stats
    import sklearn.metrics
    import torch

    torch.set_num_threads(1)
    assert scipy.stats, sklearn.metrics
    kept_after_every_chunk()
    worker.DEATHS = sys.maxsize


def main() -> None:
    prepare()
    workspace = open_workspace(Path(sys.argv[1]))
    events = [int(word) for word in sys.argv[2:]]
    deaths = sum(in_a_child(lambda e=event: run_and_kill(workspace, e)) for event in events)
    in_a_child(lambda: count_events(workspace))
    print(json.dumps([deaths, int((workspace.root / "events").read_text()), outcome_of(workspace)]))


if __name__ == "__main__":
    main()
