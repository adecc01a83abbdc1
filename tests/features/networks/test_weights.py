import argparse
import copy
import hashlib
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from headstart.features.networks.weights import digest, resolve_weights
from headstart.pipeline.errors import HeadstartError
from tests.features.tensors import MODEL, all_tensors, as_safetensors, cast, without


@pytest.fixture
def complete():
    return all_tensors()


def prefixed(tensors, prefix):
    return {prefix + name: tensor for name, tensor in tensors.items()}


SAME_ENCODER = {
    "safetensors": as_safetensors,
    "float16": lambda t, path: as_safetensors(cast(t, torch.float16), path),
    "bfloat16": lambda t, path: as_safetensors(cast(t, torch.bfloat16), path),
    "float64": lambda t, path: as_safetensors(cast(t, torch.float64), path),
    "state dict": torch.save,
    "state dict of old torch": lambda t, path: torch.save(t, path, _use_new_zipfile_serialization=False),
    "DataParallel": lambda t, path: torch.save({"state_dict": prefixed(t, "module.")}, path),
    "torch.compile": lambda t, path: torch.save({"model": prefixed(t, "_orig_mod.")}, path),
    "averaged weights first": lambda t, path: torch.save({"model": {"x": torch.zeros(1)}, "model_ema": t, "epoch": 3}, path),
    "timm's training script": lambda t, path: torch.save(
        {"arch": MODEL, "args": argparse.Namespace(lr=0.1), "state_dict": t}, path
    ),
    "no classifier": lambda t, path: as_safetensors(without(t, "classifier"), path),
    "classifier of 7 classes": lambda t, path: as_safetensors({**t, "classifier.weight": torch.zeros(7, 256)}, path),
    "under a key of its own": lambda t, path: torch.save({"epoch": 3, "net": t}, path),
    "model_state_dict beside an optimizer's": lambda t, path: torch.save(
        {"model_state_dict": t, "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(2)}}, "lr": 0.1}}, path
    ),
    "a table of two networks": lambda t, path: torch.save({"encoder": t, "decoder": {"x.weight": torch.zeros(2, 2)}}, path),
    "a table within a table": lambda t, path: torch.save({"ckpt": {"teacher": prefixed(t, "module.")}}, path),
    "plain values among tensors": lambda t, path: torch.save({**t, "epoch": 3, "best": 0.5, "note": None}, path),
    "how many were averaged": lambda t, path: torch.save({**prefixed(t, "module."), "n_averaged": torch.tensor(3)}, path),
    "no num_batches_tracked": lambda t, path: as_safetensors(without(t, "num_batches_tracked"), path),
}


@pytest.mark.parametrize("write", SAME_ENCODER.values(), ids=SAME_ENCODER)
def test_every_form_of_the_same_weights_is_the_same_encoder(tmp_path, complete, write):
    path = tmp_path / "weights.any"
    write(complete, path)
    found = resolve_weights(MODEL, {}, str(path))
    expected = without(complete, "classifier", "num_batches_tracked")
    assert found.tensors.keys() == expected.keys()
    assert all(torch.equal(found.tensors[name], expected[name]) for name in expected)
    assert found.sha256 == digest(expected)
    assert found.source.partition(", without the prefix ")[0] == str(path)


def cut_off(data):
    return data[: len(data) // 2]


def bytes_of(write, tensors, tmp_path):
    write(tensors, tmp_path / "whole")
    return (tmp_path / "whole").read_bytes()


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("was_executed"),))


UNREADABLE = {
    "truncated safetensors": lambda t, tmp: cut_off(bytes_of(as_safetensors, t, tmp)),
    "truncated state dict": lambda t, tmp: cut_off(bytes_of(torch.save, t, tmp)),
    "empty": lambda t, tmp: b"",
    "text": lambda t, tmp: b"<!doctype html><title>404</title>",
    "pickle that runs code": lambda t, tmp: pickle.dumps(Evil(), protocol=2),
    "state dict that runs code": lambda t, tmp: bytes_of(torch.save, {**t, "x": Evil()}, tmp),
    "list": lambda t, tmp: bytes_of(torch.save, [1, 2], tmp),
    "no tensors": lambda t, tmp: bytes_of(torch.save, {"state_dict": {"lr": 0.1}}, tmp),
    "nothing": lambda t, tmp: bytes_of(torch.save, {}, tmp),
}


@pytest.mark.parametrize("make", UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_without_weights_is_a_mistake_of_one_line_and_never_runs(tmp_path, monkeypatch, complete, make):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    path.write_bytes(make(complete, tmp_path))
    with pytest.raises(HeadstartError, match=r"weights\.pth") as caught:
        resolve_weights(MODEL, {}, str(path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "was_executed").exists()


WRAPPED = {
    "two networks in tables": ({"student": "t", "teacher": "t"}, r"2 networks that fit: student\., teacher\.\."),
    "numbered folds": ({"fold0": "t", "fold1": "t"}, r"2 networks that fit: fold0\., fold1\.\."),
    "no tensors, but keys": ({"optimizer": {"lr": 0.1}, "epoch": 2}, r"no state dict.*Its keys: optimizer, epoch\."),
}


@pytest.mark.parametrize(("content", "says"), WRAPPED.values(), ids=WRAPPED)
def test_what_a_file_holds_instead_is_said(tmp_path, complete, content, says):
    torch.save({key: complete if value == "t" else value for key, value in content.items()}, tmp_path / "w.pth")
    with pytest.raises(HeadstartError, match=says):
        resolve_weights(MODEL, {}, str(tmp_path / "w.pth"))


def test_a_whole_network_is_told_how_to_save_its_tensors(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(HeadstartError, match=r"other objects than tensors.*torch\.save\(model\.state_dict\(\), FILE\)"):
        resolve_weights(MODEL, {}, str(tmp_path / "w.pth"))


def test_a_pointer_of_git_lfs_is_no_damage(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(HeadstartError, match="git lfs pull"):
        resolve_weights(MODEL, {}, str(tmp_path / "w.safetensors"))


def quantized(tensors):
    return {name: (tensor * 50).to(torch.int8) if name == "conv_stem.weight" else tensor for name, tensor in tensors.items()}


FIRST = "blocks.0.0.bn1.bias"
DO_NOT_FIT = {
    "a tensor missing": (lambda t: without(t, FIRST), rf"{FIRST} \[\d+\] is missing"),
    "a tensor too many": (lambda t: {**t, "extra.weight": torch.zeros(2, 3)}, r"extra\.weight \[2, 3\] is unexpected"),
    "a tensor of another shape": (lambda t: {**t, FIRST: torch.zeros(5)}, rf"{FIRST} is \[5\], expected \[\d+\]"),
    "integers for floats": (quantized, r"conv_stem\.weight is torch\.int8, expected torch\.float32"),
    "another model": (lambda t: timm.create_model("test_resnet").state_dict(), r"(; .*){2} and \d+ more\."),
}


@pytest.mark.parametrize(("change", "says"), DO_NOT_FIT.values(), ids=DO_NOT_FIT)
def test_weights_that_do_not_fit_are_refused_by_name_and_shape(tmp_path, complete, change, says):
    as_safetensors(change(complete), tmp_path / "w.safetensors")
    with pytest.raises(HeadstartError, match=says) as caught:
        resolve_weights(MODEL, {}, str(tmp_path / "w.safetensors"))
    assert str(caught.value).count(";") <= 2
    assert f"does not fit {MODEL}" in str(caught.value)


def test_weights_of_another_model_are_told_by_their_name(tmp_path):
    path = tmp_path / "test_resnet.r160_in1k.safetensors"
    as_safetensors(timm.create_model("test_resnet").state_dict(), path)
    with pytest.raises(HeadstartError, match=r"By its name it fits --encoder test_resnet$"):
        resolve_weights(MODEL, {}, str(path))


def test_tensors_that_timm_itself_would_rename_are_renamed(tmp_path):
    torch.manual_seed(0)
    state = timm.create_model("test_vit").state_dict()
    as_safetensors(state, tmp_path / "timm")
    as_safetensors(prefixed(state, "visual.trunk."), tmp_path / "clip")
    as_safetensors({**prefixed(state, "visual.trunk."), "visual.trunk.extra": torch.zeros(2)}, tmp_path / "wrong")
    assert (
        resolve_weights("test_vit", {}, str(tmp_path / "clip")).sha256
        == resolve_weights("test_vit", {}, str(tmp_path / "timm")).sha256
    )
    with pytest.raises(HeadstartError, match="does not fit test_vit"):
        resolve_weights("test_vit", {}, str(tmp_path / "wrong"))


def test_positions_are_resampled_only_when_another_image_size_is_asked_for(tmp_path):
    torch.manual_seed(0)
    as_safetensors(timm.create_model("test_vit").state_dict(), tmp_path / "w")
    found = resolve_weights("test_vit", {"img_size": 96}, str(tmp_path / "w"))
    assert found.tensors["pos_embed"].shape == (1, 37, 64)
    as_safetensors(timm.create_model("test_vit", img_size=96).state_dict(), tmp_path / "w96")
    with pytest.raises(HeadstartError, match=r"pos_embed is \[1, 37, 64\], expected \[1, 101, 64\]"):
        resolve_weights("test_vit", {}, str(tmp_path / "w96"))


def test_patches_of_another_size_are_never_resampled(tmp_path):
    as_safetensors(timm.create_model("test_vit", patch_size=32).state_dict(), tmp_path / "w")
    with pytest.raises(HeadstartError, match=r"patch_embed\.proj\.weight is \[64, 3, 32, 32\], expected \[64, 3, 16, 16\]"):
        resolve_weights("test_vit", {"img_size": 96}, str(tmp_path / "w"))


@pytest.mark.parametrize("source", ["nowhere.safetensors", "embeded", "Hub", ".", ""])
def test_a_source_that_does_not_exist_offers_those_that_do(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HeadstartError, match="Pass hub, embedded, random:SEED or the path of a FILE"):
        resolve_weights(MODEL, {}, source)


def test_random_weights_follow_from_their_seed_alone():
    torch.manual_seed(1)
    first = resolve_weights(MODEL, {}, "random:3").sha256
    torch.manual_seed(2)
    torch.rand(5)
    before = torch.random.get_rng_state()
    assert resolve_weights(MODEL, {}, "random:3").sha256 == first
    assert torch.equal(torch.random.get_rng_state(), before)
    assert resolve_weights(MODEL, {}, "random:4").sha256 != first


@pytest.mark.parametrize(
    "source", ["random:", "random:x", "random:-1", "random:1.5", "random: 1", "random:٣x", "random:" + "9" * 30]
)
def test_a_malformed_seed_is_a_mistake(source):
    with pytest.raises(HeadstartError, match="random:0"):
        resolve_weights(MODEL, {}, source)


CHANGES = {
    "name": lambda t: {"b": t["a"]},
    "dtype": lambda t: {"a": t["a"].view(torch.int32)},
    "shape": lambda t: {"a": t["a"].reshape(3, 2)},
    "one bit": lambda t: {"a": t["a"] + torch.tensor([[0, 0, 0], [0, 0, 1e-6]])},
    "one more": lambda t: {**t, "b": torch.tensor(0)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_digest_notices(change):
    tensors = {"a": torch.arange(6.0).reshape(2, 3)}
    assert digest(change(tensors)) != digest(tensors)


def test_the_digest_is_that_of_the_values_in_any_order_and_layout():
    a, b = torch.arange(6.0).reshape(2, 3), torch.tensor(3, dtype=torch.int64)
    assert digest({"b": b, "a": a.t().contiguous().t()}) == digest({"a": a, "b": b})
    expected = hashlib.sha256(
        b"a\0float32\0[2, 3]\0" + np.arange(6, dtype="<f4").tobytes() + b"b\0int64\0[]\0" + b"\3" + bytes(7)
    )
    assert digest({"a": a, "b": b}) == expected.hexdigest()


def rezipped(path, compression=zipfile.ZIP_STORED, **changed):
    """The zip that torch wrote, written anew."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, changed.get(name.rpartition("/")[2].replace(".", "_"), data))


def overlap(path):
    """Every entry of the directory points at the largest member: a zip of a megabyte that says gigabytes."""
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
        for number in range(50):
            entry = copy.copy(largest)
            entry.filename = f"{largest.filename}{number}"
            archive.filelist.append(entry)
        archive._didModify = True


BOMBS = {
    "compressed tensors": lambda path: rezipped(path, zipfile.ZIP_DEFLATED, **{"0": bytes(200 << 20)}),
    "a compressed pickle": lambda path: rezipped(path, zipfile.ZIP_DEFLATED, data_pkl=b"\x80\x02" + b"(" * (100 << 20)),
    "compressed as bzip2": lambda path: rezipped(path, zipfile.ZIP_BZIP2),
    "members that overlap": overlap,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_file_that_unpacks_to_more_than_it_holds_is_refused_before_torch_sees_it(complete, tmp_path, monkeypatch, bomb):
    path = tmp_path / "weights.pt"
    torch.save(complete, path)
    bomb(path)
    for owner, name in ((torch, "load"), (torch.serialization, "get_unsafe_globals_in_checkpoint")):
        monkeypatch.setattr(owner, name, lambda *given, **named: pytest.fail("torch unpacks it"))
    with pytest.raises(HeadstartError, match=r"its members are compressed or overlap.*Fetch it again, or save its state dict"):
        resolve_weights(MODEL, {}, str(path))
