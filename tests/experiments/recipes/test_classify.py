import json

import numpy as np
import pytest
from PIL import Image

from headstart.experiments.runs.recipe_experiment import list_recipe_experiments
from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call

from .on_fake_gpu import ends_as_on_the_cpu

QUICK = (
    "--encoder",
    "test_resnet",
    "--image-size",
    32,
    "--epochs",
    3,
    "--batch-size",
    16,
    "--threads",
    1,
    "--learning-rate",
    3e-3,
)


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))


def photos(folder, count=40, size=36):
    """Two classes that differ in brightness."""
    draw = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(draw.normal(level, 30, (size, size, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder


@pytest.fixture
def data(tmp_path):
    return photos(tmp_path / "photos")


def train(root, *arguments):
    return call("train", "classify", *arguments, "-w", root / "workspace")


def folder_of(root, number=1):
    return root / "workspace" / "experiments" / f"exp_{number:04}_classify"


def test_a_folder_is_learnt_judged_predicted_and_exported(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = train(tmp_path, data, *QUICK)
    assert done.status == 0, done.errors
    metrics = json.loads((folder_of(tmp_path) / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] >= 0.9
    workspace = ("-w", tmp_path / "workspace")
    assert "exp_0001_classify" in call("runs", *workspace).output
    assert call("runs", "show", 1, "--json", *workspace).json["test"] == metrics["test"]
    judged = call("evaluate", 1, "--json", *workspace)
    assert judged.json["accuracy"] == metrics["test"]["accuracy"]
    assert "warning" not in judged.errors
    (tmp_path / "broken.png").write_bytes(b"no image")
    said = call("predict", data / "dark" / "000.png", tmp_path / "broken.png", "--run", 1, "--json", *workspace)
    assert said.status == 1
    first, second = said.json["predictions"]
    assert first["probabilities"]["dark"] > 0.5
    assert second["error"].startswith("not_an_image")
    shown = call("predict", data / "dark", tmp_path / "broken.png", "--run", 1, "--top", 2, *workspace).output.splitlines()
    assert shown[0].split() == ["image", "label", "prob.", "no.", "2", "prob."]
    assert shown[1].split()[1::2] == ["dark", "light"]
    assert "not_an_image" in shown[-1]
    assert call("predict", data / "dark" / "000.png", "--run", 1, "--csv", *workspace).output.startswith(
        "path,label,probability,error"
    )
    assert train(tmp_path, data, *QUICK, "--epochs", 1, "--learning-rate", 0).status == 0
    compared = call("runs", "compare", 1, 2, "--json", *workspace).json["comparisons"][0]
    worse = json.loads((folder_of(tmp_path, 2) / "metrics.json").read_text())["test"]["accuracy"]
    assert compared["difference"] == pytest.approx(metrics["test"]["accuracy"] - worse)
    assert compared["only_first_right"] - compared["only_second_right"] == round(compared["difference"] * metrics["rows"]["test"])
    assert "A is better" in call("runs", "compare", 1, 2, *workspace).output
    Image.new("RGB", (40, 40), "white").save(data / "light" / "new.png")
    assert train(tmp_path, data, *QUICK, "--epochs", 1).status == 0
    assert "not judged on the same test rows" in call("runs", "compare", 1, 3, *workspace).reason
    for form in ("onnx", "torchscript"):
        exported = call("export", "--run", 1, "--format", form, "--json", *workspace)
        assert exported.status == 0, exported.errors
        assert exported.json["largest_difference"] < 1e-4


def test_an_enqueued_data_set_keeps_its_rows_when_images_are_added_to_it(data, tmp_path):
    assert "left;" in train(tmp_path, data, *QUICK, "--time-limit", "0s").errors
    workspace = open_workspace(tmp_path / "workspace")
    [old] = list_recipe_experiments(workspace)
    Image.new("RGB", (40, 40), "white").save(data / "light" / "new.png")
    assert train(tmp_path, data, *QUICK, "--max-steps", 1, "--epochs", 1).status == 0
    new = list_recipe_experiments(workspace)[1]
    assert sum(new.counts.values()) == sum(old.counts.values()) + 1
    assert call("work", "-w", workspace.root).status == 0
    assert old.final_weights.exists()
    assert call("status", "-w", workspace.root).status == 0


def test_status_says_where_an_unfinished_training_is(data, tmp_path):
    train(tmp_path, data, *QUICK, "--epochs", 100_000, "--time-limit", "6s", "--save-every", 1)
    assert "  step    " in call("status", "-w", tmp_path / "workspace").output


def test_a_broken_image_is_left_out_counted_and_does_not_move_the_others(data, tmp_path):
    options = (*QUICK, "--max-steps", 3)
    train(tmp_path, data, *options)
    before = json.loads((folder_of(tmp_path) / "metrics.json").read_text())
    assert before["broken_rows"] == {}
    for path in (data / "dark").glob("00[0-9].png"):
        facts = path.stat()
        path.write_bytes(b"\0" * facts.st_size)
        import os

        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    done = train(tmp_path, data, *options, "--name", "again")
    assert done.status == 0, done.errors
    notes = " ".join(
        json.loads((tmp_path / "workspace" / "experiments" / "exp_0002_again" / "metrics.json").read_text())["notes"]
    )
    assert "could not be made and was left out" in notes
    assert "not_an_image" in notes


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param(("--mixup", 0.5, "--cutmix", 0.5), None, id="mixup and cutmix"),
        pytest.param(("--class-weights", "balanced", "--label-smoothing", 0.1), None, id="weights and smoothing"),
        pytest.param(("--auto-augment", "rand-m5", "--erase", 0.3, "--drop", 0.2), None, id="augmentation by timm"),
        pytest.param(("--ema", 0.5, "--amp", "bfloat16", "--clip", 1, "--accumulation", 2), None, id="ema, bfloat16, clipping"),
        pytest.param(("--gradient-checkpointing",), None, id="gradient checkpointing"),
        pytest.param(("--encoder", "resnett10"), "timm has no encoder 'resnett10'", id="no such model"),
    ],
)
def test_options_of_training_train_or_are_one_line(options, reason, data, tmp_path):
    done = train(tmp_path, data, *QUICK, "--max-steps", 2, *options)
    assert done.status == (0 if reason is None else 1), done.errors
    if reason is not None:
        assert reason in done.reason


def test_data_without_labels_or_that_is_not_there_is_one_line(tmp_path):
    (tmp_path / "flat").mkdir()
    for number in range(20):
        Image.new("RGB", (9, 9)).save(tmp_path / "flat" / f"{number}.png")
    assert "has a label" in train(tmp_path, tmp_path / "flat", *QUICK).reason
    assert "no data set is called 'nothing'" in train(tmp_path, "nothing", *QUICK).reason


def test_data_that_is_gone_in_the_middle_costs_nothing_and_is_one_line(data, tmp_path):
    assert "left;" in train(tmp_path, data, *QUICK, "--time-limit", "0s").errors
    data.rename(tmp_path / "elsewhere")
    gone = train(tmp_path, data, *QUICK)
    assert gone.status == 75
    assert "is gone" in gone.errors.strip().splitlines()[-1]
    (tmp_path / "elsewhere").rename(data)
    assert train(tmp_path, data, *QUICK).status == 0


def test_a_gpu_of_apple_s_is_asked_for_nothing_that_it_lacks(data, tmp_path, monkeypatch):
    ends_as_on_the_cpu(("classify", data, *QUICK), tmp_path / "w", monkeypatch)
