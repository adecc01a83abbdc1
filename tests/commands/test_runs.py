import json
import os
import shutil
import sqlite3
from dataclasses import replace

import numpy as np
import pytest

from headstart.commands.output.run import verdict
from headstart.experiments.evaluation import evaluate_run
from headstart.experiments.runs.catalog import averaged, goodness
from headstart.experiments.runs.database.database import Database, Run
from tests.support import run_python

from .calling import call


def test_runs_stand_in_a_table_with_their_numbers_the_newest_last(trained):
    lines = call("runs", "-w", trained.root).output.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["1", "exp_0001_ablation", "linear"],
        ["2", "exp_0001_ablation", "mlp-512"],
        ["3", "exp_0001_ablation", "mlp-512-augmented"],
        ["4", "exp_0001_ablation", "ridge"],
        ["5", "exp_0001_ablation", "logistic"],
        ["6", "exp_0001_ablation", "lda"],
        ["7", "exp_0001_ablation", "nearest-mean"],
    ]
    notes = json.loads((trained.experiments / "exp_0001_ablation" / "metrics.json").read_text())
    for line, entry in zip(lines[1:], [*notes["heads"], *notes["baselines"]], strict=True):
        low, high = entry["test"]["accuracy_interval"]
        wanted = f"90  accuracy      {entry['val']['accuracy']:.4f}  {entry['test']['accuracy']:.4f}  {low:.4f} to {high:.4f}"
        assert line.endswith(wanted)


def test_a_list_of_runs_reads_no_epoch_of_theirs(trained, monkeypatch):
    monkeypatch.setattr(Database, "metrics", lambda self, run: pytest.fail(f"read all of run {run}"))
    assert [line["run"] for line in call("runs", "--json", "-w", trained.root).json["runs"]] == [1, 2, 3, 4, 5, 6, 7]


def test_runs_of_numbers_show_the_correlation_averaged_over_targets(measured):
    line, *_ = call("runs", "--json", "-w", measured.root).json["runs"]
    notes = json.loads((measured.experiments / line["experiment"] / "metrics.json").read_text())
    targets = notes["heads"][0]["val"]["targets"].values()
    assert line["metric"] == "pearson"
    assert line["validation"] == pytest.approx(sum(target["pearson"] for target in targets) / 2)
    assert line["interval"] is None


def test_a_correlation_within_groups_is_not_averaged_with_that_over_all():
    found = {"a.pearson": 0.5, "a.within_groups.pearson": 0.1, "b.pearson": 0.7}
    assert averaged(found, "pearson") == pytest.approx(0.6)
    assert averaged({"a.pearson": 0.5, "b.pearson": None}, "pearson") is None


@pytest.mark.parametrize(("task", "name"), [("regression", "mse"), ("classification", "log_loss")])
def test_the_smaller_loss_is_better(task, name):
    run = Run(1, "exp_0001_ablation", "linear", task, {})
    assert goodness(run, {"val": {name: 0.1}}, "loss") > goodness(run, {"val": {name: 0.2}}, "loss")


def test_a_list_of_runs_loads_nothing_heavy(trained):
    code = "sys.argv = ['headstart', 'runs', '-w', sys.argv[1]]\nfrom headstart.cli import _run\n_run()\nprint(*sys.modules)"
    status, output, errors = run_python(code, str(trained.root))
    assert status == 0, errors
    assert "mlp-512" in output
    assert not {"numpy", "torch", "pandas", "h5py", "sklearn", "onnxruntime", "PIL"} & set(output.split())


def test_a_run_is_shown_with_configuration_history_metrics_and_classes(trained):
    shown = call("runs", "show", "2", "-w", trained.root).output
    for part in ("run 2 (mlp-512 of exp_0001_ablation)", "hidden [512]", "epochs 3", "train loss", "log_loss", "class (test)"):
        assert part in shown
    record = call("runs", "show", "2", "--json", "-w", trained.root).json
    assert len(record["history"]) == 3
    assert set(record["history"][0]) == {"step", "train_loss", "val_loss", "val_accuracy"}
    assert record["metrics"]["test"]["images"] == record["rows"]["test"]
    assert set(record["per_class"]["test"]) == {"a", "b", "c"}


def test_two_heads_are_compared_on_the_same_test_images(trained):
    found = call("runs", "compare", "3", "1", "--json", "-w", trained.root).json
    noted = json.loads((trained.experiments / "exp_0001_ablation" / "metrics.json").read_text())
    [result] = found["comparisons"]
    accuracy = {entry["head"]: entry["test"]["accuracy"] for entry in noted["heads"]}
    assert result["difference"] == pytest.approx(accuracy["mlp-512-augmented"] - accuracy["linear"])
    assert result["interval"][0] <= result["difference"] <= result["interval"][1]
    turned = call("runs", "compare", "1", "3", "--json", "-w", trained.root).json["comparisons"][0]
    assert turned["difference"] == pytest.approx(-result["difference"])
    assert "McNemar" in call("runs", "compare", "3", "1", "-w", trained.root).output


COUNTS = {"only_first_right": 9, "only_second_right": 1, "p": 0.01}
VERDICTS = {
    "more right": ({"metric": "accuracy", "difference": 0.1, "interval": [0.05, 0.2], **COUNTS}, "A"),
    "fewer right": ({"metric": "accuracy", "difference": -0.1, "interval": [-0.2, -0.05], **COUNTS}, "B"),
    "less error": ({"metric": "mse of x", "difference": -0.1, "interval": [-0.2, -0.05]}, "A"),
}


@pytest.mark.parametrize(("comparison", "better"), VERDICTS.values(), ids=VERDICTS)
def test_better_is_who_has_more_right_or_less_error(comparison, better):
    assert verdict(comparison).endswith(f"{better} is better on these images.")


def test_a_head_does_not_differ_from_itself(measured):
    text = call("runs", "compare", "1", "1", "-w", measured.root).output
    assert text.count("do not tell them apart") == 2


def with_rows(monkeypatch, choose):
    """From now on run 1 has only the test rows that `choose` picks of their positions, in that order."""
    real = evaluate_run.score_run

    def score(workspace, chosen, split):
        scored = real(workspace, chosen, split)
        if chosen.run.run != 1:
            return scored
        picked = choose(np.arange(len(scored.positions)))
        return replace(scored, positions=scored.positions[picked], scores=scored.scores[picked])

    monkeypatch.setattr(evaluate_run, "score_run", score)


def test_runs_on_other_test_images_are_not_compared(trained, monkeypatch):
    with_rows(monkeypatch, lambda places: places[1:])
    done = call("runs", "compare", "3", "1", "-w", trained.root)
    assert done.status == 1
    assert "was tested on 13 images" in done.reason
    assert "on 12, and 12 are the same" in done.reason


def test_the_order_of_test_images_does_not_matter(trained, monkeypatch):
    expected = call("runs", "compare", "3", "1", "-w", trained.root).output
    with_rows(monkeypatch, lambda places: places[::-1])
    assert call("runs", "compare", "3", "1", "-w", trained.root).output == expected


def test_runs_with_other_targets_are_not_compared(own, measured):
    shutil.copytree(next(measured.experiments.glob("exp_*")), own.experiments / "exp_0002_other")
    encoder = next(measured.features.glob("encoder_*"))
    shutil.copytree(encoder, own.features / encoder.name, dirs_exist_ok=True)
    for manifest in measured.manifests.iterdir():
        shutil.copytree(manifest, own.manifests / manifest.name)
    [other, *_] = [run["run"] for run in call("runs", "--json", "-w", own.root).json["runs"] if "other" in run["experiment"]]
    done = call("runs", "compare", "1", other, "-w", own.root)
    assert done.status == 1
    assert "have different targets" in done.reason


def locked(workspace):
    connection = sqlite3.connect(workspace.database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("BEGIN EXCLUSIVE")
    return connection


def newer(workspace):
    with sqlite3.connect(workspace.database) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()


def without_results(workspace):
    (workspace.experiments / "exp_0001_ablation" / "metrics.json").unlink()


HARMS = {
    "no experiments": (lambda workspace: shutil.rmtree(workspace.experiments), 1, "has no finished run yet"),
    "only begun": (without_results, 1, "has no finished run yet"),
    "locked": (locked, 75, "is locked by another process"),
    "newer": (newer, 1, "has version 999"),
    "cut off": (lambda workspace: os.truncate(workspace.database, 5000), 1, "is damaged"),
    "a folder": (lambda workspace: (workspace.database.unlink(), workspace.database.mkdir()), 1, "cannot be written"),
}


@pytest.mark.parametrize(("harm", "status", "says"), HARMS.values(), ids=HARMS)
def test_runs_that_cannot_be_listed_are_explained_in_one_line(own, monkeypatch, harm, status, says):
    monkeypatch.setattr("headstart.experiments.runs.catalog._BUSY_S", 0.05)
    kept = harm(own)
    done = call("runs", "-w", own.root)
    assert done.status == status
    assert says in done.reason
    del kept


def test_a_run_whose_folder_is_gone_leaves_the_list(own):
    shutil.rmtree(own.experiments / "exp_0001_ablation")
    done = call("runs", "-w", own.root)
    assert done.status == 1
    assert "has no finished run yet" in done.reason


@pytest.mark.parametrize(("run", "near"), [("9", "7"), ("0", "1"), ("x", "7"), ("-1", "7")], ids=["high", "low", "text", "minus"])
def test_an_unknown_run_is_answered_with_one_that_there_is(trained, run, near):
    for command in (["runs", "show"], ["evaluate"]):
        done = call(*command, "-w", trained.root, "--", run)
        assert done.status == 1
        assert f"expected 'best' or a number such as {near}. See which there are: headstart runs" in done.reason
