import csv
import errno
import hashlib
import io
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from headstart.experiments.serving import export
from headstart.pipeline import paths

from .calling import call


@pytest.fixture(autouse=True)
def _few_calls(monkeypatch):
    monkeypatch.setattr(export, "_CALLS", 5)
    monkeypatch.setattr(export, "_ENCODER_CALLS", 2)
    monkeypatch.setattr(export, "_WARM_UP", 1)


def test_an_export_says_what_it_is_how_exact_and_how_fast(trained, tmp_path):
    done = call("export", "--run", "2", "-o", tmp_path / "head.onnx", "-w", trained.root)
    assert done.status == 0, done.errors
    for part in ("head of run 2 (mlp-512", "features float32 (n, 96)", "probabilities float32 (n, 3)", "from torch on", "ms p95"):
        assert part in done.output
    record = call("export", "--run", "2", "-o", tmp_path / "head.onnx", "--json", "-w", trained.root).json
    assert record["sha256"] == hashlib.sha256((tmp_path / "head.onnx").read_bytes()).hexdigest()
    assert record["largest_difference"] <= 1e-5


def test_pixels_go_in_where_the_encoder_is_part_of_the_export(trained, pictures, tmp_path):
    done = call("export", "--with-encoder", "--run", "2", "-o", tmp_path / "whole.onnx", "-w", trained.root)
    assert done.status == 0, done.errors
    session = onnxruntime.InferenceSession(tmp_path / "whole.onnx")
    facts = json.loads(session.get_modelmeta().custom_metadata_map["headstart"])
    from headstart.features.images.decode import decode
    from headstart.features.images.transform import parse_transform

    for path in sorted(pictures.glob("*/*.png"))[::10]:
        pixels = decode(path.read_bytes(), parse_transform(facts["encoder"]["transform"]))
        found = session.run(None, {"images": pixels[None]})[0][0]
        [row] = call("predict", path, "--run", "2", "--json", "-w", trained.root).json["predictions"]
        assert facts["names"][found.argmax()] == row["label"]
        assert found.max() == pytest.approx(row["probability"], abs=1e-5)


BASELINES = {"ridge": 4, "logistic": 5, "lda": 6, "nearest-mean": 7}


@pytest.mark.parametrize("name", BASELINES)
def test_a_client_without_this_project_says_of_pixels_what_evaluate_says(trained, pictures, tmp_path, name):
    """Beside it lie links to its three packages, and nothing else is on the path of its Python."""
    run, model, packages = BASELINES[name], tmp_path / "whole.onnx", tmp_path / "packages"
    assert call("runs", "show", run, "-w", trained.root).output.startswith(f"run {run} ({name} of")
    assert call("export", "--with-encoder", "--run", run, "-o", model, "-w", trained.root).status == 0
    packages.mkdir()
    for package in ("numpy", "onnxruntime", "PIL"):
        home = Path(find_spec(package).origin).parent
        for part in (home, home.with_name("numpy.libs"), home.with_name("pillow.libs")):
            if part.exists() and not (packages / part.name).exists():
                (packages / part.name).symlink_to(part)
    rows = list(csv.DictReader(io.StringIO(call("evaluate", run, "--csv", "-w", trained.root).output)))
    client = Path(__file__).with_name("onnx_client.py")
    words = [sys.executable, "-S", client, model, *(pictures / row["path"] for row in rows)]
    done = subprocess.run(words, capture_output=True, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(packages)})
    said = json.loads(done.stdout)
    assert {"headstart", "torch", "sklearn"}.isdisjoint(said["imported"])
    assert len(rows) >= 10
    for row, probabilities in zip(rows, said["probabilities"], strict=True):
        assert said["names"][int(np.argmax(probabilities))] == row["label"]
        assert max(probabilities) == pytest.approx(float(row["probability"]), abs=1e-5)


def test_an_export_is_named_after_its_head_and_done_once(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("export", "--run", "1", "-w", trained.root).output.startswith("wrote exp_0001_ablation-linear.onnx")
    assert call("export", "--run", "1", "-w", trained.root).output.startswith("unchanged exp_0001_ablation-linear.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["exp_0001_ablation-linear.onnx"]


def test_logits_come_out_where_they_are_asked_for(trained, tmp_path):
    assert call("export", "--run", "1", "--logits", "-o", tmp_path / "head.onnx", "-w", trained.root).status == 0
    session = onnxruntime.InferenceSession(tmp_path / "head.onnx")
    assert [output.name for output in session.get_outputs()] == ["logits"]
    assert json.loads(session.get_modelmeta().custom_metadata_map["headstart"])["output"] == "logits"


def test_the_name_of_an_export_tells_its_format_and_whether_the_encoder_is_in_it(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("export", "--run", "1", "--format", "torchscript", "-w", trained.root).status == 0
    torch.jit.load("exp_0001_ablation-linear.torchscript.pt")
    assert call("export", "--run", "1", "--with-encoder", "-w", trained.root).status == 0
    assert (tmp_path / "exp_0001_ablation-linear-with-encoder.onnx").exists()


def test_metadata_hold_what_a_reader_needs_and_nothing_of_this_machine(measured, tmp_path):
    assert call("export", "-o", tmp_path / "head.onnx", "-w", measured.root).status == 0
    graph = onnx.load(tmp_path / "head.onnx")
    facts = json.loads({entry.key: entry.value for entry in graph.metadata_props}["headstart"])
    assert (facts["task"], facts["names"], facts["auxiliary"]) == ("regression", ["light", "dark"], ["=size", "age"])
    assert facts["encoder"]["model"] == "test_resnet"
    assert facts["encoder"]["transform"]["image_size"] == [32, 32]
    assert str(measured.root).encode() not in (tmp_path / "head.onnx").read_bytes()


def test_what_exists_is_replaced_only_if_that_is_asked_for(trained, tmp_path):
    target = tmp_path / "head.onnx"
    target.write_text("precious")
    done = call("export", "--run", "1", "-o", target, "-w", trained.root)
    assert done.status == 1
    assert "exists and holds something else. Pass --force" in done.reason
    assert target.read_text() == "precious"
    assert call("export", "--run", "1", "-o", target, "--force", "-w", trained.root).status == 0
    onnx.checker.check_model(onnx.load(target))


TARGETS = {
    "a folder": (lambda home: home, "is a folder. Name a file"),
    "in no folder": (lambda home: home / "no" / "x.onnx", "is no folder. Make it"),
    "a device": (lambda home: os.devnull, "is no ordinary file"),
}


@pytest.mark.parametrize(("target", "says"), TARGETS.values(), ids=TARGETS)
def test_a_target_that_cannot_be_written_is_explained_in_one_line(trained, tmp_path, target, says):
    done = call("export", "--run", "1", "-o", target(tmp_path), "-w", trained.root)
    assert done.status == 1
    assert says in done.reason


FAULTS = {
    "full disk": (errno.ENOSPC, 75, "No space left on device"),
    "not writable": (errno.EACCES, 1, "Permission denied"),
    "name too long": (errno.ENAMETOOLONG, 1, "File name too long"),
}


@pytest.mark.parametrize(("number", "status", "says"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("force", [[], ["--force"]], ids=["new", "forced"])
def test_a_write_that_fails_is_explained_and_leaves_nothing(trained, tmp_path, force, number, status, says):
    real = paths.create

    def failing(path):
        if str(tmp_path) in str(path):
            raise OSError(number, os.strerror(number))
        return real(path)

    with mock.patch.object(paths, "create", failing):
        done = call("export", "--run", "1", "-o", tmp_path / "head.onnx", *force, "-w", trained.root)
    assert done.status == status
    assert says in done.reason
    assert list(tmp_path.iterdir()) == []


def test_only_onnx_takes_the_encoder_and_only_a_head_of_images_alone(trained, measured, tmp_path):
    done = call("export", "--with-encoder", "--format", "pt2", "-o", tmp_path / "x", "-w", trained.root)
    assert "makes ONNX only, not pt2" in done.reason
    done = call("export", "--with-encoder", "-o", tmp_path / "x", "-w", measured.root)
    assert "also takes the columns =size, age, which no image holds" in done.reason


def test_an_encoder_without_a_graph_is_not_merged(own, tmp_path):
    from headstart.features.encoders.onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME

    [folder] = own.features.glob("encoder_*")
    facts = json.loads((folder / GRAPH_FACTS_NAME).read_text())
    (folder / GRAPH_FACTS_NAME).write_text(json.dumps({**facts, "refused": "it has a loop", "sha256": ""}))
    (folder / GRAPH_NAME).unlink()
    done = call("export", "--with-encoder", "-o", tmp_path / "x.onnx", "-w", own.root)
    assert done.status == 1
    assert "has no ONNX graph (it has a loop). Export the head alone" in done.errors


def test_a_picture_of_another_size_does_not_fit_the_export(trained, tmp_path):
    assert call("export", "--with-encoder", "--run", "1", "-o", tmp_path / "w.onnx", "-w", trained.root).status == 0
    session = onnxruntime.InferenceSession(tmp_path / "w.onnx")
    with pytest.raises(Exception, match="Got invalid dimensions"):
        session.run(None, {"images": np.asarray(Image.new("RGB", (20, 20)))[None]})
