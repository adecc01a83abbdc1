"""Several workers and many short calls: everything is done once, in the bits of one go."""

import re
import subprocess
import sys

import pytest

from headstart.pipeline.worker import Worker
from headstart.pipeline.workspace import open_workspace
from tests.experiments.recipes.test_classify import QUICK, photos
from tests.faults.invariants import queue_rows, torn_files, unsound_markers
from tests.jobs.killed_model import outcome_of
from tests.support import ROOT

from .calling import call

ENCODER = ("--encoder", "test_resnet", "--weights", "random:0", "--image-size", 32, "--job-size", 8)
NOW = ("--time-limit", "0s")  # no machine is so fast that it would be over


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))


def test_two_workers_do_extraction_an_ablation_of_heads_and_two_trainings_each_once(tmp_path):
    workspace = ("-w", tmp_path / "workspace")
    first, second = photos(tmp_path / "first", count=24), photos(tmp_path / "second", count=20, size=40)
    assert call("enqueue", first, *ENCODER, *workspace).status == 0
    assert call("work", *workspace).status == 0
    assert call("enqueue", second, *ENCODER, *workspace).status == 0
    for words in (
        ("train-head", "--ablation", "--epochs", 3),
        ("train", "tiny", "--epochs", 3),
        ("train", "classify", first, *QUICK),
    ):
        left = call(*words, *NOW, *workspace)
        assert left.status == 10, left.errors
    opened = open_workspace(tmp_path / "workspace")
    before = done(opened)
    left = len(queue_rows(opened)) - before
    kinds = {row["kind"] for row in queue_rows(opened)[before:]}
    assert kinds == {"extract", "train_head", "train_model"}

    command = [sys.executable, str(ROOT / "cli.py"), "work", *map(str, workspace)]
    workers = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    did = [int(count) for text in said for count in re.findall(r"(\d+) jobs? done", text)]
    assert sum(did) == left, said
    assert done(opened) == len(queue_rows(opened))
    assert [*torn_files(opened), *unsound_markers(opened)] == []
    runs = [(run["experiment"], run["head"]) for run in call("runs", "--json", *workspace).json["runs"]]
    assert len(runs) == len(set(runs))
    assert {"linear", "tiny", "classify"} <= {head.partition("-")[0] for _, head in runs}


def test_a_limit_of_time_in_a_loop_ends_in_the_bits_of_one_go(tmp_path, monkeypatch):
    # As if it took no time to begin: however slow the machine, the limit comes after the job was begun.
    monkeypatch.setattr(Worker, "_is_over", lambda worker: worker._taken > 0)
    words = ("train", "tiny", "--max-steps", 7, "--evaluate-every", 2, "--save-every", 1, "--name", "killed")
    calls = 1
    while (left := call(*words, *NOW, "-w", tmp_path / "loop")).status == 10:
        calls += 1
        assert calls <= 40, left.errors
    assert left.status == 0, left.errors
    assert calls > 3
    assert call(*words, "-w", tmp_path / "one").status == 0
    assert outcome_of(open_workspace(tmp_path / "loop")) == outcome_of(open_workspace(tmp_path / "one"))


def done(workspace):
    return len(list(workspace.root.glob("*/*/done/*/job_*.done")))
