import os
import shutil
from pathlib import Path

import pytest

from headstart.features.encoders import remembered
from headstart.features.encoders.remembered import REQUEST_NAME, remember_request, remembered_encoder
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import WEIGHTS_NAME
from headstart.pipeline.workspace import open_or_create_workspace
from tests.features.samples import enqueued_afresh, picture
from tests.support import flip

TINY = "test_efficientnet"


@pytest.fixture
def weights(tmp_path):
    """A file of weights, as a user may name one."""
    place = open_or_create_workspace(tmp_path / "elsewhere")
    folder = save_encoder(place, *resolve_encoder(EncoderRequest(TINY, "random:3", 64)))
    return shutil.copyfile(folder / WEIGHTS_NAME, tmp_path / "weights.safetensors")


@pytest.fixture
def kept(weights, tmp_path):
    """A workspace, the request that its encoder came of, and the encoder."""
    workspace = open_or_create_workspace(tmp_path / "workspace")
    request = EncoderRequest(TINY, str(weights), 64)
    spec, tensors = resolve_encoder(request)
    save_encoder(workspace, spec, tensors)
    remember_request(workspace, request, spec)
    return workspace, request, spec


def test_the_same_request_is_the_same_encoder(kept):
    workspace, request, spec = kept
    assert remembered_encoder(workspace, request) == spec
    assert remembered_encoder(workspace, EncoderRequest(TINY, request.weights)) is None
    assert remembered_encoder(workspace, EncoderRequest(TINY, "random:3", 64)) is None


@pytest.mark.parametrize("name", [REQUEST_NAME, WEIGHTS_NAME, "encoder.json"])
@pytest.mark.parametrize(
    "damage",
    [flip, os.unlink, lambda path: path.write_bytes(b""), lambda path: os.truncate(path, 1 << 40)],
    ids=["a bit", "missing", "empty", "a terabyte of nothing"],
)
def test_what_is_damaged_is_resolved_anew(kept, name, damage):
    workspace, request, spec = kept
    damage(workspace.features / spec.folder_name / name)
    assert remembered_encoder(workspace, request) is None


@pytest.mark.parametrize(
    "damage",
    [flip, os.unlink, lambda path: os.truncate(path, 1 << 40)],
    ids=["other bytes", "gone", "a terabyte of nothing"],
)
def test_weights_that_changed_are_looked_at(kept, weights, damage):
    workspace, request, _ = kept
    damage(weights)
    assert remembered_encoder(workspace, request) is None


def test_another_version_of_timm_is_asked_anew(kept, monkeypatch):
    workspace, request, _ = kept
    monkeypatch.setattr(remembered.metadata, "version", lambda name: "0.0")
    assert remembered_encoder(workspace, request) is None


def test_a_request_that_fell_back_is_not_remembered(kept):
    workspace, request, spec = kept
    (workspace.features / spec.folder_name / REQUEST_NAME).unlink()
    remember_request(workspace, EncoderRequest(TINY, request.weights, 64, precision="int8", else_float32=True), spec)
    assert not (workspace.features / spec.folder_name / REQUEST_NAME).exists()


def test_a_first_enqueue_loads_torch_in_a_child_alone_and_the_same_again_in_none(weights, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    picture(70, 70).save(photos / "a.png")
    first, again = (enqueued_afresh(photos, tmp_path / "w", TINY, weights) for _ in range(2))
    for told in (first, again):
        assert (Path(told["folder"]) / "encoder.onnx").exists()
        assert (told["graph_refused"], told["loaded"], told["fingerprint"]) == ("", [], first["fingerprint"])
    assert [(told["fresh"], told["children"]) for told in (first, again)] == [(1, 1), (0, 0)]
