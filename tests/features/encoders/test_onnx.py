import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from headstart.features.encoders import onnx_export, runtime
from headstart.features.encoders.onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME, OnnxEncoder, find_graph
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.runtime import open_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.torch_encoder import TorchEncoder, open_torch
from headstart.pipeline.doors import locks
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.workspace import open_or_create_workspace
from tests.features.samples import picture, python_says

TINY = "test_efficientnet"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    place = open_or_create_workspace(tmp_path_factory.mktemp("graph") / "workspace")
    folder = save_encoder(place, *resolve_encoder(EncoderRequest(TINY, "random:0", 96)))
    export_graph(folder)
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of an exported encoder that a test may damage."""
    place = open_or_create_workspace(tmp_path / "workspace")
    return shutil.copytree(exported, place.features / exported.name)


def photos(spec, count=6):
    height, width = spec.transform.image_size
    return np.stack([np.asarray(picture(width, height, seed)) for seed in range(count)])


def fingerprint(folder):
    return json.loads((folder / "encoder.json").read_text())["fingerprint"]


@pytest.mark.parametrize("model", [TINY, "test_vit", "test_resnet", "test_convnext"])
def test_the_graph_says_what_torch_says(tmp_path, model):
    folder = save_encoder(open_or_create_workspace(tmp_path / "w"), *resolve_encoder(EncoderRequest(model, "random:0", 96)))
    facts = export_graph(folder)
    assert facts.refused == ""
    encoder, reference = open_encoder(folder, "cpu"), open_torch(folder, "cpu")
    assert isinstance(encoder, OnnxEncoder)
    images = photos(encoder.spec)
    expected = reference.encode(images)
    np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_an_image_gives_the_same_bits_in_any_company_and_in_any_thread(exported):
    encoder = open_encoder(exported, "cpu")
    images = photos(encoder.spec)
    together = encoder.encode(images)
    assert len(np.unique(together, axis=0)) == len(images)
    with ThreadPoolExecutor(3) as pool:
        alone = np.concatenate(list(pool.map(encoder.encode, np.split(images, len(images)))))
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(encoder.encode(images[4:1:-1]), together[4:1:-1])


def test_a_graph_whose_results_depend_on_the_batch_runs_one_image_at_a_time(exported):
    spec = open_encoder(exported, "cpu").spec
    encoder = OnnxEncoder(spec, exported / GRAPH_NAME, {}, is_batch_invariant=False)
    sizes, run = [], encoder._run
    encoder._run = lambda images: sizes.append(len(images)) or run(images)
    encoder.encode(photos(spec, 3))
    assert sizes == [1, 1, 1]


def change(folder, **facts):
    path = folder / GRAPH_FACTS_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "graph missing": lambda folder: (folder / GRAPH_NAME).unlink(),
    "graph torn": lambda folder: (folder / GRAPH_NAME).write_bytes((folder / GRAPH_NAME).read_bytes()[:-10]),
    "one bit flipped": lambda folder: flip(folder / GRAPH_NAME),
    "facts missing": lambda folder: (folder / GRAPH_FACTS_NAME).unlink(),
    "facts torn": lambda folder: (folder / GRAPH_FACTS_NAME).write_bytes((folder / GRAPH_FACTS_NAME).read_bytes()[:50]),
    "facts of another shape": lambda folder: (folder / GRAPH_FACTS_NAME).write_text("[1]"),
    "facts with more in them": lambda folder: change(folder, colour="red"),
    "of another encoder": lambda folder: change(folder, fingerprint="00" * 32),
    "exported in another way": lambda folder: change(folder, recipe=0),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_graph_that_is_not_what_was_exported_is_noticed_and_made_anew(folder, damage):
    whole = find_graph(folder, fingerprint(folder))
    assert whole is not None
    damage(folder)
    assert find_graph(folder, fingerprint(folder)) is None
    assert export_graph(folder).sha256 == whole.sha256
    assert find_graph(folder, fingerprint(folder)) == whole


def test_a_sound_graph_is_not_exported_again(folder, monkeypatch):
    monkeypatch.setattr(onnx_export, "_export", None)
    assert export_graph(folder) == find_graph(folder, fingerprint(folder))


def test_a_worker_that_misses_the_graph_has_it_made_and_imports_no_torch(folder):
    (folder / GRAPH_NAME).unlink()
    code = f"""
import sys
from pathlib import Path
from headstart.features.encoders.runtime import open_encoder
print(type(open_encoder(Path({str(folder)!r}), "cpu")).__name__, {{"torch", "timm", "onnx"}} & set(sys.modules))
"""
    assert python_says(code) == ("OnnxEncoder set()\n", "")
    assert (folder / GRAPH_NAME).is_file()


class Unexportable(torch.nn.Module):
    def forward(self, images):
        return torch.linalg.eigvals(images[:, 0, :4, :4]).real


def test_an_encoder_that_does_not_export_runs_in_torch_and_says_so(folder, monkeypatch, capfd):
    (folder / GRAPH_FACTS_NAME).unlink()
    monkeypatch.setattr(onnx_export, "read_network", lambda folder, spec: Unexportable())
    assert export_graph(folder).refused
    monkeypatch.setattr(runtime, "_export_elsewhere", None)  # asked again, it would refuse again
    assert isinstance(open_encoder(folder, "cpu"), TorchEncoder)
    said = capfd.readouterr().err
    assert said.startswith(f"note: {folder.name} runs in torch, which is slower: ")
    assert len(said.splitlines()) == 1


def test_a_graph_that_says_something_else_than_torch_is_never_published(folder, monkeypatch):
    for name in (GRAPH_NAME, GRAPH_FACTS_NAME):
        (folder / name).unlink()
    encode = TorchEncoder.encode
    monkeypatch.setattr(TorchEncoder, "encode", lambda self, images: encode(self, images)[:, ::-1].copy())
    facts = export_graph(folder)
    assert "differ from torch's" in facts.refused
    assert not (folder / GRAPH_NAME).exists()


def test_damaged_weights_are_told_when_the_graph_is_missing_too(folder):
    (folder / GRAPH_NAME).unlink()
    flip(folder / "weights.safetensors")
    with pytest.raises(HeadstartError, match="same enqueue again") as caught:
        open_encoder(folder, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="killed processes look different there")
def test_an_export_that_is_killed_leaves_torch_to_do_the_work(folder, monkeypatch, capfd, tmp_path):
    (folder / GRAPH_NAME).unlink()
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'headstart.features.encoders.onnx_export' in sys.orig_argv: os.kill(os.getpid(), 9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert isinstance(open_encoder(folder, "cpu"), TorchEncoder)
    assert "its export failed: exit status -9" in capfd.readouterr().err


def test_who_cannot_have_the_lock_of_a_graph_is_told_to_try_later(monkeypatch, folder):
    (folder / GRAPH_NAME).unlink(missing_ok=True)
    monkeypatch.setattr(onnx_export, "_LOCK_TIMEOUT_S", 0.1)
    with (
        locks.held(folder / f"{GRAPH_NAME}.lock", 1),
        pytest.raises(TryLaterError, match="another process exports this encoder"),
    ):
        onnx_export.export_graph(folder)
