import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.experiments.config import HeadConfig
from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.heads.parameters import STATE
from headstart.experiments.heads.pass_plan import plan_pass
from headstart.experiments.heads.trainer import Trainer, train
from headstart.experiments.training.state.checkpoints import Checkpoints
from headstart.features.accelerators import DEVICE_KINDS
from headstart.pipeline.errors import HeadstartError, InterruptedWork, TryLaterError
from headstart.pipeline.files import FileSystem
from headstart.pipeline.liveness import process_token
from tests.experiments.killed import HEADS, OPTIONS, data, outcome_of
from tests.experiments.training.loops import leave_after
from tests.experiments.trainings import CLASSES, NUMBERS

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def kept(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", FileSystem())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> str:
    return outcome_of(tmp_path_factory.mktemp("whole") / "checkpoints")


def interrupt(folder, chunks=5):
    with pytest.raises(InterruptedWork):
        outcome_of(folder, leave_after(chunks))


def killed_at(folder, events) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.experiments.killed", str(folder), *map(str, events)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    deaths, outcome = json.loads(done.stdout)
    return deaths, outcome


@pytest.mark.parametrize("device", ["cuda:0", "xpu:0", "mps"])
def test_a_state_of_a_device_that_is_not_here_comes_back_on_the_cpu(device, kept, monkeypatch):
    for kind in DEVICE_KINDS.values():
        monkeypatch.setattr(type(kind), "count", lambda self: int(self.name == "cpu"))
    with monkeypatch.context() as there:
        there.setattr(torch.serialization, "location_tag", lambda storage: device)
        kept.keep(1, "of a test", {"weights": torch.arange(3.0)})
    weights = kept.latest("of a test")["weights"]
    assert weights.device == torch.device("cpu")
    assert weights.tolist() == [0, 1, 2]


def test_states_of_another_version_give_way_and_those_of_another_training_are_refused(kept):
    old, other, mine = "0" * 64, "v2-" + "1" * 64, "v2-" + "2" * 64
    for step in range(10, 14):
        kept.keep(step, old, {"step": step})
    assert kept.latest(mine) is None
    kept.keep(1, mine, {"step": 1})  # fewer steps than those had
    assert kept.latest(mine) == {"step": 1}
    kept.keep(2, other, {"step": 2})
    with pytest.raises(HeadstartError, match="another --name"):
        kept.latest(mine)


def test_killed_again_and_again_it_ends_in_the_same_bits(tmp_path, uninterrupted):
    draw = random.Random(0)
    events = [draw.randrange(1, 16) for _ in range(14)]
    deaths, outcome = killed_at(tmp_path / "checkpoints", events)
    assert deaths >= 8
    assert outcome == uninterrupted


def test_killed_at_every_point_of_keeping_a_state_it_ends_in_the_same_bits(tmp_path, uninterrupted):
    # One chunk, and what it takes to make a folder and publish a file: each point before and after.
    deaths, outcome = killed_at(tmp_path / "checkpoints", range(1, 14))
    assert deaths == 13
    assert outcome == uninterrupted


@pytest.mark.parametrize("chunks", [1, 2, 3, 4, 6])
def test_left_anywhere_it_ends_in_the_same_bits(kept, uninterrupted, chunks):
    interrupt(kept.folder, chunks)
    assert outcome_of(kept.folder) == uninterrupted


FIELDS = ["0.values", "0.first", "0.second", "1.running", "0.loss_sums", "scaling.mean", "scaling.inverse_scale"]


@pytest.mark.parametrize("field", FIELDS)
def test_a_state_without_one_field_ends_otherwise(kept, uninterrupted, field):
    interrupt(kept.folder, 6)
    planned = plan_pass(data(), HEADS, OPTIONS)
    state = kept.latest(planned.identity)
    assert state is not None
    state[field] = torch.zeros_like(state[field])
    trainer = Trainer(data(), HEADS, OPTIONS, planned, state)
    trainer.run(None, lambda: None, lambda *_: None)
    outcomes = [[outcome.head.digest, outcome.best_epoch, outcome.history] for outcome in trainer.outcomes()]
    assert json.dumps(outcomes) != uninterrupted


@pytest.mark.parametrize("field", ["0.best", "1.best_running"])
def test_a_state_without_the_best_heads_gives_others_if_nothing_better_comes(kept, field):
    interrupt(kept.folder, 6)
    digests = []
    for left_out in (None, field):
        planned = plan_pass(data(), HEADS, OPTIONS)
        state = kept.latest(planned.identity)
        assert state is not None
        facts = json.loads(state["facts"])
        for progress in facts["progress"]:
            progress["best"] = [1e9, 1e9]
        state["facts"] = json.dumps(facts)
        if left_out:
            state[left_out] = torch.zeros_like(state[left_out])
        trainer = Trainer(data(), HEADS, OPTIONS, planned, state)
        digests.append([outcome.head.digest for outcome in trainer.outcomes()])
    assert digests[0] != digests[1]


def test_every_field_of_the_state_is_among_those_that_were_left_out():
    assert {field.split(".")[1] for field in FIELDS if field[0].isdigit()} | {"best", "best_running"} == {*STATE, "loss_sums"}


@pytest.mark.parametrize(
    "harm",
    [lambda d: d[: len(d) // 2], lambda d: b"", lambda d: d[:5000] + bytes([d[5000] ^ 1]) + d[5001:]],
    ids=["cut off", "empty", "a flipped bit"],
)
def test_a_torn_state_falls_back_to_the_one_before(kept, uninterrupted, harm):
    interrupt(kept.folder, 4)
    newest = sorted(kept.folder.glob("step_*"))[-1]
    newest.write_bytes(harm(newest.read_bytes()))
    assert outcome_of(kept.folder) == uninterrupted


def test_a_state_that_was_torn_is_written_again(kept):
    kept.keep(1, "me", {"facts": "{}"})
    [state] = kept.folder.glob("step_*")
    state.write_bytes(b"")
    kept.keep(1, "me", {"facts": "{}"})
    assert kept.latest("me") == {"facts": "{}"}


def test_when_every_state_is_torn_it_begins_anew(kept, uninterrupted):
    interrupt(kept.folder, 4)
    for path in kept.folder.glob("step_*"):
        path.write_bytes(b"")
    assert outcome_of(kept.folder) == uninterrupted


def test_the_last_five_states_are_kept_and_what_a_killed_writer_left_is_swept(kept):
    kept.folder.mkdir()
    machine = process_token(os.getpid()).split("-")[0]
    (kept.folder / f".tmp-{machine}-999999999-5-0").write_bytes(b"half a state")
    for step in range(1, 9):
        kept.keep(step, "me", {"facts": "{}", "tensor": torch.full((3,), float(step))})
    assert [int(path.name[5:15]) for path in sorted(kept.folder.glob("step_*"))] == [4, 5, 6, 7, 8]
    assert not list(kept.folder.glob(".tmp-*"))


CHANGES = {
    "a configuration": lambda: (data(), [*HEADS[:2], replace(HEADS[2], learning_rate=0.2)], OPTIONS),
    "one more head": lambda: (data(), [*HEADS, HeadConfig(name="new")], OPTIONS),
    "an option": lambda: (data(), HEADS, replace(OPTIONS, seed=1)),
    "the features": lambda: (replace(data(), source=ArrayFeatures(data().source.features * 2)), HEADS, OPTIONS),
    "the split": lambda: (replace(data(), train=data().train[1:]), HEADS, OPTIONS),
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES)
def test_a_training_that_changed_is_refused_and_never_mixed(kept, changed):
    interrupt(kept.folder, 2)
    with pytest.raises(HeadstartError, match="other features, configurations or options"):
        train(*changed(), kept)


CODES = replace(CLASSES.targets, codes=CLASSES.targets.codes[::-1].copy())
VALUES = replace(NUMBERS.targets, values=NUMBERS.targets.values + 1)
COLUMNS = np.zeros((400, 1), np.float32)
SEEN = {
    "validation": (CLASSES, replace(CLASSES, val=CLASSES.val[1:])),
    "classes": (CLASSES, replace(CLASSES, targets=CODES)),
    "numbers": (NUMBERS, replace(NUMBERS, targets=VALUES)),
    "columns": (replace(CLASSES, auxiliary=COLUMNS), replace(CLASSES, auxiliary=COLUMNS + 1)),
}


@pytest.mark.parametrize(("one", "other"), SEEN.values(), ids=SEEN)
def test_whatever_a_training_sees_is_part_of_its_identity(one, other):
    assert plan_pass(one, [HeadConfig()], OPTIONS).identity != plan_pass(other, [HeadConfig()], OPTIONS).identity


class Noted:
    """Keeps no state and notes when it was to."""

    def __init__(self):
        self.steps = []

    def latest(self, identity):
        return None

    def keep(self, step, identity, state):
        self.steps.append(step)


@pytest.mark.parametrize("seconds", [0, 1e9])
def test_states_are_kept_as_often_as_is_asked_for_and_at_the_end(seconds):
    noted = Noted()
    outcomes = train(data(), HEADS, replace(OPTIONS, checkpoint_s=seconds), noted)
    assert noted.steps[-1] == max(len(outcome.history) * outcome.steps_per_epoch for outcome in outcomes)
    assert len(noted.steps) >= OPTIONS.epochs if seconds == 0 else len(noted.steps) == 1


def test_how_often_states_are_kept_is_no_change(kept, uninterrupted):
    interrupt(kept.folder, 3)
    outcomes = train(data(), HEADS, replace(OPTIONS, checkpoint_s=99), kept)
    assert json.dumps([[o.head.digest, o.best_epoch, o.history] for o in outcomes]) == uninterrupted


def test_a_full_disk_loses_nothing(kept, monkeypatch):
    kept.keep(1, "me", {"facts": "{}"})

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TryLaterError, match="free some space"):
            kept.keep(2, "me", {"facts": "{}"})
    assert [path.name[:15] for path in kept.folder.iterdir()] == ["step_0000000001"]
    assert kept.latest("me") == {"facts": "{}"}
