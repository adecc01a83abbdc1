import json
import shutil
from unittest import mock

import numpy as np
import pytest

from headstart.experiments.heads.trained_head import read_head
from headstart.pipeline.doors.records import seal

from .calling import call

EXPERIMENT = "exp_0001_ablation"


def noted(workspace, name=EXPERIMENT):
    return json.loads((workspace.experiments / name / "metrics.json").read_text())


@pytest.mark.parametrize("split", ["test", "val"])
@pytest.mark.parametrize("run", [1, 2, 3])
def test_an_evaluation_repeats_the_numbers_of_training(trained, run, split):
    done = call("evaluate", run, "--split", split, "--json", "-w", trained.root)
    assert done.errors == ""
    entry = noted(trained)["heads"][run - 1]
    assert done.json["metrics"] == entry[split]
    assert done.json["is_as_noted"] is True
    assert set(done.json["baselines"]) == {"ridge", "logistic", "lda", "nearest-mean"}


@pytest.mark.parametrize("split", ["test", "val"])
def test_baselines_stand_beside_a_head_as_training_noted_them(trained, split):
    done = call("evaluate", 1, "--split", split, "--json", "-w", trained.root)
    assert done.json["baselines"] == {entry["baseline"]: entry[split] for entry in noted(trained)["baselines"]}


def test_an_evaluation_of_numbers_repeats_those_of_training(measured):
    done = call("evaluate", "1", "--json", "-w", measured.root)
    [experiment] = [path.name for path in measured.experiments.glob("exp_*")]
    assert done.json["metrics"] == noted(measured, experiment)["heads"][0]["test"]
    text = call("evaluate", "1", "-w", measured.root).output
    for part in ("target light", "target dark", "MSE", "R2", "Pearson", "Spearman", "baseline ridge", "within "):
        assert part in text


def test_a_report_has_everything_that_a_person_asks_for(trained):
    text = call("evaluate", "2", "-w", trained.root).output
    entry = noted(trained)["heads"][1]["test"]
    low, high = entry["accuracy_interval"]
    [line] = [line.split() for line in text.splitlines() if line.startswith("mlp-512 ")]
    assert line == ["mlp-512", *f"{entry['accuracy']:.4f} {low:.4f} to {high:.4f} {entry['macro_f1']:.4f}".split()]
    for part in ("baseline ridge", "always the commonest class", "log-loss", "ECE", "precision", "confusion matrix"):
        assert part in text
    matrix = [line.split()[1:] for line in text.splitlines()[-3:]]
    assert [[0 if cell == "." else int(cell) for cell in row] for row in matrix] == entry["confusion_matrix"]


def test_the_commonest_class_is_that_of_the_images_judged(trained):
    counts = [found["images"] for found in noted(trained)["heads"][0]["test"]["per_class"].values()]
    lines = call("evaluate", "1", "-w", trained.root).output.splitlines()
    assert f"{max(counts) / sum(counts):.4f}" in next(line for line in lines if "commonest" in line)


CHANGES = {
    "a number": (lambda entry: entry.update(log_loss=entry["log_loss"] + 1e-4), True),
    "a count": (lambda entry: entry["confusion_matrix"][0].__setitem__(0, 99), True),
    "a class": (lambda entry: entry["per_class"].pop("a"), True),
    "a bound": (lambda entry: entry["accuracy_interval"].__setitem__(1, 1.1), True),
    "the last bit": (lambda entry: entry.update(log_loss=entry["log_loss"] * (1 + 1e-15)), False),
}


@pytest.mark.parametrize(("change", "is_called_out"), CHANGES.values(), ids=CHANGES)
def test_numbers_that_differ_from_those_of_training_are_called_out(own, change, is_called_out):
    path = own.experiments / EXPERIMENT / "metrics.json"
    facts = json.loads(path.read_text())
    del facts["seal"]
    change(facts["heads"][0]["test"])
    path.write_bytes(seal(facts))
    done = call("evaluate", "1", "-w", own.root)
    assert done.status == 0
    assert ("not the numbers that training noted" in done.errors) == is_called_out


def test_what_a_head_says_of_each_image_adds_up_to_its_accuracy(trained):
    lines = [line.split(",") for line in call("evaluate", "2", "--csv", "-w", trained.root).output.splitlines()]
    assert lines[0] == ["path", "label", "probability", "true_label"]
    assert all(path[0] == true for path, _, _, true in lines[1:])
    right = [label == true for _, label, _, true in lines[1:]]
    assert np.mean(right) == pytest.approx(noted(trained)["heads"][1]["test"]["accuracy"])


def test_csv_of_numbers_has_what_is_true(measured):
    lines = [line.split(",") for line in call("evaluate", "--csv", "-w", measured.root).output.splitlines()]
    assert lines[0] == ["path", "light", "dark", "true_light", "true_dark"]
    table = (measured.root.parent / "data" / "table.csv").read_text().splitlines()[1:]
    wanted = {path: [float(light), float(dark)] for path, light, dark, *_ in (line.split(",") for line in table)}
    assert len(lines) > 1
    for path, *_, light, dark in lines[1:]:
        assert [float(light), float(dark)] == pytest.approx(wanted[path], rel=1e-6)


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "x.png"]], ids=["evaluate", "predict"])
def test_csv_and_json_exclude_each_other(trained, command):
    assert call(*command, "--csv", "--json", "-w", trained.root).status == 2


def set_validation(workspace, accuracies):
    """In the experiment's folder, from which the database is made again: accuracy by run."""
    path = workspace.experiments / EXPERIMENT / "metrics.json"
    facts = json.loads(path.read_text())
    del facts["seal"]
    for run, entry in enumerate([*facts["heads"], *facts["baselines"]], start=1):
        entry["val"]["accuracy"] = accuracies[run]
    path.write_bytes(seal(facts))


def chosen(workspace) -> int:
    return call("runs", "show", "best", "--json", "-w", workspace.root).json["run"]


@pytest.mark.parametrize("run", [1, 2, 3, 4, 7])
def test_best_is_the_run_that_did_best_on_validation(own, run):
    set_validation(own, {other: 0.9 if other == run else 0.5 for other in range(1, 8)})
    assert chosen(own) == run


def test_of_equals_the_simplest_is_best_and_of_these_the_newest(own):
    set_validation(own, {run: 1.0 if run in (1, 2, 3) else 0.5 for run in range(1, 8)})
    assert chosen(own) == 1
    set_validation(own, dict.fromkeys(range(1, 8), 1.0))
    heads = {run["run"]: run["head"] for run in call("runs", "--json", "-w", own.root).json["runs"]}
    assert heads[chosen(own)] == "nearest-mean"
    again = call("train-head", "--ablation", "--epochs", "3", "--name", "again", "-w", own.root)
    assert again.status == 0
    assert {run["head"] for run in call("runs", "--json", "-w", own.root).json["runs"]} == set(heads.values())


def test_an_experiment_that_is_not_finished_does_not_decide_what_is_best(own):
    best = chosen(own)
    shutil.copytree(own.experiments / EXPERIMENT, own.experiments / "exp_0002_begun")
    (own.experiments / "exp_0002_begun" / "metrics.json").unlink()
    assert chosen(own) == best


def test_best_looks_only_at_runs_with_the_targets_of_the_newest_experiment(own, measured):
    set_validation(own, dict.fromkeys(range(1, 8), 1.0))
    shutil.copytree(own.experiments / EXPERIMENT, own.experiments / "exp_0002_other")
    path = own.experiments / "exp_0002_other" / "metrics.json"
    facts = json.loads(path.read_text().replace('"c"', '"d"'))
    del facts["seal"]
    path.write_bytes(seal(facts))
    assert chosen(own) > 7


def newer(path):
    head = read_head(path)
    with mock.patch("headstart.experiments.heads.trained_head._WITHOUT_UNITS", 3):
        path.write_bytes(head.encode())


HARMS = {
    "missing": (lambda path: path.unlink(), "does not exist"),
    "empty": (lambda path: path.write_bytes(b""), "no head, or damaged"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "no head, or damaged"),
    "no head": (lambda path: path.write_bytes(b"something else" * 99), "no head, or damaged"),
    "newer": (newer, "has format 3, this version reads up to 2"),
}


@pytest.mark.parametrize(("harm", "says"), HARMS.values(), ids=HARMS)
@pytest.mark.parametrize("command", ["evaluate", "predict", "export"])
def test_a_head_that_cannot_be_read_is_explained_in_one_line(own, pictures, command, harm, says):
    for name in ("linear", "best_head"):
        harm(own.experiments / EXPERIMENT / "checkpoints" / f"{name}.pt")
    more = {"evaluate": ["1"], "predict": [pictures / "a", "--run", "1"], "export": ["--run", "1"]}[command]
    done = call(command, *more, "-w", own.root)
    assert done.status == 1
    assert says in done.reason


def test_the_best_head_is_read_from_the_copy_that_its_experiment_keeps(own):
    folder = own.experiments / EXPERIMENT / "checkpoints"
    selected = noted(own)["selected"]
    (folder / f"{selected}.pt").unlink()
    numbers = json.loads((own.experiments / EXPERIMENT / "runs.json").read_text())
    number = numbers[selected]
    assert call("evaluate", number, "-w", own.root).status == 0


GONE = {
    "rows": (lambda own: (own.experiments / EXPERIMENT / "rows.bin").unlink(), "rows.bin is missing or damaged"),
    "experiment": (lambda own: shutil.rmtree(own.experiments / EXPERIMENT), "has no finished run yet"),
    "notes": (lambda own: (own.experiments / EXPERIMENT / "metrics.json").write_text("{"), "metrics.json is damaged"),
}


@pytest.mark.parametrize(("harm", "says"), GONE.values(), ids=GONE)
def test_what_an_evaluation_lacks_is_named(own, harm, says):
    harm(own)
    done = call("evaluate", "1", "-w", own.root)
    assert done.status == 1
    assert says in done.reason
