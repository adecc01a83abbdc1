import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from headstart import load_features
from headstart.features.encoders.spec import read_encoder
from headstart.features.images.decode import STATUS
from headstart.features.store import shards
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import read_marker
from headstart.pipeline.queue import Reader
from headstart.pipeline.status import failed_items, read_status
from headstart.pipeline.worker import Limits, Worker

from .extraction import KINDS, draw, encoder_of, enqueue, work


def _zero(path, _):
    path.write_bytes(b"")


def _truncate(path, _):
    path.write_bytes(path.read_bytes()[:-200])


def _text(path, _):
    path.write_text("not an image")


def _folder(path, _):
    path.unlink()
    path.mkdir()


def _fifo(path, _):
    path.unlink()
    os.mkfifo(path)


def _socket(path, _):
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have 108 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def _bomb(path, _):
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def _nothing(path, _):
    pass


def _delete(path):
    path.unlink()


def _change(path):
    path.write_bytes(path.read_bytes() + b"more")


def _rewrite(path):
    """Other bytes of the same number at another time."""
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, (1, 1))


def _lead_out(path):
    path.unlink()
    path.symlink_to("/etc/hostname")


# What happens to one image of 64, before and after it is enqueued, and the code its row gets.
BAD_IMAGES = {
    "truncated": (_truncate, _nothing, "truncated"),
    "zero bytes": (_zero, _nothing, "not_an_image"),
    "not an image": (_text, _nothing, "not_an_image"),
    "a folder named x.png": (_folder, _nothing, "not_a_file"),
    "a FIFO": (_fifo, _nothing, "not_a_file"),
    "a socket": (_socket, _nothing, "not_a_file"),
    "a bomb": (_bomb, _nothing, "too_large"),
    "deleted after enqueue": (_nothing, _delete, "missing"),
    "changed after enqueue": (_nothing, _change, "changed"),
    "other bytes of the same number after enqueue": (_nothing, _rewrite, "changed"),
    "a link out of the data, after enqueue": (_nothing, _lead_out, "outside_root"),
}


def test_a_bad_image_costs_its_own_row_and_nothing_else(tmp_path):
    """All of them at once, in one job of 64, so that each has 63 neighbours of which some are bad as well."""
    victims = {}
    for number in range(64):
        draw(tmp_path / "photos/a" / f"{number:02d}.png", number)
    for number, (name, (before, _, _)) in enumerate(BAD_IMAGES.items()):
        victims[name] = tmp_path / "photos/a" / f"{number * 5:02d}.png"
        before(victims[name], None)
    workspace = enqueue(tmp_path / "photos", tmp_path / "w")
    for name, (_, after, _) in BAD_IMAGES.items():
        after(victims[name]) if after is not _nothing else None
    assert work(workspace).is_drained

    failed = {item.name: item for _, item in failed_items(workspace)}
    assert {path: item.code for path, item in failed.items()} == {
        f"a/{victims[name].name}": code for name, (_, _, code) in BAD_IMAGES.items()
    }
    assert all(item.reason and "\n" not in item.reason for item in failed.values())
    tally = next(iter(read_status(workspace).folders.values()))
    assert (tally.done, tally.items_done, tally.items_failed) == (1, 64 - len(BAD_IMAGES), len(BAD_IMAGES))

    [job] = Reader(workspace, KINDS)
    marker = read_marker(workspace, job, __import__("headstart.jobs.extract", fromlist=["x"]).fingerprint(workspace, job.folder))
    arrays = shards.read_shard(marker.payload, marker.arrays)
    assert sorted(np.flatnonzero(arrays["status"] == 0)) == sorted(arrays["index"])
    codes = {item.item: STATUS[item.code] for item in failed.values()}
    assert {row: int(arrays["status"][row]) for row in codes} == codes
    # Aligned: each kept row has the features that its image has alone.
    loaded = load_features(encoder_of(workspace))
    assert len(loaded.paths) == 64 - len(BAD_IMAGES)
    alone = enqueue_alone(tmp_path, loaded.paths[7])
    np.testing.assert_allclose(alone, loaded.features[7].astype(np.float32), rtol=2e-3, atol=2e-3)


def enqueue_alone(tmp_path, path):
    shutil.copytree(tmp_path / "photos/a", tmp_path / "alone/a", ignore=lambda _, names: [n for n in names if f"a/{n}" != path])
    workspace = enqueue(tmp_path / "alone", tmp_path / "alone-w")
    work(workspace)
    return load_features(encoder_of(workspace)).features[0].astype(np.float32)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root, to become somebody with fewer rights")
def test_an_image_nobody_may_read_costs_its_own_row(tmp_path):
    for number in range(3):
        draw(tmp_path / "photos/a" / f"{number}.png", number)
    workspace = enqueue(tmp_path / "photos", tmp_path / "w")
    (tmp_path / "photos/a/1.png").chmod(0)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    for path in [workspace.root, *workspace.root.rglob("*")]:
        os.chown(path, 65534, 65534)
    import timm  # noqa: F401 - as root: its modules may lie where nobody else reads

    os.seteuid(65534)
    try:
        assert work(workspace).is_drained
    finally:
        os.seteuid(0)
    assert [(item.name, item.code) for _, item in failed_items(workspace)] == [("a/1.png", "unreadable")]


def test_an_hdf5_file_that_changed_costs_its_rows(tmp_path):
    import h5py

    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "data/images.h5", "w") as file:
        file["images"] = np.zeros((4, 8, 8, 3), np.uint8)
    workspace = enqueue(tmp_path / "data/images.h5", tmp_path / "w")
    with h5py.File(tmp_path / "data/images.h5", "r+") as file:
        file["images"][2] = 7
    os.utime(tmp_path / "data/images.h5", (1, 1))
    work(workspace)
    # The others are as they were, and known by their bytes.
    assert [(item.name, item.code) for _, item in failed_items(workspace)] == [("images.h5#000000002", "changed")]


@pytest.mark.parametrize("spatial", [(), ("--spatial", "1")], ids=["vectors", "with maps"])
def test_a_feature_that_float16_cannot_hold_is_an_error_of_its_row(photos, tmp_path, monkeypatch, spatial):
    from headstart.features.encoders import runtime

    workspace = enqueue(photos, tmp_path / "w", *spatial)

    bad = [70_000, np.nan]

    class Overflowing:
        device, threads, memory, versions = "cpu", 1, None, {}
        spec = read_encoder(encoder_of(workspace))

        def encode(self, images):
            features = np.ones((len(images), self.spec.row_length), np.float32)
            for row in range(min(len(bad), len(images))):
                features[row, -1 if len(bad) == 1 else 3] = bad.pop()
            return features

        def close(self):
            pass

    monkeypatch.setattr(runtime, "open_encoder", lambda folder, device: Overflowing())
    worker = Worker(workspace, Settings(device="cpu", batch_size=64), Limits(max_jobs=1), lambda finished: None)
    assert worker.run().failed_items == 2
    assert [item.code for _, item in failed_items(workspace)] == ["non_finite"] * 2
    assert np.isfinite(load_features(encoder_of(workspace)).features).all()
    for path in encoder_of(workspace).glob("shards/*/*"):
        assert all(np.isfinite(values).all() and len(values) in (62, 64) for values in np.load(path).values())
