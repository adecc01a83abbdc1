import contextlib
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from headstart.features.encoders import kept_graphs, prepared, user_cache
from headstart.features.encoders.kept_graphs import keep_encoder, kept_folder, take_encoder
from headstart.features.encoders.onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME
from headstart.features.encoders.prepared import begin_encoder
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import WEIGHTS_NAME, read_encoder
from headstart.features.encoders.user_cache import KEPT_NAME, cache_folder
from headstart.features.networks import weights
from headstart.features.networks.architectures import build
from headstart.pipeline.workspace import open_or_create_workspace
from tests.features.samples import enqueued_afresh, picture
from tests.support import flip

TINY = "test_efficientnet"
FILES = ("encoder.json", WEIGHTS_NAME, GRAPH_NAME, GRAPH_FACTS_NAME)


@pytest.fixture
def request_of_file(tmp_path):
    """An encoder with a file of weights, as a user may name one."""
    elsewhere = open_or_create_workspace(tmp_path / "elsewhere")
    folder = save_encoder(elsewhere, *resolve_encoder(EncoderRequest(TINY, "random:3", 64)))
    return EncoderRequest(TINY, str(shutil.copyfile(folder / WEIGHTS_NAME, tmp_path / "weights.safetensors")), 64)


def made(request, root):
    """The files of the encoder as they are handed to a new workspace at `root`."""
    with contextlib.ExitStack() as held:
        spec, folder = begin_encoder(open_or_create_workspace(root), request, held, with_graph=True).finished()
        assert read_encoder(folder) == spec
        return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def exports(monkeypatch):
    """Each export that is done from now on."""
    done, export = [], prepared.export_graph
    monkeypatch.setattr(prepared, "export_graph", lambda folder: done.append(folder) or export(folder))
    return done


def test_another_workspace_gets_the_bytes_of_a_fresh_export_without_one(cache, request_of_file, exports, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", "")
    fresh = made(request_of_file, tmp_path / "fresh")
    monkeypatch.setenv("HEADSTART_CACHE", str(cache))
    assert made(request_of_file, tmp_path / "first") == fresh
    assert len(exports) == 2
    assert made(request_of_file, tmp_path / "second") == fresh
    assert len(exports) == 2


def test_weights_are_known_by_their_bytes_and_called_by_where_they_lie(cache, request_of_file, exports, tmp_path, monkeypatch):
    made(request_of_file, tmp_path / "first")
    moved = replace(request_of_file, weights=str(shutil.copyfile(request_of_file.weights, tmp_path / "copy.safetensors")))
    taken = made(moved, tmp_path / "second")
    assert len(exports) == 1
    assert json.loads(taken["encoder.json"])["weights_source"] == moved.weights
    monkeypatch.setenv("HEADSTART_CACHE", "")
    assert made(moved, tmp_path / "third") == taken
    flip(tmp_path / "copy.safetensors")
    monkeypatch.setenv("HEADSTART_CACHE", str(cache))
    assert not kept_folder(moved).exists()


@pytest.mark.parametrize("name", [KEPT_NAME, *FILES])
@pytest.mark.parametrize(
    "damage",
    [
        flip,
        os.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: os.truncate(path, 1 << 40),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.rename(path.with_suffix(".other")), path.symlink_to(path.with_suffix(".other"))),
    ],
    ids=["a bit", "missing", "empty", "a terabyte of nothing", "a folder", "a link"],
)
def test_what_is_damaged_is_not_taken(kept, name, damage, tmp_path):
    folder, request = kept
    assert take_encoder(folder, request, tmp_path / "whole")
    damage(folder / name)
    assert not take_encoder(folder, request, tmp_path / "taken")


@pytest.fixture
def kept(cache, request_of_file, tmp_path):
    """Where an encoder is kept, and what asks for it."""
    made(request_of_file, tmp_path / "workspace")
    return kept_folder(request_of_file), request_of_file


def test_whoever_takes_an_encoder_while_others_keep_it_gets_all_of_it_or_nothing(kept, tmp_path):
    folder, request = kept
    assert take_encoder(folder, request, tmp_path / "whole")
    expected = {name: (tmp_path / "whole" / name).read_bytes() for name in FILES}
    with ThreadPoolExecutor(3) as pool:
        keeping = [pool.submit(keep_encoder, folder, request, tmp_path / "whole") for _ in range(20)]
        taken = [tmp_path / f"taken_{n}" for n in range(20)]
        is_taken = list(pool.map(lambda target: take_encoder(folder, request, target), taken))
        for one in keeping:
            one.result()
    for target in (target for target, whole in zip(taken, is_taken, strict=True) if whole):
        assert {name: (target / name).read_bytes() for name in FILES} == expected
    assert take_encoder(folder, request, tmp_path / "after")
    assert {path.name for path in folder.iterdir()} == {KEPT_NAME, *FILES}


def test_what_is_damaged_is_exported_anew_and_replaced(kept, exports, tmp_path):
    folder, request = kept
    flip(folder / GRAPH_NAME)
    anew = made(request, tmp_path / "second")
    assert len(exports) == 1
    assert made(request, tmp_path / "third") == anew
    assert len(exports) == 1


def test_a_cache_that_cannot_be_written_is_none(request_of_file, exports, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file"))
    assert made(request_of_file, tmp_path / "first") == made(request_of_file, tmp_path / "second")
    assert len(exports) == 2
    monkeypatch.setenv("HEADSTART_CACHE", "")
    assert kept_folder(request_of_file) is None


def test_nothing_of_an_encoder_stays_that_the_disk_had_no_room_for(cache, request_of_file, tmp_path, monkeypatch):
    copied = user_cache.copied

    def fails(source, target):
        if target.name == GRAPH_NAME:
            raise OSError(28, "No space left on device")
        return copied(source, target)

    monkeypatch.setattr(user_cache, "copied", fails)
    made(request_of_file, tmp_path / "first")
    assert list((cache / "encoders").iterdir()) == []


def test_weights_that_change_while_they_are_read_are_not_kept(cache, request_of_file, tmp_path, monkeypatch):
    prepare = prepared.prepare

    def changes(asked):
        folder = prepare(asked)
        flip(Path(request_of_file.weights))
        return folder

    monkeypatch.setattr(prepared, "prepare", changes)
    made(request_of_file, tmp_path / "first")
    assert not (cache / "encoders").exists()


def test_what_was_used_longest_ago_goes_first(cache, tmp_path, monkeypatch):
    requests = [EncoderRequest(TINY, f"random:{seed}", 64) for seed in range(3)]
    for request in requests[:2]:
        made(request, tmp_path / "workspace")
        shutil.rmtree(tmp_path / "workspace")
    one, two, three = map(kept_folder, requests)
    for seconds, folder in ((1, one), (2, two)):
        os.utime(folder / KEPT_NAME, (seconds, seconds))
    made(requests[0], tmp_path / "workspace")  # used again
    size = sum(path.stat().st_size for path in one.iterdir())
    monkeypatch.setattr(user_cache, "MOST_BYTES", int(2.5 * size))
    made(requests[2], tmp_path / "workspace")
    assert set((cache / "encoders").iterdir()) == {one, three}
    monkeypatch.setattr(user_cache, "MOST_BYTES", size // 2)
    shutil.rmtree(one)
    made(requests[0], tmp_path / "workspace_2")
    assert not one.exists()


def test_a_graph_is_kept_of_one_request_processor_and_version(cache, request_of_file, monkeypatch):
    place = kept_folder(request_of_file)
    assert kept_folder(replace(request_of_file, compress="pca:8,int8", maps=(8,))) == kept_folder(
        replace(request_of_file, maps=(8,))
    )
    assert kept_folder(replace(request_of_file, precision="int8", else_float32=True)) == place
    assert kept_folder(replace(request_of_file, image_size=96)) != place
    with monkeypatch.context() as patch:
        patch.setattr(user_cache, "processor_features", lambda: frozenset({"sse2"}))
        assert kept_folder(request_of_file) != place
    with monkeypatch.context() as patch:
        patch.setattr(kept_graphs.metadata, "version", lambda name: "0.0")
        assert kept_folder(request_of_file) != place
    hub = kept_folder(EncoderRequest(TINY))
    monkeypatch.setenv("HF_HUB_CACHE", "/elsewhere")
    assert kept_folder(EncoderRequest(TINY)) != hub
    assert kept_folder(request_of_file) == place


def test_a_name_of_the_hub_is_kept_too(cache, exports, tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(
        weights, "fetch_pretrained", lambda model, arguments: fetched.append(model) or build(model, arguments, 5).state_dict()
    )
    request = EncoderRequest(TINY, image_size=64)
    assert made(request, tmp_path / "first") == made(request, tmp_path / "second")
    assert (fetched, len(exports)) == ([TINY], 1)


@pytest.mark.parametrize(
    ("system", "environment", "expected"),
    [
        ("linux", {}, "home/.cache/headstart"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/headstart"),
        ("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/headstart"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/headstart"),
        ("linux", {"HEADSTART_CACHE": "named"}, "named"),
        ("linux", {"HEADSTART_CACHE": ""}, None),
    ],
    ids=["linux", "xdg", "macos", "windows", "named", "off"],
)
def test_the_folder_is_where_the_system_keeps_such_things(system, environment, expected, tmp_path, monkeypatch):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HEADSTART_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value and str(tmp_path / value))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(sys, "platform", system)
    assert cache_folder() == (expected and tmp_path / expected)


def test_an_enqueue_into_another_workspace_starts_no_child_and_loads_no_torch(cache, request_of_file, tmp_path):
    (tmp_path / "photos").mkdir()
    picture(70, 70).save(tmp_path / "photos" / "a.png")

    def enqueued(workspace):
        told = enqueued_afresh(tmp_path / "photos", tmp_path / workspace, TINY, request_of_file.weights)
        files = {name: (Path(told["folder"]) / name).read_bytes() for name in FILES}
        return files, [told[name] for name in ("graph_refused", "loaded", "children")]

    first, said = enqueued("first")
    assert said == ["", [], 1]
    second, said = enqueued("second")
    assert said == ["", [], 0]
    assert second == first
