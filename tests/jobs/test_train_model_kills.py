import json
import os
import random
import subprocess
import sys

import pytest

from headstart.pipeline.verify import sweep, verify
from headstart.pipeline.workspace import open_workspace
from tests.faults.invariants import age, check_drained, payloads_of
from tests.support import ROOT

from .killed_model import POINTS


def killed(root, recipe, events, **more):
    """Deaths, events and what came out; nothing that the kill storm looks for was ever violated."""
    command = [sys.executable, "-m", "tests.jobs.killed_model", str(root), recipe, *map(str, events)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "HEADSTART_CONFIG": str(root.parent / "configuration"), **more}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    deaths, count, outcome, violations = json.loads(done.stdout)
    assert violations == []
    return deaths, count, outcome


def leftovers(root, expected):
    """What the kill storm's invariants say after a repair; `expected`: payloads of an uninterrupted run."""
    workspace = open_workspace(root)
    found = verify(workspace)
    assert found.torn == []
    age(root, pattern=".tmp-*")
    sweep(verify(workspace).orphans)
    return check_drained(workspace, expected, counts_items=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Of an uninterrupted training: how many events it has, what comes out, and its payload."""
    root = tmp_path_factory.mktemp("whole") / "workspace"
    _, events, outcome = killed(root, "tiny", [])
    assert {"runs", "metrics", "metrics.json", "test_results.json", "checkpoints/final.safetensors"} <= outcome.keys()
    return events, outcome, payloads_of(open_workspace(root))


def test_killed_again_and_again_every_byte_and_every_row_is_that_of_an_uninterrupted_one(whole, tmp_path):
    events, outcome, payloads = whole
    draw = random.Random(0)
    moments = [draw.randrange(1, events // 10) for _ in range(8)] + [draw.randrange(1, 60) for _ in range(4)]
    deaths, _, found = killed(tmp_path / "workspace", "tiny", moments)
    assert deaths >= 10
    assert found == outcome
    assert leftovers(tmp_path / "workspace", payloads) == []


def test_killed_before_and_after_each_named_point_ends_the_same(whole, tmp_path):
    moments = [f"{point}:{number}" for point in POINTS for number in (1, 2)]
    deaths, _, found = killed(tmp_path / "workspace", "tiny", moments)
    assert deaths == len(moments)
    assert found == whole[1]
    assert leftovers(tmp_path / "workspace", whole[2]) == []


def test_tensorboard_has_every_scalar_once_in_order_after_three_kills(tmp_path):
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard is not installed: pip install 'headstart[tensorboard]'",
    )
    # Right after a state was published: its steps never come again. And twice in the middle of a step.
    deaths, _, _ = killed(tmp_path / "workspace", "tiny", ["link:14", "check:20", "link:10"], KILLED_TENSORBOARD="1")
    assert deaths == 3
    folder = tmp_path / "workspace" / "experiments" / "exp_0001_killed"
    events = reader.EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    history = json.loads((folder / "training_history.json").read_text())["entries"]
    assert "Train/BatchLoss" in events.Tags()["scalars"]
    assert "Epoch/ValAcc" in events.Tags()["scalars"]
    for tag in events.Tags()["scalars"]:
        steps = [event.step for event in events.Scalars(tag)]
        assert steps == (list(range(1, 41)) if tag.startswith("Train/") else [entry["step"] for entry in history]), tag
