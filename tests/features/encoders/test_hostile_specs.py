"""A description of an encoder that a stranger signed names an architecture and its arguments, never a file, a host or a bomb."""

from dataclasses import replace

import pytest

from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import DamagedEncoderError, read_encoder
from headstart.pipeline.workspace import open_or_create_workspace

MODELS = {
    "a folder": "local-dir:/home/somebody/model",
    "a host": "hf-hub:somebody/something",
    "a host by its old name": "hf_hub:somebody/something",
    "an address": "https://example.org/model",
    "a path": "/etc/passwd",
    "a path upwards": "../../model",
    "a tag that is a path": "resnet10t.../../x",
    "nothing": "",
    "very long": "a" * 300,
    "a line": "resnet10t\n",
    "a NUL": "resnet10t\0",
}
ARGUMENTS = {
    "a checkpoint": {"checkpoint_path": "/tmp/x.pt"},
    "pretrained": {"pretrained": True},
    "pretrained weights from a file": {"pretrained_cfg_overlay": {"file": "/tmp/x.pt"}},
    "a configuration": {"pretrained_cfg": "x"},
    "a cache": {"cache_dir": "x"},
    "an object": {"norm_layer": {"a": 1}},
    "a path as a value": {"act_layer": "/tmp/x"},
    "a dotted name": {"act_layer": "os.system"},
    "a dunder": {"__class__": 1},
    "a name in capitals": {"ACT": 1},
    "a depth of a billion": {"depth": 10**9},
    "a width of a billion in a list": {"layers": [1, 10**9]},
    "a list of a thousand": {"layers": [1] * 1000},
    "a list of objects": {"layers": [{}]},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    place = open_or_create_workspace(tmp_path_factory.mktemp("specs") / "workspace")
    return save_encoder(place, *resolve_encoder(EncoderRequest("test_efficientnet", "random:0", 96)))


@pytest.fixture
def signed(saved, tmp_path):
    """Writes a description with other facts and the fingerprint that fits them."""

    def sign(**changes):
        spec = read_encoder(saved)
        (tmp_path / "encoder.json").write_bytes(replace(spec, **changes).to_json())
        return tmp_path

    return sign


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_a_model_that_is_no_architectures_name_is_damage(signed, model):
    with pytest.raises(DamagedEncoderError, match="is no architecture's name"):
        read_encoder(signed(model=model))


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_an_argument_that_is_none_of_an_architecture_is_damage(signed, arguments):
    with pytest.raises(DamagedEncoderError, match="is no argument of an architecture"):
        read_encoder(signed(model_args=arguments))


@pytest.mark.parametrize("size", [(10**9, 10**9), (1, 2**25), (0, 5), (-4, -4)], ids=["both", "a strip", "none", "negative"])
def test_a_size_that_no_encoder_sees_is_damage(signed, saved, size):
    with pytest.raises(DamagedEncoderError, match="is damaged"):
        read_encoder(signed(transform=replace(read_encoder(saved).transform, image_size=size)))


def test_what_timm_takes_is_read(signed):
    plain = {"img_size": 96, "global_pool": "max", "drop_rate": 0.1, "layers": [2, 2], "dynamic": True, "norm": None}
    assert dict(read_encoder(signed(model="resnet50.a1_in1k", model_args=plain)).model_args) == plain
