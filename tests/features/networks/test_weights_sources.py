import hashlib
import json
import logging
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from headstart.features.networks import weights
from headstart.features.networks.weights import digest, embedded_card, resolve_weights
from headstart.pipeline.errors import HeadstartError
from tests.features.tensors import MODEL, all_tensors, as_safetensors, cast, without


@pytest.fixture
def complete():
    return all_tensors()


@pytest.fixture
def no_hub(tmp_path, monkeypatch):
    """A cache that is empty and a hub that refuses to talk: a port of this machine that nobody listens on."""
    from huggingface_hub import constants

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_unreachable_hub_is_one_line_without_retries_or_noise(no_hub, capfd):
    started = time.monotonic()
    with pytest.raises(HeadstartError) as caught:
        resolve_weights("mobilenetv2_100", {}, "hub")
    assert time.monotonic() - started < 10
    for part in ("timm/mobilenetv2_100.ra_in1k", "--weights FILE", "--weights embedded", "random:0", "HF_HUB_CACHE"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_what_the_hubs_library_logs_stays_inside(no_hub, monkeypatch, caplog):
    def noisy(url):
        logging.getLogger("huggingface_hub.utils").warning("Retrying %s", url)
        raise OSError("first line\nsecond line")

    monkeypatch.setattr("headstart.features.networks.weights_hub._ask_once", noisy)
    with pytest.raises(HeadstartError, match="first line second line"):
        resolve_weights("mobilenetv2_100", {}, "hub")
    assert not caplog.records


def cached_folder(cache, model):
    """Where the hub's library keeps the files of timm's `model`."""
    folder = cache / f"models--timm--{model}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    return folder / "snapshots" / ("0" * 40)


@pytest.mark.parametrize(
    ("model", "head"),
    [
        pytest.param("test_efficientnet.r160_in1k", "classifier", id="as most"),
        pytest.param("vit_tiny_patch16_224.augreg_in21k", "head.", id="whose original, elsewhere, is an archive of arrays"),
    ],
)
def test_weights_in_the_cache_need_no_hub(no_hub, model, head):
    torch.manual_seed(0)
    state = timm.create_model(model, num_classes=10).state_dict()
    as_safetensors(state, cached_folder(no_hub, model) / "model.safetensors")
    assert resolve_weights(model, {}, "hub").sha256 == digest(without(state, head, "num_batches_tracked"))


class Harm:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return (self.victim.touch, ())


def test_a_pickle_in_the_cache_runs_nothing(no_hub, tmp_path):
    torch.save({"state_dict": Harm(tmp_path / "harmed")}, cached_folder(no_hub, f"{MODEL}.r160_in1k") / "pytorch_model.bin")
    with pytest.raises(HeadstartError, match=r"cannot get the pretrained weights .*pytorch_model\.bin"):
        resolve_weights(MODEL, {}, "hub")
    assert not (tmp_path / "harmed").exists()


def test_a_model_without_pretrained_weights_says_so(no_hub):
    with pytest.raises(HeadstartError, match="timm has no pretrained weights for botnet50ts_256"):
        resolve_weights("botnet50ts_256", {}, "hub")


@pytest.fixture
def embedded(tmp_path, monkeypatch, complete):
    """An embedded encoder as the package will hold it."""
    folder = tmp_path / "embedded"
    folder.mkdir()
    as_safetensors(cast(without(complete, "classifier"), torch.float16), folder / "encoder.safetensors")
    card = {
        "model": MODEL,
        "model_args": {},
        "transform": {},
        "sha256": hashlib.sha256((folder / "encoder.safetensors").read_bytes()).hexdigest(),
    }
    (folder / "encoder.json").write_text(json.dumps(card))
    monkeypatch.setattr(weights, "EMBEDDED", folder)
    return folder


def test_the_embedded_weights_are_those_of_the_package(embedded, complete):
    assert "no stand-in for pretrained weights" in resolve_weights(MODEL, {}, "embedded").source
    assert resolve_weights(MODEL, {}, "embedded").sha256 == digest(without(complete, "classifier", "num_batches_tracked"))
    assert embedded_card()["model"] == MODEL


def test_the_embedded_weights_are_of_no_other_model(embedded):
    with pytest.raises(HeadstartError, match=rf"of {MODEL}, not of test_vit"):
        resolve_weights("test_vit", {}, "embedded")


DAMAGE = {
    "no card": lambda folder: (folder / "encoder.json").unlink(),
    "no weights": lambda folder: (folder / "encoder.safetensors").unlink(),
    "card cut off": lambda folder: (folder / "encoder.json").write_text('{"model": "tes'),
    "card without model": lambda folder: (folder / "encoder.json").write_text('{"sha256": ""}'),
    "card that is a list": lambda folder: (folder / "encoder.json").write_text("[1]"),
    "other weights": lambda folder: (folder / "encoder.safetensors").write_bytes(b"\0" * 100),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_embedded_encoder_is_a_mistake_of_one_line(embedded, damage):
    damage(embedded)
    with pytest.raises(HeadstartError, match="Install headstart again"):
        resolve_weights(MODEL, {}, "embedded")


@pytest.mark.parametrize("prefix", ["model.", "backbone.", "module.", "net.", "encoder.", "student.", "learner.net.encoder."])
def test_the_prefix_of_a_wrapper_is_taken_off(tmp_path, complete, prefix):
    as_safetensors(complete, tmp_path / "plain.safetensors")
    others = {} if prefix == "module." else {f"{prefix}head.weight": torch.zeros(2, 2), "loss.scale": torch.ones(1)}
    as_safetensors({**{prefix + name: tensor for name, tensor in complete.items()}, **others}, tmp_path / "wrapped.safetensors")
    plain, wrapped = (resolve_weights(MODEL, {}, str(tmp_path / f"{name}.safetensors")) for name in ("plain", "wrapped"))
    assert wrapped.sha256 == plain.sha256
    assert wrapped.source == f"{tmp_path}/wrapped.safetensors, without the prefix '{prefix}' of its names"
    assert plain.source == f"{tmp_path}/plain.safetensors"


def test_the_prefix_of_a_network_that_does_not_fit_is_named(tmp_path, complete):
    some = dict(list(complete.items())[:5])
    as_safetensors({f"visual.{name}": tensor for name, tensor in some.items()}, tmp_path / "x.safetensors")
    with pytest.raises(HeadstartError, match=r"does not fit .*all names begin with 'visual\.'"):
        resolve_weights(MODEL, {}, str(tmp_path / "x.safetensors"))


def test_two_networks_that_fit_are_a_question(tmp_path, complete):
    both = {f"{who}.{name}": tensor.clone() for who in ("student", "teacher") for name, tensor in complete.items()}
    as_safetensors(both, tmp_path / "two.safetensors")
    with pytest.raises(HeadstartError, match=r"2 networks that fit: student\., teacher\."):
        resolve_weights(MODEL, {}, str(tmp_path / "two.safetensors"))


@pytest.mark.parametrize("thing", [Path("/data"), np.float64(0.9), np.arange(3)], ids=["path", "number", "array"])
def test_other_objects_beside_tensors_are_called_that(tmp_path, complete, thing):
    torch.save({"state_dict": complete, "more": thing}, tmp_path / "x.pth")
    with pytest.raises(HeadstartError, match=r"holds other objects than tensors \(.*Save its state dict alone"):
        resolve_weights(MODEL, {}, str(tmp_path / "x.pth"))


FOREIGN = {
    "lightning": ({"hyper_parameters": {"root": Path("/data")}}, r"hyper_parameters\.root: pathlib\.\w+\)"),
    "in-a-list": ({"callbacks": [1, [np.float64(0.9)]]}, r"callbacks\.1\.0: numpy\S+scalar\)"),
    "many": ({name: Path("/") for name in "abcde"}, r"a: .*, b: .*, c: \S+ and 2 more\)"),
    "of-a-class": ({"criterion": torch.nn.MSELoss()}, r"criterion: torch\.nn\.modules\.loss\.MSELoss\)"),
}


@pytest.mark.parametrize(("beside", "says"), FOREIGN.values(), ids=FOREIGN)
def test_other_objects_are_named_with_their_keys_and_the_keys_beside(tmp_path, complete, beside, says):
    torch.save({"epoch": 1, "model_ema": complete, **beside}, tmp_path / "x.pth")
    keys = ", ".join(["epoch", "model_ema", *beside])
    with pytest.raises(HeadstartError, match=rf"{says}.*Its keys: {keys}\. .*checkpoint\['model_ema'\]") as caught:
        resolve_weights(MODEL, {}, str(tmp_path / "x.pth"))
    assert "\n" not in str(caught.value)


def test_what_an_object_would_do_is_not_done_to_name_it(tmp_path, complete):
    torch.save({"state_dict": complete, "more": Harm(tmp_path / "harmed")}, tmp_path / "x.pth")
    with pytest.raises(HeadstartError, match="holds other objects than tensors"):
        resolve_weights(MODEL, {}, str(tmp_path / "x.pth"))
    assert not (tmp_path / "harmed").exists()
