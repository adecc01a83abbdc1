import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.commands.output.training import training_lines
from headstart.experiments.config import HeadConfig, TrainingOptions
from headstart.experiments.evaluation.record import as_record
from headstart.experiments.heads.trained_head import TrainedHead, read_head
from headstart.experiments.runs.beginning.begin_heads import Request, begin_heads
from headstart.experiments.runs.catalog import read_runs
from headstart.experiments.runs.database import synchronize
from headstart.experiments.runs.database.database import open_database
from headstart.experiments.runs.experiment_data import experiment_data
from headstart.experiments.runs.head_experiment import best_head_path, head_path
from headstart.features.store.packing import open_cache
from headstart.pipeline.errors import TryLaterError
from headstart.pipeline.retry import retry
from headstart.pipeline.status import quarantined_jobs, read_status
from headstart.pipeline.verify import verify
from headstart.pipeline.worker import run_job
from headstart.pipeline.workspace import open_workspace
from tests.fake_gpu import fake_gpu
from tests.support import ROOT

from .killed_head import HEADS, OPTIONS, outcome_of
from .trained_head import begun, worked


def test_a_worker_trains_it_and_every_file_says_the_same(ready):
    training = begun(ready)
    summary, _ = worked(ready)
    assert (summary.jobs, summary.items, summary.exit_code) == (1, 0, 0)
    folder = training.experiment.folder
    judged = json.loads((folder / "metrics.json").read_text())
    assert {entry["head"] for entry in judged["heads"]} == {head.name for head in HEADS}
    assert {entry["baseline"] for entry in judged["baselines"]} == {"ridge", "lda", "nearest-mean"}
    best = read_head(best_head_path(training.experiment))
    assert best.config.name == judged["selected"]
    assert best.digest == read_head(head_path(training.experiment, judged["selected"])).digest
    data = experiment_data(ready, training.experiment)
    said = best.scores(data.data.source, data.test).argmax(axis=1)
    accuracy = float((said == data.data.targets.codes[data.test]).mean())
    entries = {entry["head"]: entry for entry in judged["heads"]} | {entry["baseline"]: entry for entry in judged["baselines"]}
    entry = entries[judged["selected"]]
    assert entry["test"]["accuracy"] == pytest.approx(accuracy)
    with open_database(ready.database) as database:
        run = next(run for run in database.runs() if run.head == judged["selected"])
        rows = {(m.step, m.split, m.metric): m.value for m in database.metrics(run.run)}
    assert rows[entry.get("steps", 0), "test", "accuracy"] == entry["test"]["accuracy"]
    history = json.loads((folder / "training_history.json").read_text())["heads"]["linear"]["epochs"]
    with open_database(ready.database) as database:
        run = next(run for run in database.runs() if run.head == "linear")
        rows = {(m.step, m.split, m.metric): m.value for m in database.metrics(run.run)}
    assert rows[75 // 2 + 1, "train", "loss"] == history[0]["train_loss"]
    assert "accuracy" in (folder / "classification_report.txt").read_text()


def test_a_worker_that_shares_its_gpu_between_no_threads_trains_heads_on_the_cpu_and_says_so(ready, monkeypatch, capsys):
    begun(ready)
    with fake_gpu(monkeypatch, "mps") as gpu:
        assert worked(ready, "mps")[0].jobs == 1
        assert gpu.held_bytes() == 0
    note = "heads are trained on the CPU: by several threads, and nothing says that these may share mps"
    assert note in capsys.readouterr().err


def test_no_head_reads_a_split_twice(ready, monkeypatch):
    read, plain = [], TrainedHead.scores
    monkeypatch.setattr(
        TrainedHead,
        "scores",
        lambda self, source, rows, *rest: read.append((self.config.name, rows[0])) or plain(self, source, rows, *rest),
    )
    begun(ready)
    worked(ready)
    assert len(read) == len(set(read)) == 2 * (len(HEADS) + 3)


def test_the_chosen_head_is_the_best_on_validation_not_on_test(ready):
    training = begun(ready)
    data = experiment_data(ready, training.experiment)
    worked(ready)
    names = [*(head.name for head in HEADS), "ridge", "lda", "nearest-mean"]
    scored = {name: read_head(head_path(training.experiment, name)).scores(data.data.source, data.data.val) for name in names}
    codes = torch.from_numpy(data.data.targets.codes[data.data.val])
    loss = {name: float(torch.nn.functional.cross_entropy(torch.from_numpy(s), codes)) for name, s in scored.items()}
    judged = json.loads((training.experiment.folder / "metrics.json").read_text())
    assert judged["selected"] == min(loss, key=loss.get)


def test_done_once_it_is_never_done_again(ready):
    training = begun(ready)
    marker = run_job(ready, training.job.job_id)
    before = outcome_of(ready)
    assert run_job(ready, training.job.job_id) == marker
    assert worked(ready)[0].jobs == 0
    assert outcome_of(ready) == before


def test_status_verify_and_repair_know_it(ready):
    training = begun(ready)
    worked(ready)
    before = outcome_of(ready)
    tally = read_status(ready).folders["train_head", ready.relative(training.experiment.folder)]
    assert (tally.jobs, tally.done) == (1, 1)
    payload = next(training.experiment.folder.glob("shards/*/*"))
    payload.write_bytes(payload.read_bytes()[:-1] + b"!")
    [(torn, _)] = verify(ready, deep=True).torn
    assert torn == training.job
    ready.marker(torn).unlink()
    worked(ready)
    assert verify(ready, deep=True).torn == []
    assert outcome_of(ready) == before


def test_a_training_that_cannot_succeed_is_quarantined_and_holds_up_nobody(ready):
    bad = begun(ready, (HeadConfig(learning_rate=1e30, optimizer="sgd"),), name="bad")
    begun(ready, name="good")
    summary, heard = worked(ready)
    assert summary.jobs == 1
    assert "the learning rate is too high" in next(one.error for one in heard if one.error)
    assert [job for job, _ in quarantined_jobs(ready)] == [bad.job]
    assert retry(ready, frozenset({bad.job.job_id})) == [bad.job]


def test_a_head_that_diverges_costs_the_others_nothing(ready):
    # Its weights are NaN before the first epoch is over; the accuracy of its logits is still a number.
    lost = HeadConfig(name="lost", hidden=(16,), optimizer="sgd", learning_rate=30)
    training = begun(ready, (lost, HeadConfig()), replace(OPTIONS, monitor="accuracy", patience=0))
    summary, heard = worked(ready)
    assert (summary.jobs, [one.error for one in heard]) == (1, [None])
    folder = training.experiment.folder
    judged = json.loads((folder / "metrics.json").read_text())
    assert [(entry["has_diverged"], "test" in entry) for entry in judged["heads"]] == [(True, False), (False, True)]
    assert judged["selected"] != "lost"
    assert not head_path(training.experiment, "lost").exists()
    assert read_head(head_path(training.experiment, "linear")).config.name == "linear"
    assert next(line for line in training_lines(training.experiment, judged, ready.database) if " lost " in line).split() == [
        "lost",
        "diverged",
        "none",
    ]
    assert as_record(ready, training.experiment)["heads"][0] == {"head": "lost", "epochs": OPTIONS.epochs, "has_diverged": True}
    assert [run.head for run, _ in read_runs(ready)] == ["linear", "ridge", "lda", "nearest-mean"]


def test_heads_that_all_diverge_say_so(ready):
    begun(ready, (HeadConfig(hidden=(16,), optimizer="sgd", learning_rate=30),), replace(OPTIONS, monitor="accuracy"))
    assert {one.error.split(":")[-1] for one in worked(ready)[1]} == {" the learning rate is too high. Try a tenth of it"}


def test_a_full_disk_asks_to_try_later_and_loses_nothing(ready, monkeypatch):
    begun(ready)
    plain = os.fsync

    def full(descriptor):
        if "/checkpoints/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(28, "No space left on device")
        plain(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TryLaterError, match="free some space"):
            worked(ready)
    assert worked(ready)[0].jobs == 1
    assert not list(quarantined_jobs(ready))


def test_a_database_that_stays_locked_asks_to_try_later_and_then_has_every_row(ready, monkeypatch):
    begun(ready)
    with open_database(ready.database) as database:
        database._connection.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(synchronize, "open_database", lambda path, **options: open_database(path, 0.05))
        with pytest.raises(TryLaterError, match="locked by another process"):
            worked(ready)
        database._connection.execute("ROLLBACK")
    assert worked(ready)[0].jobs == 1
    with open_database(ready.database) as database:
        assert len(database.runs()) == 6


def test_regression_is_judged_by_correlation(ready):
    [encoder] = ready.features.glob("encoder_*")
    source = open_cache(encoder)
    random_ = np.random.default_rng(0)
    wanted = (source.take(np.arange(len(source))).astype(np.float64) @ random_.standard_normal(12)).tolist()
    from tests.features.packed import Extracted

    other = Extracted(open_workspace(ready.root), embed_dim=12, name="scores", weights="22" * 32, job_size=1000)
    other.jobs.extend([None] * 50)
    splits = ["train"] * 2400 + ["val"] * 800 + ["test"] * 800
    columns = {"score": [f"{value}" for value in wanted], "side": [f"{i % 5}" for i in range(4000)]}
    other.add(source.take(np.arange(4000)), [""] * 4000, splits, groups=[f"g{i % 40}" for i in range(4000)], extra=columns)
    heads, options = (HeadConfig(learning_rate=0.05),), TrainingOptions(epochs=5)
    training = begin_heads(ready, Request(open_cache(other.folder), "regression", ("score",), ("side",), heads, options))
    assert worked(ready)[0].jobs == 1
    judged = json.loads((training.experiment.folder / "metrics.json").read_text())
    [entry] = judged["heads"]
    assert entry["test"]["targets"]["score"]["pearson"] > 0.99
    assert entry["test"]["targets"]["score"]["within_groups"]["groups"] == 40
    assert [one["baseline"] for one in judged["baselines"]] == ["ridge", "mean"]
    assert judged["baselines"][0]["test"]["targets"]["score"]["r2"] > 0.99
    assert judged["baselines"][1]["test"]["targets"]["score"]["r2"] == pytest.approx(0, abs=0.02)
    assert not (training.experiment.folder / "classification_report.txt").exists()


def test_status_of_a_finished_training_is_quick_and_imports_nothing_heavy(ready):
    begun(ready)
    worked(ready)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from headstart.pipeline.status import read_status\nfrom headstart.pipeline.workspace import open_workspace\n"
        "print(len(read_status(open_workspace(Path(sys.argv[1]))).folders), *sys.modules)"
    )
    command = [sys.executable, "-c", code, str(ready.root)]
    begun_at = time.monotonic()
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert time.monotonic() - begun_at < 5
    assert output[0] == "2"
    assert not {"numpy", "torch", "h5py", "sklearn", "scipy", "pandas", "PIL"} & set(output)
