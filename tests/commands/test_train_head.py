import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headstart.experiments.runs.database.database import open_database
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_workspace
from tests.features.packed import Extracted
from tests.support import ROOT, run_cli

from .training import QUICK, record, run


def test_it_trains_tells_and_then_says_that_it_is_done(root):
    first = run_cli("train-head", "--ablation", *QUICK, "-w", root)
    assert first.returncode == 0, first.stderr
    assert "features of 600 of 600 images" in first.stderr
    assert re.search(
        r"epoch 2 of at most 2  3 heads in training  (lowest|best) validation [a-z]+ so far: \d\.\d{4} \([a-z0-9-]+\)",
        first.stderr,
    )
    assert "mlp-512-augmented (hidden layer of 512, on features varied at random), beside baselines" in first.stderr
    for name in ("linear", "mlp-512", "mlp-512-augmented", "ridge", "lda", "nearest-mean"):
        assert re.search(
            rf"^[* ]  +\d+  {name} +0\.\d{{4}} +0\.\d{{4}}  0\.\d{{4}} to [01]\.\d{{4}}(  +baseline: [a-z,: ]+)?$",
            first.stdout,
            re.MULTILINE,
        ), name
    assert len(re.findall(r"^\*", first.stdout, re.MULTILINE)) == 1
    again = run(root, "--ablation")
    assert again.exception is None
    assert "is finished: the same heads on the same 360 training images" in again.stderr
    assert "epoch" not in again.stderr
    assert again.stdout == first.stdout


def test_scripts_get_json_with_an_interval_for_every_number(root):
    found = record(root, "--hidden", "16,8", "--dropout", "0.2,0.1", "--seeds", "2", "--name", "mine")
    assert found["experiment"] == "exp_0001_mine"
    assert [head["head"] for head in found["heads"]] == ["mlp-16-8-s0", "mlp-16-8-s1"]
    assert found["rows"] == {"train": 360, "val": 120, "test": 120, "images": 600}
    for entry in [*found["heads"], *found["baselines"]]:
        low, high = entry["test"]["interval"]
        assert low <= entry["test"]["value"] <= high


def test_every_option_reaches_the_head_that_is_trained(root):
    words = [
        "--hidden", "16", "--activation", "gelu", "--batch-norm", "--dropout", "0.1", "--output", "sigmoid", "--optimizer",
        "sgd", "--learning-rate", "0.02", "--momentum", "0.8", "--weight-decay", "0.001", "--label-smoothing", "0.05",
        "--noise", "0.1", "--mixup", "0.3", "--clip-norm", "2", "--class-weights", "balanced", "--seed", "5", "--epochs",
        "3", "--batch-size", "16", "--accumulation", "2", "--warmup", "0.2", "--patience", "4", "--monitor", "loss",
        "--by-blocks", "--amp",
    ]  # fmt: skip
    folder = record(root, *words)["folder"]
    facts = json.loads(Path(folder, "experiment.json").read_text())
    assert facts["heads"] == [
        {
            "name": "mlp-16", "hidden": [16], "activation": "gelu", "batch_norm": True, "dropout": 0.1, "output": "sigmoid",
            "optimizer": "sgd", "learning_rate": 0.02, "momentum": 0.8, "weight_decay": 0.001, "label_smoothing": 0.05,
            "noise": 0.1, "mixup": 0.3, "clip_norm": 2.0, "class_weights": "balanced", "seed": 5,
        }
    ]  # fmt: skip
    assert facts["options"] == {
        "epochs": 3, "batch_size": 16, "accumulation": 2, "warmup": 0.2, "patience": 4, "monitor": "loss", "seed": 5,
        "by_blocks": True, "device": "cpu", "amp": True,
    }  # fmt: skip


def test_the_preset_quality_is_wired_to_columns_of_the_table(root):
    found = record(root, "--preset", "quality", "--target", "score", "--aux", "size", "--aux", "score")
    facts = json.loads(Path(found["folder"], "experiment.json").read_text())
    assert (facts["task"], facts["targets"], facts["auxiliary"]) == ("regression", ["score"], ["size", "score"])
    [head] = facts["heads"]
    assert (head["hidden"], head["dropout"], head["output"]) == ([1024, 512, 256], [0.3, 0.2, 0.1], "sigmoid")
    assert (head["batch_norm"], facts["options"]["monitor"]) == (True, "pearson")
    assert found["heads"][0]["test"]["metric"] == "pearson"


def test_more_baselines_stand_beside_the_others(root):
    plain = record(root, "--no-logistic")
    found = record(root, "--logistic", "--folds", "4", "--name", "more")
    assert [entry["baseline"] for entry in found["baselines"]] == ["ridge", "ridge-4-fold", "logistic", "lda", "nearest-mean"]
    assert [entry for entry in found["baselines"] if entry["baseline"] in ("ridge", "lda", "nearest-mean")] == plain["baselines"]
    crossed = found["baselines"][1]["cross_validation"]
    assert len(crossed["scores"]) == 4
    shown = run(root, "--logistic", "--folds", "4", "--name", "more").stdout
    assert re.search(
        r"^[* ]  +\d+  logistic +0\.\d{4} +0\.\d{4}  0\.\d{4} to [01]\.\d{4}  +baseline: logistic regression: [a-z ,]+$",
        shown,
        re.MULTILINE,
    )
    assert (
        f"ridge-4-fold: accuracy {crossed['mean']:.4f} on average over 4 folds of the training images, "
        f"standard deviation {crossed['spread']:.4f}"
    ) in shown


def test_a_grid_file_multiplies_out(root, tmp_path):
    (tmp_path / "grid.yaml").write_text("hidden: [0, 16]\nlearning_rate: [0.001, 0.01]\n")
    found = record(root, "--ablation", tmp_path / "grid.yaml")
    assert [head["head"] for head in found["heads"]] == ["linear_lr-0.001", "linear_lr-0.01", "mlp-16_lr-0.001", "mlp-16_lr-0.01"]


def test_the_table_is_sorted_by_validation_and_marks_the_chosen_head(root, tmp_path):
    rates = ", ".join(f"{0.0001 * 1.3**i:.6f}" for i in range(22))
    (tmp_path / "grid.yaml").write_text(f"learning_rate: [{rates}]")
    shown = run(root, "--ablation", tmp_path / "grid.yaml").stdout.splitlines()
    rows = [line[2:].split() for line in shown[2:22]]
    scores = [float(row[2]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert "  and 6 more heads in metrics.json" in shown
    chosen = record(root, "--ablation", tmp_path / "grid.yaml")["selected"]
    assert [line[2:].split()[1] for line in shown if line.startswith("*")] == [chosen]


def test_before_extraction_is_finished_it_says_on_how_many_it_trains(root):
    job = next(path for path in root.glob("features/encoder_*/done/*/*.done"))
    job.unlink()
    assert "features of 500 of 600 images" in run(root).stderr


def test_lost_files_are_made_again_in_the_same_bytes(root):
    folder = open_workspace(root).experiments / "exp_0001_linear"
    run(root)
    before = (folder / "checkpoints" / "best_head.pt").read_bytes()
    (folder / "checkpoints" / "best_head.pt").write_bytes(b"harmed")
    assert "lost checkpoints/best_head.pt; it is made again" in run(root).stderr
    assert (folder / "checkpoints" / "best_head.pt").read_bytes() == before


ENDLESS = ("train-head", "--hidden", "512", "--epochs", "100000", "--batch-size", "32")


def test_a_time_limit_leaves_and_says_how_to_go_on(root):
    left = run_cli(*ENDLESS, "--time-limit", "3s", "-w", root)
    assert left.returncode == 10, left.stderr
    assert "left; the same command goes on" in left.stderr
    assert not list(root.glob("experiments/*/claims/*/*"))


@pytest.mark.parametrize("words", [[], ["--time-limit", "1h"]], ids=["no limit", "long before its limit"])
def test_a_signal_leaves_and_gives_the_job_back(root, words):
    command = [sys.executable, str(ROOT / "cli.py"), *ENDLESS, *words, "-w", str(root)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        while not re.search(r"epoch (?!1/)\d", training.stderr.readline()):  # the first that a log shows after its first
            assert training.poll() is None
        training.send_signal(signal.SIGTERM)
        training.communicate()
    assert training.returncode == 143
    assert not list(root.glob("experiments/*/claims/*/*"))


def emptied(path):
    path.write_bytes(b"")


def newer(path):
    import sqlite3

    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        pytest.param(emptied, "is empty or of another program", id="emptied"),
        pytest.param(newer, "Upgrade: pip install", id="newer"),
        pytest.param(cut, "is damaged", id="cut off"),
    ],
)
def test_a_harmed_database_is_never_taken_for_a_new_one_and_loses_no_training(root, harm, said):
    with open_database(open_workspace(root).database) as database:
        database.begin_run("exp_0000", "old", "classification", {})
    for rest in root.glob("experiments/experiments.db-*"):
        rest.unlink()
    kept = (root / "experiments" / "experiments.db").read_bytes()
    harm(root / "experiments" / "experiments.db")
    for _ in range(4):  # more often than it takes to be quarantined
        with pytest.raises(HeadstartError, match=said):
            raise run(root).exception
    (root / "experiments" / "experiments.db").write_bytes(kept)
    done = run(root)
    assert done.exception is None
    with open_database(open_workspace(root).database) as database:
        assert [found.head for found in database.runs()][:2] == ["old", "linear"]


def test_a_data_set_alone_is_learnt_from_when_it_is_named(root):
    other = Extracted(open_workspace(root), embed_dim=12, name="other")
    other.jobs.extend([None] * 20)
    other.add(np.random.default_rng(0).standard_normal((40, 12)), ["a", "b"] * 20, ["train"] * 30 + ["test"] * 10)
    images = {}
    for folder in open_workspace(root).manifests.iterdir():
        found = record(root, "--data", folder.name)
        assert record(root, "--data", folder.name[-6:])["folder"] == found["folder"]  # a part of the name says as much
        assert json.loads(Path(found["folder"], "experiment.json").read_text())["dataset"] == f"features/manifests/{folder.name}"
        images[found["folder"]] = found["rows"]["images"]
    assert sorted(images.values()) == [40, 600]


def test_features_of_several_encoders_need_a_choice(root):
    other = Extracted(open_workspace(root), embed_dim=3, weights="33" * 32, name="other")
    other.jobs.extend([None] * 20)
    other.add(np.random.default_rng(0).standard_normal((40, 3)), [f"{i % 2}" for i in range(40)], ["train"] * 30 + ["test"] * 10)
    assert "has features of 2 encoders" in str(run(root).exception)
    assert "may be" in str(run(root, "--encoder", "tiny").exception)
    rows = record(root, "--encoder", other.folder.name, "--val-part", "0.2")["rows"]
    assert rows == {"train": 24, "val": 6, "test": 10, "images": 40}


@pytest.mark.parametrize(("words", "val"), [([], 8), (["--val-part", "0.25"], 20)], ids=["a tenth", "what is asked for"])
def test_without_a_validation_split_a_part_of_the_training_images_is_set_aside(workspace, words, val):
    made = Extracted(workspace, job_size=50)
    made.add(np.random.default_rng(0).standard_normal((100, 4)), ["a", "b"] * 50, ["train"] * 80 + ["test"] * 20)
    assert record(workspace.root, *words)["rows"] == {"train": 80 - val, "val": val, "test": 20, "images": 100}
