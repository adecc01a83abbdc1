"""The recipe quantum on features of a few images: trained, resumed, judged, predicted with and exported."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.experiments.data.named_features import find_features
from headstart.experiments.recipes import quantum
from headstart.experiments.report.write_report import write_report
from headstart.experiments.training.data.batch import Batch, Facts
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call
from tests.support import killed_at_an_epoch

from .on_fake_gpu import ends_as_on_the_cpu

QUICK = ("--epochs", 6, "--batch-size", 16, "--learning-rate", 0.02)


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))


def photos(folder, first=0, count=40):
    """Two classes that differ in brightness."""
    draw = np.random.default_rng(first)
    for name, level in (("dark", 60), ("light", 190)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            pixels = np.clip(draw.normal(level, 30, (36, 36, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """A workspace with features of 80 images."""
    root = tmp_path_factory.mktemp("quantum")
    assert call("enqueue", photos(root / "photos"), "--weights", "embedded", "-w", root / "workspace").status == 0
    assert call("work", "-w", root / "workspace").status == 0
    return root / "workspace"


@pytest.fixture(scope="module")
def trained(extracted):
    done = call("train", "quantum", *QUICK, "-w", extracted)
    assert done.status == 0, done.errors
    return extracted


def test_three_heads_stand_in_one_table(trained):
    metrics = json.loads((trained / "experiments" / "exp_0001_quantum" / "test_results.json").read_text())
    said = {name: metrics[name] for name in ("accuracy", "accuracy_classical", "accuracy_linear")}
    assert min(said.values()) > 0.7
    heads = metrics["heads"]
    assert [head["head"] for head in heads] == ["quantum", "classical", "linear"]
    assert [head["accuracy"] for head in heads] == pytest.approx(list(said.values()))
    assert abs(heads[0]["parameters"] - heads[1]["parameters"]) <= 9  # one unit of the classical one is 9 numbers


def test_angles_of_the_circuit_are_followed_over_the_training_and_drawn(trained):
    folder = trained / "experiments" / "exp_0001_quantum"
    entries = json.loads((folder / "training_history.json").read_text())["entries"]
    course = [entry["followed"]["circuit"] for entry in entries]
    assert len(course) == 6
    assert len(course[0]) == 4 * 3 * 3
    assert all(course[0][name] != course[-1][name] for name in course[0] if "layer 0" in name and "theta" in name)
    best = json.loads((folder / "test_results.json").read_text())["circuit"]
    assert best in course
    written = write_report("1", trained)
    assert "How circuit went" in written.path.read_text()
    [numbers] = [path for path in written.figures if path.name == "followed_circuit.json"]
    assert len(json.loads(numbers.read_text())["numbers"]["theta of qubit 3, layer 2"]) == 6


def test_the_page_says_which_head_is_best_whichever_that_is(trained):
    heads = json.loads((trained / "experiments" / "exp_0001_quantum" / "test_results.json").read_text())["heads"]
    best = max(heads, key=lambda head: head["accuracy"])
    content = write_report("1", trained).path.read_text()
    assert f"The best is {best['head']} with" in content
    assert all(f'<th scope="row">{head["head"]}</th><td>{head["parameters"]:,}</td>' in content for head in heads)
    behind = best["accuracy"] - heads[0]["accuracy"]
    assert (f"quantum is {behind:.4f} behind it" in content) == (best is not heads[0])


def test_evaluate_says_the_same_again(trained):
    again = call("evaluate", 1, "--json", "-w", trained).json
    noted = json.loads((trained / "experiments" / "exp_0001_quantum" / "test_results.json").read_text())
    assert again["heads"] == noted["heads"]


def test_images_are_told_apart(trained, tmp_path):
    new = photos(tmp_path / "new", first=100, count=3)
    (new / "dark" / "broken.png").write_bytes(b"no image")
    said = call("predict", new, "--run", 1, "--json", "-w", trained).json["predictions"]
    by_class = {name: [one for one in said if f"/{name}/" in one["path"]] for name in ("dark", "light")}
    assert sum("error" in one for one in said) == 1
    right = [
        max(one["probabilities"], key=one["probabilities"].get) == name
        for name in by_class
        for one in by_class[name]
        if "error" not in one
    ]
    assert len(right) == 6
    assert sum(right) >= 5


@pytest.mark.parametrize("form", ["onnx", "torchscript", "pt2"])
def test_the_circuit_is_exported(trained, tmp_path, form):
    output = tmp_path / f"head.{form}"
    done = call("export", "--run", 1, "--format", form, "-o", output, "-w", trained)
    assert done.status == 0, done.errors
    assert output.stat().st_size > 1000


def test_pennylane_that_is_absent_is_one_line(extracted, monkeypatch):
    monkeypatch.setitem(sys.modules, "pennylane", None)
    done = call("train", "quantum", *QUICK, "--simulator", "pennylane", "-w", extracted)
    assert done.status == 1
    assert (
        done.errors.strip().splitlines()[-1].endswith("PennyLane is not installed. Install it: pip install 'headstart[quantum]'")
    )


def test_a_training_that_was_killed_ends_in_the_same_bits(extracted, trained):
    folders = []
    for name, kills in (("whole", 0), ("killed", 2)):
        words = ["train", "quantum", *QUICK, "--save-every", 2, "--seed", 1, "--name", name, "-w", extracted]
        killed_at_an_epoch(words, kills)
        folders.append(next((extracted / "experiments").glob(f"exp_*_{name}")) / "checkpoints" / "final.safetensors")
    assert folders[0].read_bytes() == folders[1].read_bytes()


def test_no_head_minds_the_others():
    about = Facts({"mean": [0.0] * 6, "scale": [1.0] * 6, "classes": ["a", "b"]})
    torch.manual_seed(0)
    model = quantum.model(quantum.Options(qubits=2), about)
    batch = Batch({"features": torch.randn(8, 6), "label": torch.arange(8) % 2})

    def gradients(name):
        """Of the loss of all heads, or of one."""
        model.zero_grad()
        value = quantum.loss(model, batch, None)[0]
        if name is not None:
            value = torch.nn.functional.cross_entropy(model.each(batch.features)[name], batch.label)
        value.backward()
        return {key: weight.grad.clone() for key, weight in model.named_parameters() if weight.grad is not None}

    together = gradients(None)
    for name in quantum.HEADS:
        alone = {key: value for key, value in gradients(name).items() if value.abs().sum() > 0}
        assert alone
        assert all(key.startswith(f"{name}.") and torch.equal(value, together[key]) for key, value in alone.items())


def test_rows_of_a_name_stay_what_they_were(tmp_path):
    data, root = photos(tmp_path / "photos", count=20), tmp_path / "workspace"
    call("enqueue", data, "--weights", "embedded", "-w", root)
    workspace = open_workspace(root)
    call("work", "-w", root)
    before, name = find_features(workspace, None)
    photos(data, first=50, count=10)
    call("enqueue", data, "-w", root)
    with pytest.raises(HeadstartError, match="not done, and a training keeps its rows\\. First: headstart work"):
        find_features(workspace, None)
    call("work", "-w", root)
    everything = np.arange(len(before))
    now, other_name = find_features(workspace, None)
    pinned, same_name = find_features(workspace, name)
    assert (len(before), len(now), same_name) == (40, 60, name)
    assert other_name != name
    assert (pinned.take(everything) == before.take(everything)).all()
    assert (pinned.labels == before.labels).all()
    assert (pinned.splits == before.splits).all()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param(["--qubits", 13], "expected", id="too many qubits"),
        pytest.param(["--layers", 0], "expected", id="no layer"),
        pytest.param(["encoder_none"], "has no features", id="no such encoder"),
        pytest.param(["encoder_none/photos@3.0"], "", id="no such name"),
    ],
)
def test_a_mistake_is_one_line(extracted, words, why):
    done = call("train", "quantum", *words, "-w", extracted)
    assert done.status in (1, 2)
    assert why in done.errors
    assert "Traceback" not in done.errors


def test_a_gpu_of_apple_s_is_asked_for_nothing_that_it_lacks(extracted, monkeypatch):
    ends_as_on_the_cpu(("quantum", *QUICK), extracted, monkeypatch)
