"""The encoder inside the package comes out without torch as it would with it, to the byte."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from headstart.features.encoders import onnx_export
from headstart.features.encoders.onnx_encoder import GRAPH_NAME, OnnxEncoder
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import read_weights, save_encoder
from headstart.features.networks import weights
from headstart.features.networks.embedded_encoder import CUT_NAME, embedded_graph, embedded_weights
from headstart.features.networks.weights import EMBEDDED, embedded_card, resolve_weights
from headstart.pipeline.workspace import open_or_create_workspace
from tests.support import run_python

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def place(tmp_path):
    return open_or_create_workspace(tmp_path / "workspace")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The embedded encoder, for tests to damage."""
    folder = shutil.copytree(EMBEDDED, tmp_path / "embedded")
    monkeypatch.setattr(weights, "EMBEDDED", folder)
    return folder


@pytest.fixture
def no_card(monkeypatch):
    """As if the package said no more of its encoder than how to build it."""
    plain = embedded_card()
    less = {name: value for name, value in plain.items() if name != "graph"}
    for module in ("networks.embedded_encoder", "encoders.onnx_export"):
        monkeypatch.setattr(f"headstart.features.{module}.embedded_card", lambda: less)


def test_the_encoder_is_the_one_that_torch_makes_of_its_weights(place, request):
    spec, given = resolve_encoder(EncoderRequest(weights="embedded"))
    folder = save_encoder(place, spec, given)
    with_torch = resolve_weights(spec.model, spec.model_args, "embedded")
    assert (given.source, given.sha256) == (with_torch.source, with_torch.sha256)
    tensors = read_weights(folder, spec)  # which compares the digest
    assert tensors.keys() == with_torch.tensors.keys()
    request.getfixturevalue("no_card")
    assert embedded_weights() is None
    assert resolve_encoder(EncoderRequest(weights="embedded"))[0] == spec


def test_weights_and_graph_have_the_bytes_that_torch_gives(place, tmp_path, request):
    folder = save_encoder(place, *resolve_encoder(EncoderRequest(weights="embedded")))
    facts = export_graph(folder)
    request.getfixturevalue("no_card")
    spec, given = resolve_encoder(EncoderRequest(weights="embedded"))
    other = save_encoder(open_or_create_workspace(tmp_path / "other"), spec, given)
    assert (other / "weights.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()
    exported = export_graph(other)
    assert exported.is_batch_invariant == facts.is_batch_invariant
    if (
        exported.versions["torch"].split("+")[0] == facts.versions["torch"].split("+")[0]
    ):  # another one may order its nodes otherwise
        assert (other / GRAPH_NAME).read_bytes() == (folder / GRAPH_NAME).read_bytes()
    images = np.random.default_rng(1).integers(0, 256, (4, *spec.transform.image_size, 3), dtype=np.uint8)
    ours, torchs = (OnnxEncoder(spec, path / GRAPH_NAME, {}).encode(images) for path in (folder, other))
    assert np.array_equal(ours, torchs)


@pytest.mark.parametrize("more", [{"fast_decode": True}, {"exif_rotate": True}, {"image_size": 64}], ids=str)
def test_how_an_image_is_read_needs_no_other_graph(place, more, monkeypatch):
    monkeypatch.setattr(onnx_export, "_trace", lambda *_: pytest.fail("exported again"))
    folder = save_encoder(place, *resolve_encoder(EncoderRequest(weights="embedded", **more)))
    assert export_graph(folder).sha256 == embedded_card()["graph"]["sha256"]


@pytest.mark.parametrize(
    "more", [{"image_size": 96}, {"spatial": 2}, {"maps": (8,)}, {"stages": True}, {"image_stats": True}], ids=str
)
def test_what_the_network_does_otherwise_is_exported(place, more):
    folder = save_encoder(place, *resolve_encoder(EncoderRequest(weights="embedded", **more)))
    facts = export_graph(folder)
    assert facts.refused == ""
    assert facts.sha256 != embedded_card()["graph"]["sha256"]


def test_another_encoder_has_no_graph_in_the_package():
    spec, _ = resolve_encoder(EncoderRequest(weights="embedded"))
    assert embedded_graph(replace(spec, embed_dim=8).fingerprint) is None


def test_a_graph_that_came_out_otherwise_is_not_taken(place, package, monkeypatch):
    cut = bytearray((package / CUT_NAME).read_bytes())
    cut[embedded_card()["graph"]["holes"][0]["at"]] ^= 1
    (package / CUT_NAME).write_bytes(cut)
    assert embedded_graph(embedded_card()["graph"]["fingerprint"]) is None
    folder = save_encoder(place, *resolve_encoder(EncoderRequest(weights="embedded")))
    facts = export_graph(folder)
    assert (facts.refused, facts.check["images"]) == ("", 5)


def test_weights_that_were_damaged_are_put_back_and_sound_ones_left_alone(place):
    spec, given = resolve_encoder(EncoderRequest(weights="embedded"))
    path = save_encoder(place, spec, given) / "weights.safetensors"
    before = path.stat().st_mtime_ns
    save_encoder(place, spec, given)
    assert path.stat().st_mtime_ns == before
    sound = path.read_bytes()
    for data in (b"", sound[:-1], sound + b"x", bytes([sound[0] ^ 1]) + sound[1:]):
        path.write_bytes(data)
        save_encoder(place, spec, given)
        assert path.read_bytes() == sound


ENQUEUED = """
from headstart.features.encoders.resolve import EncoderRequest
from headstart.features.planning.enqueue import enqueue_images

encoder = EncoderRequest(weights="embedded") if sys.argv[3] == "named" else EncoderRequest()
queued = enqueue_images(sys.argv[1], sys.argv[2], encoder=encoder)
print(queued.graph_refused or "graph", len(queued.fresh), *sorted({"torch", "timm", "torchvision"} & sys.modules.keys()))
"""


def test_no_enqueue_of_the_embedded_encoder_loads_torch(tmp_path):
    for number in range(3):
        path = tmp_path / f"data/{'ab'[number % 2]}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    said = [run_python(ENQUEUED, str(tmp_path / "data"), str(tmp_path / "w"), how)[1] for how in ("named", "again", "named")]
    assert said == ["graph 1\n", "graph 0\n", "graph 0\n"]
