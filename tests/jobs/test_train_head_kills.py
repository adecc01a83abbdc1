import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from headstart.experiments.heads import trainer
from headstart.experiments.linear import logistic
from headstart.experiments.runs.head_experiment import best_head_path
from headstart.experiments.training.state.checkpoints import Checkpoints
from headstart.pipeline.errors import InterruptedWork
from headstart.pipeline.verify import sweep, verify
from headstart.pipeline.workspace import open_workspace
from tests.support import ROOT

from .killed_head import BASELINES, OPTIONS, outcome_of
from .trained_head import begun, session_of, worked


def test_a_signal_leaves_with_a_checkpoint_and_the_next_one_goes_on(ready, monkeypatch):
    training = begun(ready)
    session = session_of(ready, training)
    calls = iter(range(4))

    def check():
        if next(calls, None) is None:
            raise InterruptedWork

    with pytest.raises(InterruptedWork):
        session.compute(session.prepare(training.job), check)
    [state] = best_head_path(training.experiment).parent.glob(
        "step_*"
    )  # ten seconds have not passed: it was kept because of the signal
    assert int(state.name[5:15]) > 0
    restored = []
    plain = trainer.Trainer._restore
    monkeypatch.setattr(trainer.Trainer, "_restore", lambda self, *given: restored.append(self) or plain(self, *given))
    worked(ready)
    assert len(restored) == 1


def leave_in_the_middle_of_an_epoch(workspace, training):
    calls = iter(range(4))

    def check():
        if next(calls, None) is None:
            raise InterruptedWork

    session = session_of(workspace, training)
    with pytest.raises(InterruptedWork):
        session.compute(session.prepare(training.job), check)


@pytest.mark.parametrize("field", ["0.values", "0.second", "1.running", "0.loss_sums", "scaling.mean"])
def test_a_resume_that_forgets_one_field_is_seen(ready, field, monkeypatch):
    training = begun(ready, options=replace(OPTIONS, patience=0))
    leave_in_the_middle_of_an_epoch(ready, training)
    copy = ready.root.parent / "forgetful"
    shutil.copytree(ready.root, copy)
    worked(ready)
    plain = Checkpoints.latest

    def forgetful(self, identity):
        state = plain(self, identity)
        assert state is not None
        return {**state, field: torch.zeros_like(state[field])}

    monkeypatch.setattr(Checkpoints, "latest", forgetful)
    other = open_workspace(copy)
    worked(other)
    assert outcome_of(other)["training_history.json"] != outcome_of(ready)["training_history.json"]


def test_a_checkpoint_with_a_flipped_bit_falls_back_and_ends_the_same(ready, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "whole")
    whole = open_workspace(tmp_path / "whole")
    begun(whole)
    worked(whole)
    training = begun(ready)
    leave_in_the_middle_of_an_epoch(ready, training)
    [state] = best_head_path(training.experiment).parent.glob("step_*")
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 1
    state.write_bytes(data)
    worked(ready)
    assert outcome_of(ready) == outcome_of(whole)


def test_who_leaves_while_baselines_are_fitted_ends_in_the_same_bytes(ready, prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared, tmp_path / "whole")
    whole = open_workspace(tmp_path / "whole")
    begun(whole, baselines=BASELINES)
    worked(whole)
    training = begun(ready, baselines=BASELINES)
    session, passes, plain = session_of(ready, training), iter(range(3)), logistic.likelihood

    def left(*arguments):
        if next(passes, None) is None:
            raise InterruptedWork
        return plain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(logistic, "likelihood", left)
        with pytest.raises(InterruptedWork):
            session.compute(session.prepare(training.job), lambda: None)
    assert not (training.experiment.folder / "metrics.json").exists()
    worked(ready)
    judged = json.loads((training.experiment.folder / "metrics.json").read_text())
    assert {entry["baseline"] for entry in judged["baselines"]} > {"logistic", "ridge-3-fold"}
    assert outcome_of(ready) == outcome_of(whole)


def killed(root, events):
    command = [sys.executable, "-m", "tests.jobs.killed_head", str(root), *map(str, events)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_killed_again_and_again_every_byte_and_every_row_is_that_of_an_uninterrupted_one(prepared, tmp_path):
    for name in ("whole", "killed"):
        shutil.copytree(prepared, tmp_path / name)
    _, events, expected = killed(tmp_path / "whole", [])
    draw = random.Random(0)
    # Early ones first: each child goes on where the one before it was killed, and has fewer events left.
    moments = [draw.randrange(1, events // 2) for _ in range(3)] + [draw.randrange(1, 60) for _ in range(3)]
    deaths, _, outcome = killed(tmp_path / "killed", moments)
    assert deaths >= 3
    assert outcome == expected
    left = verify(open_workspace(tmp_path / "killed"))
    assert left.torn == []
    sweep(left.orphans)
