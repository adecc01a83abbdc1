import hashlib
import json

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from timm.data import resolve_data_config

from headstart.features.encoders.resolve import DEFAULT_MODEL, EncoderRequest, resolve_encoder
from headstart.features.encoders.runtime import open_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.networks import weights
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace

TINY = "test_efficientnet"
SPEC = {"model": TINY, "weights": "random:0", "image_size": None}
OTHERS = {"model": {"model": "test_efficientnet_evos"}, "weights": {"weights": "random:1"}, "image size": {"image_size": 96}}


@pytest.fixture
def place(tmp_path):
    return open_or_create_workspace(tmp_path / "workspace")


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_whatever_decides_the_features_decides_the_folder(other):
    spec, different = (resolve_encoder(EncoderRequest(**arguments))[0] for arguments in (SPEC, SPEC | other))
    assert spec.fingerprint != different.fingerprint
    assert spec.folder_name != different.folder_name


MISTAKES = {
    "unknown model": (("mobilenetv2_10", "random:0", None), r"no encoder 'mobilenetv2_10'\. Nearest: .*mobilenetv2_100"),
    "unknown tag": (("efficientnet_b0.ra_in2k", "hub", None), r"tagged 'ra_in2k'\. Nearest: efficientnet_b0\.ra_in1k"),
    "name of a hub's repository": (("timm/efficientnet_b0.ra_in1k", "hub", None), "not a name that timm lists"),
    "size that the patches do not divide": (("test_vit", "random:0", 97), "does not work on images of 97 x 97.*--image-size"),
    "size too small": (("test_resnet", "random:0", 0), "does not work on images of 0 x 0"),
    "negative size": (("test_resnet", "random:0", -5), "does not work on images of -5 x -5"),
    "no weights": ((TINY, "nowhere.pt", None), "there is no such file"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), MISTAKES.values(), ids=MISTAKES)
def test_an_encoder_that_cannot_be_is_a_mistake_of_one_line(arguments, says):
    with pytest.raises(HeadstartError, match=says) as caught:
        resolve_encoder(EncoderRequest(*arguments))
    assert "\n" not in str(caught.value)


def test_weights_that_give_no_numbers_are_a_mistake(tmp_path):
    tensors = dict(resolve_encoder(EncoderRequest(**SPEC))[1].tensors)
    tensors["conv_stem.weight"] = torch.full_like(tensors["conv_stem.weight"], float("nan"))
    safetensors.torch.save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(HeadstartError, match="NaN or infinity"):
        resolve_encoder(EncoderRequest(TINY, str(tmp_path / "nan.safetensors"), None))


def test_the_default_encoder_is_efficientnet_b0():
    assert resolve_encoder(EncoderRequest(None, "random:0", None))[0].model == DEFAULT_MODEL == "efficientnet_b0"


@pytest.mark.parametrize(
    "model", ["efficientnet_b0", "test_vit", "convnext_tiny", "beit_base_patch16_224", "resnetv2_50x1_bit.goog_in21k"]
)
def test_the_transform_is_timms_for_the_model(model):
    from headstart.features.encoders.resolve import _transform_of

    config = resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(model).to_dict())
    transform = _transform_of(model)
    assert (3, *transform.image_size) == tuple(config["input_size"])
    for name in ("interpolation", "crop_pct", "crop_mode", "mean", "std"):
        assert getattr(transform, name) == config[name]


@pytest.fixture
def embedded(tmp_path, monkeypatch):
    """An embedded encoder as the package will hold it."""
    folder = tmp_path / "embedded"
    folder.mkdir()
    data = safetensors.torch.save(
        {name: tensor.half() for name, tensor in resolve_encoder(EncoderRequest(**SPEC))[1].tensors.items()}
    )
    (folder / "encoder.safetensors").write_bytes(data)
    transform = {
        "image_size": [32, 32],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    card = {
        "model": TINY,
        "model_args": {"global_pool": "max"},
        "transform": transform,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    (folder / "encoder.json").write_text(json.dumps(card))
    monkeypatch.setattr(weights, "EMBEDDED", folder)


@pytest.mark.parametrize("model", [None, TINY])
def test_the_embedded_encoder_brings_its_own_model_and_transform(place, embedded, model):
    spec, weights = resolve_encoder(EncoderRequest(model, "embedded", None))
    assert (spec.model, spec.model_args, spec.pooling) == (TINY, {"global_pool": "max"}, "max")
    assert (spec.transform.image_size, spec.transform.crop_mode, spec.transform.std) == ((32, 32), "squash", (0.25, 0.25, 0.25))
    encoder = open_encoder(save_encoder(place, spec, weights), "cpu")
    assert encoder.encode(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, spec.embed_dim)


def test_another_model_with_the_embedded_weights_is_a_mistake(embedded):
    with pytest.raises(HeadstartError, match=f"embedded weights are of {TINY}, not of resnet18"):
        resolve_encoder(EncoderRequest("resnet18", "embedded", None))
