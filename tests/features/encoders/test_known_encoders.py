"""An encoder whose graph is in the package comes out without torch and timm as it would with them, to the byte."""

import contextlib
import json
import os
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from headstart.features.encoders import known_encoders, prepared
from headstart.features.encoders.known_encoders import KNOWN, known_encoder
from headstart.features.encoders.onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME
from headstart.features.encoders.prepared import begin_encoder
from headstart.features.encoders.resolve import EncoderRequest
from headstart.features.encoders.spec import WEIGHTS_NAME
from headstart.features.networks import torch_roots
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace
from tests.features.samples import picture, python_says
from tools.cut_graphs import drawn

MODELS = sorted(path.stem for path in KNOWN.glob("*.json"))
SMALL = "resnet18"
FACTS = json.loads((KNOWN / f"{SMALL}.json").read_text())

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        metadata.version("timm") != FACTS["versions"]["timm"],
        reason="graphs are used with the timm that they were cut with, which is not installed: python -m tools.cut_graphs",
    ),
    pytest.mark.skipif(not torch_roots.has_torch_roots(), reason="torch has no MKL here, so graphs are exported"),
]


def made(request, root):
    """The files of the encoder as they are handed to a new workspace at `root`."""
    with contextlib.ExitStack() as held:
        folder = begin_encoder(open_or_create_workspace(root), request, held, with_graph=True).finished()[1]
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def weights_file(path, model, change=lambda tensors: tensors, seed=5):
    safetensors.torch.save_file(change(drawn(model, seed)), path)
    return EncoderRequest(model, str(path))


@pytest.mark.parametrize("model", MODELS)
def test_weights_and_graph_have_the_bytes_that_torch_gives(model, tmp_path, monkeypatch):
    request = weights_file(tmp_path / "weights.safetensors", model)
    known = known_encoder(request)
    assert known is not None
    assert known.write(tmp_path / "known")
    monkeypatch.setattr(prepared, "known_encoder", lambda request: None)
    exported = made(request, tmp_path / "exported")
    ours = {path.name: path.read_bytes() for path in (tmp_path / "known").iterdir()}
    assert ours["encoder.json"] == exported["encoder.json"]
    assert ours[WEIGHTS_NAME] == exported[WEIGHTS_NAME]
    facts, others = (json.loads(files[GRAPH_FACTS_NAME]) for files in (ours, exported))
    assert (facts["fingerprint"], facts["refused"], facts["recipe"]) == (others["fingerprint"], "", others["recipe"])
    assert facts["is_batch_invariant"] == others["is_batch_invariant"]
    assert facts["check"]["worst_cosine"] > 0.9999
    if facts["versions"]["torch"] == others["versions"]["torch"]:  # another one may order its nodes otherwise
        assert ours[GRAPH_NAME] == exported[GRAPH_NAME]
        assert facts["sha256"] == others["sha256"]


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {name: tensor.half() for name, tensor in tensors.items() if tensor.is_floating_point()},
        lambda tensors: {**tensors, "fc.weight": torch.ones(7, 512), "fc.bias": torch.ones(7)},
    ],
    ids=["halves", "with a classifier"],
)
def test_what_fits_exactly_is_taken(change, tmp_path, monkeypatch):
    request = weights_file(tmp_path / "weights.safetensors", SMALL, change)
    monkeypatch.setattr(prepared, "_begun_export", lambda *_: pytest.fail("exported"))
    known = made(request, tmp_path / "known")
    monkeypatch.undo()
    monkeypatch.setattr(prepared, "known_encoder", lambda request: None)
    exported = made(request, tmp_path / "exported")
    assert {name: data for name, data in known.items() if name != GRAPH_FACTS_NAME} == {
        name: data for name, data in exported.items() if name in known and name != GRAPH_FACTS_NAME
    }


def without(name):
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


@pytest.mark.parametrize(
    "change",
    [
        without("conv1.weight"),
        lambda tensors: {**tensors, "layer5.weight": torch.ones(2, 2)},
        lambda tensors: {**tensors, "conv1.weight": torch.ones(64, 3, 3, 3)},
        lambda tensors: {**tensors, "conv1.weight": torch.ones(64, 3, 7, 7, dtype=torch.int8)},
        lambda tensors: {**tensors, "conv1.weight": torch.ones(64, 3, 7, 7, dtype=torch.bfloat16)},
        lambda tensors: {**tensors, "conv1.weight": torch.ones(64, 3, 7, 7, dtype=torch.float64)},
        lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
    ],
    ids=["one missing", "one more", "another shape", "integers", "bfloat16", "double", "a prefix"],
)
def test_what_does_not_fit_plainly_is_left_to_torch(change, tmp_path):
    assert known_encoder(weights_file(tmp_path / "weights.safetensors", SMALL, change)) is None


@pytest.mark.parametrize("kind", ["absent", "a folder", "empty", "garbage", "a pipe", "torch's own", "a terabyte of nothing"])
def test_what_is_no_safetensors_file_is_left_to_torch(kind, tmp_path):
    path = tmp_path / "weights"
    if kind == "a folder":
        path.mkdir()
    elif kind in ("empty", "garbage"):
        path.write_bytes(b"" if kind == "empty" else bytes(range(256)) * 9)
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "torch's own":
        torch.save(drawn(SMALL, 5), path)
    elif kind == "a terabyte of nothing":
        path.touch()
        os.truncate(path, 1 << 40)
    assert known_encoder(EncoderRequest(SMALL, str(path))) is None


@pytest.mark.parametrize(
    "more",
    [{"image_size": 128}, {"spatial": 2}, {"maps": (8,)}, {"stages": True}, {"image_stats": True}, {"model": "resnet18.a1_in1k"}],
    ids=str,
)
def test_another_graph_than_the_known_one_is_exported(more, tmp_path):
    request = weights_file(tmp_path / "weights.safetensors", SMALL)
    assert known_encoder(EncoderRequest(**{"model": SMALL, "weights": request.weights, **more})) is None


@pytest.mark.parametrize("weights", ["hub", "random:0", "embedded"])
def test_weights_that_are_no_file_are_left_to_others(weights):
    assert known_encoder(EncoderRequest(SMALL, weights)) is None


@pytest.mark.parametrize("model", ["../known/resnet18", "resnet18/../resnet18", "", "resnet18.json", "resnet18\n"])
def test_a_name_is_no_path(model, tmp_path):
    request = weights_file(tmp_path / "weights.safetensors", SMALL)
    assert known_encoder(EncoderRequest(model, request.weights)) is None


def test_another_timm_may_build_it_otherwise(tmp_path, monkeypatch):
    request = weights_file(tmp_path / "weights.safetensors", SMALL)
    monkeypatch.setattr(known_encoders.metadata, "version", lambda name: "0.0.1")
    assert known_encoder(request) is None


def test_without_torchs_own_square_roots_it_is_exported(tmp_path, monkeypatch):
    request = weights_file(tmp_path / "weights.safetensors", SMALL)
    monkeypatch.setattr(known_encoders, "has_torch_roots", lambda: False)
    assert known_encoder(request) is None
    monkeypatch.undo()
    known = known_encoder(request)
    monkeypatch.setattr(torch_roots, "_function", lambda: None)
    assert not known.write(tmp_path / "known")
    assert GRAPH_NAME in made(request, tmp_path / "w")  # begun late, when it showed


def test_weights_that_give_no_number_are_refused_as_ever(tmp_path):
    def negated(tensors):
        return {**tensors, "bn1.running_var": -tensors["bn1.running_var"]}

    request = weights_file(tmp_path / "weights.safetensors", SMALL, negated)
    with pytest.raises(HeadstartError, match="NaN or infinity"):
        made(request, tmp_path / "w")


def test_enqueue_of_a_known_encoder_starts_no_child_and_loads_no_torch(tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        picture(40, 30, seed).save(tmp_path / "photos" / f"{seed}.png")
    request = weights_file(tmp_path / "weights.safetensors", SMALL)
    said, complaints = python_says(
        "import sys\n"
        "from headstart.features.encoders import prepared\n"
        "from headstart.features.encoders.resolve import EncoderRequest\n"
        "from headstart.features.planning.enqueue import enqueue_images\n"
        "prepared.Child = None\n"
        f"asked = EncoderRequest({SMALL!r}, {request.weights!r})\n"
        f"done = enqueue_images({str(tmp_path / 'photos')!r}, {str(tmp_path / 'w')!r}, encoder=asked)\n"
        "print(len(done.fresh), done.graph_refused or 'graph', sorted({'torch', 'timm', 'onnx'} & set(sys.modules)))\n"
        "import torch\n"
        "print(torch.ones(2).sqrt().sum().item())"
    )
    assert (said, complaints) == ("1 graph []\n2.0\n", "")


def test_roots_are_torchs():
    draws = np.random.default_rng(0)
    for count in [*range(1, 70), 256, 1280, 40_000]:
        values = (draws.random(count) * 10 ** draws.uniform(-30, 30)).astype(np.float32)
        expected = torch.from_numpy(values).sqrt().numpy()
        assert np.array_equal(torch_roots.torch_roots(values), expected), count


def test_without_torch_there_are_no_roots(monkeypatch):
    monkeypatch.setattr(torch_roots.importlib.util, "find_spec", lambda name: None)
    torch_roots._function.cache_clear()
    assert not torch_roots.has_torch_roots()
    assert torch_roots.torch_roots(np.ones(3, np.float32)) is None
    torch_roots._function.cache_clear()


def test_each_known_encoder_has_both_files_and_nothing_else_lies_there():
    assert {path.name for path in KNOWN.iterdir()} == {f"{model}{end}" for model in MODELS for end in (".json", ".onnx.cut")}
