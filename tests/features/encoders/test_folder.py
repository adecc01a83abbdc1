import json
from dataclasses import replace

import pytest
import safetensors.torch

from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import FORMAT, EncoderSpec, read_encoder
from headstart.features.encoders.torch_encoder import open_torch
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.workspace import open_or_create_workspace
from tests.features.samples import CENTER, python_says

TINY = "test_efficientnet"


@pytest.fixture
def place(tmp_path):
    return open_or_create_workspace(tmp_path / "workspace")


def saved(place, model=TINY, weights="random:0", image_size=None):
    return save_encoder(place, *resolve_encoder(EncoderRequest(model, weights, image_size)))


SPEC = {"model": TINY, "weights": "random:0", "image_size": None}


def test_the_place_of_the_weights_does_not_decide_the_folder(place, tmp_path):
    spec, weights = resolve_encoder(EncoderRequest(**SPEC))
    safetensors.torch.save_file(dict(weights.tensors), tmp_path / "elsewhere.safetensors")
    elsewhere, same_weights = resolve_encoder(EncoderRequest(TINY, str(tmp_path / "elsewhere.safetensors"), None))
    assert elsewhere.weights_source != spec.weights_source
    assert elsewhere.fingerprint == spec.fingerprint
    folder = save_encoder(place, spec, weights)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert save_encoder(place, elsewhere, same_weights) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert folder.name == f"encoder_{TINY}-{spec.fingerprint[:8]}"


def test_the_fingerprint_of_a_given_encoder_never_changes():
    spec = EncoderSpec("a.b/c", {"img_size": 96}, "anywhere", "00" * 32, CENTER, "avg", 256)
    assert spec.fingerprint == "787276f0ccde49f88689baf7f40070800c2a47fe9e590055fcaa532428d795ae"
    assert spec.folder_name == f"encoder_a_b_c-{spec.fingerprint[:8]}"


def test_a_saved_encoder_is_read_back_whole(place):
    spec, weights = resolve_encoder(EncoderRequest("test_vit", "random:0", 96))
    folder = save_encoder(place, spec, weights)
    assert read_encoder(folder) == spec == open_torch(folder, "cpu").spec
    assert spec.model_args == {"img_size": 96}
    assert spec.embed_dim == 64
    assert sorted(path.name for path in folder.iterdir()) == ["encoder.json", "weights.safetensors"]


def test_reading_an_encoder_needs_no_torch(place):
    code = f"""
import sys
from pathlib import Path
from headstart.features.encoders.spec import FORMAT, read_encoder
print(read_encoder(Path({str(saved(place))!r})).model, "torch" in sys.modules, "timm" in sys.modules)
"""
    assert python_says(code) == (f"{TINY} False False\n", "")


def edit(folder, **changes):
    path = folder / "encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def sign(folder, **changes):
    """As a careful person would edit it by hand, fingerprint included."""
    spec = read_encoder(folder)
    (folder / "encoder.json").write_bytes(replace(spec, transform=replace(spec.transform, **changes)).to_json())


def flip(path):
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


DAMAGED_SPEC = {
    "missing": lambda folder: (folder / "encoder.json").unlink(),
    "empty": lambda folder: (folder / "encoder.json").write_text(""),
    "cut off": lambda folder: (folder / "encoder.json").write_text((folder / "encoder.json").read_text()[:90]),
    "a list": lambda folder: (folder / "encoder.json").write_text("[1]"),
    "not UTF-8": lambda folder: (folder / "encoder.json").write_bytes(b"\xff{}"),
    "other model": lambda folder: edit(folder, model="test_vit"),
    "no transform": lambda folder: edit(folder, transform=None),
    "unknown interpolation": lambda folder: sign(folder, interpolation="cubist"),
    "format is text": lambda folder: edit(folder, format="1"),
}
DAMAGED_WEIGHTS = {
    "weights missing": lambda folder: (folder / "weights.safetensors").unlink(),
    "weights cut off": lambda folder: (folder / "weights.safetensors").write_bytes(
        (folder / "weights.safetensors").read_bytes()[:5000]
    ),
    "one bit of the weights flipped": lambda folder: flip(folder / "weights.safetensors"),
}


def require_told_and_repaired(place, name, damage, read):
    folder = saved(place)
    whole = (folder / name).read_bytes()
    damage(folder)
    with pytest.raises(HeadstartError, match="same enqueue again") as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert saved(place) == folder
    assert (folder / name).read_bytes() == whole


@pytest.mark.parametrize("damage", DAMAGED_SPEC.values(), ids=DAMAGED_SPEC)
def test_a_damaged_description_is_told_and_repaired_by_saving_again(place, damage):
    require_told_and_repaired(place, "encoder.json", damage, read_encoder)


@pytest.mark.parametrize("damage", DAMAGED_WEIGHTS.values(), ids=DAMAGED_WEIGHTS)
def test_damaged_weights_are_told_and_repaired_by_saving_again(place, damage):
    require_told_and_repaired(place, "weights.safetensors", damage, lambda folder: open_torch(folder, "cpu"))


@pytest.mark.parametrize("newer", [{"format": FORMAT + 1}, {"colour_space": "oklab"}], ids=["format", "unknown key"])
def test_an_encoder_of_a_newer_version_is_left_alone(place, newer):
    folder = saved(place)
    edit(folder, **newer)
    before = (folder / "encoder.json").read_bytes()
    for action in (lambda: read_encoder(folder), lambda: saved(place)):
        with pytest.raises(HeadstartError, match="newer version"):
            action()
    assert (folder / "encoder.json").read_bytes() == before


def test_the_description_appears_only_after_the_weights(place, monkeypatch):
    spec, weights = resolve_encoder(EncoderRequest(**SPEC))
    monkeypatch.setattr(EncoderSpec, "to_json", lambda self: (_ for _ in ()).throw(TryLaterError("disk full")))
    with pytest.raises(TryLaterError):
        save_encoder(place, spec, weights)
    assert [path.name for path in (place.features / spec.folder_name).iterdir()] == ["weights.safetensors"]
