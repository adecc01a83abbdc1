import hashlib
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from headstart import load_features, run_job
from headstart.features import shards
from headstart.features.encoder_spec import read_encoder
from headstart.features.images import STATUS
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.kinds import Settings, known_kinds
from headstart.pipeline.markers import read_marker
from headstart.pipeline.queue import Reader
from headstart.pipeline.status import failed_items, read_status
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import Workspace, open_workspace
from tests.conftest import ROOT, run_cli, run_python, spawn_python

ENCODER = ["--encoder", "test_resnet", "--weights", "random:0", "--image-size", "32"]
KINDS = frozenset({"extract"})


def draw(path: Path, number: int) -> None:
    """A small picture, another for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


def enqueued(data: Path, root: Path, *more: str) -> str:
    """What `headstart enqueue` prints; in this process, because importing torch takes longer than the whole test."""
    from headstart.cli import group

    done = CliRunner().invoke(group, ["enqueue", str(data), *ENCODER, "-w", str(root), *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def enqueue(data: Path, root: Path, *more: str) -> Workspace:
    enqueued(data, root, *more)
    return open_workspace(root)


def work(workspace: Workspace):
    return Worker(workspace, Settings(device="cpu"), Limits(), lambda finished: None).run()


def encoder_of(workspace: Workspace) -> Path:
    [folder] = workspace.features.glob("encoder_*")
    return folder


def digests(workspace: Workspace) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in workspace.features.glob("encoder_*/shards/*/*")}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """150 pictures of three classes."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(150):
        draw(folder / "abc"[number % 3] / f"{number:03d}.png", number)
    return folder


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory) -> Workspace:
    """A workspace in which every job over `photos` is done."""
    workspace = enqueue(photos, tmp_path_factory.mktemp("finished") / "w")
    assert work(workspace).is_drained
    return workspace


def test_every_image_has_its_features_exactly_once_aligned_with_its_label(finished, photos):
    found = load_features(encoder_of(finished))
    assert found.features.shape == (150, 96)
    assert found.features.dtype == np.float16
    assert sorted(found.paths) == sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert [path[0] for path in found.paths] == found.labels.tolist()
    assert set(found.splits) == {"train", "val", "test"}


def test_a_table_of_what_is_known_of_each_image_stands_beside_its_features(finished):
    found = load_features(encoder_of(finished))
    frame = found.to_frame()
    assert list(frame.columns) == ["path", "label", "split", "index"]
    assert frame["path"].tolist() == found.paths
    assert frame.groupby("label").size().to_dict() == {"a": 50, "b": 50, "c": 50}
    assert found.features[frame["split"] == "train"].shape == ((frame["split"] == "train").sum(), 96)


def test_features_are_those_of_the_image_they_stand_beside(finished, photos):
    from headstart.features.encoders import open_encoder
    from headstart.features.images import decode

    found = load_features(encoder_of(finished))
    encoder = open_encoder(encoder_of(finished), "cpu")
    for row in (0, 71, 149):
        pixels = decode((photos / found.paths[row]).read_bytes(), encoder.spec.transform)
        np.testing.assert_allclose(encoder.encode(pixels[None])[0], found.features[row].astype(np.float32), rtol=2e-3, atol=2e-3)


def test_the_same_job_gives_the_same_bytes(finished, photos, tmp_path):
    again = enqueue(photos, tmp_path / "w")
    for job in Reader(again, KINDS):
        run_job(again, job.job_id)
    assert digests(again) == digests(finished)


def test_enqueueing_again_adds_nothing_and_new_images_form_new_jobs(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    workspace = enqueue(tmp_path / "photos", tmp_path / "w")
    before = workspace.queue.read_bytes()
    assert "0 jobs added" in enqueued(tmp_path / "photos", workspace.root)
    assert workspace.queue.read_bytes() == before
    work(workspace)
    committed = digests(workspace)
    for number in range(10):
        draw(tmp_path / "photos/a" / f"late{number}.png", 1000 + number)
    assert "1 job added" in enqueued(tmp_path / "photos", workspace.root)
    assert workspace.queue.read_bytes().startswith(before)
    work(workspace)
    assert committed.items() <= digests(workspace).items()
    assert len(load_features(encoder_of(workspace)).paths) == 160


def test_an_image_that_changed_is_enqueued_anew_and_counts_once(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    workspace = enqueue(tmp_path / "photos", tmp_path / "w")
    work(workspace)
    old = load_features(encoder_of(workspace))
    draw(tmp_path / "photos/a/000.png", 5000)
    assert "1 changed" in enqueued(tmp_path / "photos", workspace.root)
    work(workspace)
    new = load_features(encoder_of(workspace))
    assert sorted(new.paths) == sorted(old.paths)
    row, before = new.paths.index("a/000.png"), old.paths.index("a/000.png")
    assert not np.array_equal(new.features[row], old.features[before])
    assert new.splits[row] == old.splits[before]


def test_another_encoder_gets_a_folder_of_its_own_over_the_same_manifest(photos, tmp_path):
    workspace = enqueue(photos, tmp_path / "w")
    enqueue(photos, workspace.root, "--weights", "random:1")
    assert len(list(workspace.features.glob("encoder_*"))) == 2
    assert len(list(workspace.manifests.glob("*/part_*"))) == 1


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


def _touch(path):
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
    "touched after enqueue": (_nothing, _touch, "changed"),
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
    arrays = shards.read(marker.payload, marker.arrays)
    assert sorted(np.flatnonzero(arrays["status"] == 0)) == sorted(arrays["index"])
    codes = {item.item: STATUS[item.code] for item in failed.values()}
    assert {row: int(arrays["status"][row]) for row in codes} == codes
    # Aligned: each kept row has the features that its image has alone.
    found = load_features(encoder_of(workspace))
    assert len(found.paths) == 64 - len(BAD_IMAGES)
    alone = enqueue_alone(tmp_path, found.paths[7])
    np.testing.assert_allclose(alone, found.features[7].astype(np.float32), rtol=2e-3, atol=2e-3)


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


NAMES = {
    "comma": "a,b.png",
    "newline": "a\nb.png",
    "quote": "a\"b'.png",
    "formula": "=1+1.png",
    "spaces": "  a  b .png",
    "umlaut": "grüße-写真.png",
    "not UTF-8": os.fsdecode(b"caf\xe9.png"),
    "250 bytes": "x" * 246 + ".png",
    "backslash": "a\\nb.png",
    "upper case": "IMAGE.PNG",
}


def test_any_name_works_and_comes_back_as_it_is(tmp_path):
    for number, name in enumerate(NAMES.values()):
        draw(tmp_path / "photos/a" / name, number)
    (tmp_path / "photos/a/=broken\udce9\n,.png").write_bytes(b"")
    workspace = enqueue(tmp_path / "photos", tmp_path / "w")
    assert work(workspace).is_drained
    assert sorted(load_features(encoder_of(workspace)).paths) == sorted(f"a/{name}" for name in NAMES.values())
    assert [item.name for _, item in failed_items(workspace)] == ["a/=broken\udce9\n,.png"]
    shown = run_cli("status", "--failed", "-w", workspace.root)
    assert shown.returncode == 0, shown.stderr
    assert "not_an_image" in shown.stdout


def test_an_hdf5_file_of_images_is_extracted(tmp_path):
    import h5py

    pixels = np.random.default_rng(0).integers(0, 256, (10, 20, 24, 3), dtype=np.uint8)
    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "data/images.h5", "w") as file:
        file["images"], file["labels"] = pixels, np.arange(10) % 2
    workspace = enqueue(tmp_path / "data/images.h5", tmp_path / "w")
    assert work(workspace).is_drained
    found = load_features(encoder_of(workspace))
    assert [int(label) for label in found.labels] == [int(path[-1]) % 2 for path in found.paths]
    Image.fromarray(pixels[3]).save(tmp_path / "3.png")
    draw(tmp_path / "single/a/0.png", 0)
    shutil.copy(tmp_path / "3.png", tmp_path / "single/a/0.png")
    single = enqueue(tmp_path / "single", tmp_path / "w2")
    work(single)
    alone = load_features(encoder_of(single)).features[0].astype(np.float32)
    there = found.features[found.paths.index("images.h5#000000003")].astype(np.float32)
    np.testing.assert_allclose(alone, there, rtol=2e-3, atol=2e-3)


def test_an_hdf5_file_that_changed_costs_its_rows(tmp_path):
    import h5py

    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "data/images.h5", "w") as file:
        file["images"] = np.zeros((4, 8, 8, 3), np.uint8)
    workspace = enqueue(tmp_path / "data/images.h5", tmp_path / "w")
    os.utime(tmp_path / "data/images.h5", (1, 1))
    work(workspace)
    assert [item.code for _, item in failed_items(workspace)] == ["changed"] * 4


WORK = """
from pathlib import Path
from headstart.pipeline.kinds import Settings
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import open_workspace
Worker(open_workspace(Path(sys.argv[1])), Settings(device="cpu"), Limits(), lambda finished: print("heard", flush=True)).run()
"""


def test_killed_midway_and_resumed_gives_the_uninterrupted_bytes(finished, photos, tmp_path):
    workspace = enqueue(photos, tmp_path / "w", "--job-size", "64")
    worker = spawn_python(WORK, str(workspace.root))
    assert worker.stdout.readline() == "heard\n"
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert 0 < next(iter(read_status(workspace).folders.values())).done <= 3
    assert work(workspace).is_drained
    assert digests(workspace) == digests(finished)
    done = run_cli("verify", "--deep", "--repair", "-w", workspace.root)
    assert "3 jobs sound" in done.stdout
    assert not list(workspace.root.rglob(".tmp-*"))
    assert not list(workspace.features.glob("encoder_*/claims/*/*"))


def test_verify_names_a_flipped_bit_and_repair_redoes_the_job(photos, tmp_path):
    workspace = enqueue(photos, tmp_path / "w")
    work(workspace)
    committed = digests(workspace)
    payload = sorted(workspace.features.glob("encoder_*/shards/*/*"))[1]
    data = bytearray(payload.read_bytes())
    data[-300] ^= 4
    payload.write_bytes(data)
    found = run_cli("verify", "--deep", "-w", workspace.root)
    assert found.returncode == 1
    assert f"{payload.name.split('.')[0]}  features/" in found.stdout
    assert "sha256 differs" in found.stdout
    with pytest.raises(HeadstartError, match="headstart verify --deep --repair"):
        load_features(encoder_of(workspace))
    repaired = run_cli("verify", "--deep", "--repair", "--device", "cpu", "-w", workspace.root)
    assert repaired.returncode == 0, repaired.stderr
    assert "1 job redone" in repaired.stdout
    assert digests(workspace) == committed
    assert run_cli("verify", "--deep", "-w", workspace.root).returncode == 0


@pytest.mark.parametrize("spatial", [(), ("--spatial", "1")], ids=["vectors", "with maps"])
def test_a_feature_that_float16_cannot_hold_is_an_error_of_its_row(photos, tmp_path, monkeypatch, spatial):
    from headstart.features import opening

    workspace = enqueue(photos, tmp_path / "w", *spatial)

    bad = [70_000, np.nan]

    class Overflowing:
        device, lanes, memory, versions = "cpu", 1, None, {}
        spec = read_encoder(encoder_of(workspace))

        def encode(self, images):
            features = np.ones((len(images), self.spec.row_length), np.float32)
            for row in range(min(len(bad), len(images))):
                features[row, -1 if len(bad) == 1 else 3] = bad.pop()
            return features

        def close(self):
            pass

    monkeypatch.setattr(opening, "open_encoder", lambda folder, device: Overflowing())
    worker = Worker(workspace, Settings(device="cpu", batch_size=64), Limits(max_jobs=1), lambda finished: None)
    assert worker.run().failed_items == 2
    assert [item.code for _, item in failed_items(workspace)] == ["non_finite"] * 2
    assert np.isfinite(load_features(encoder_of(workspace)).features).all()
    for path in encoder_of(workspace).glob("shards/*/*"):
        assert all(np.isfinite(values).all() and len(values) in (62, 64) for values in np.load(path).values())


@pytest.mark.parametrize("kind", sorted(known_kinds() - {"fake"}))
def test_importing_a_kind_imports_nothing_heavy(kind):
    status, output, errors = run_python(f"import headstart.jobs.{kind}\nprint(*sys.modules)")
    assert status == 0, errors
    assert not {"numpy", "torch", "timm", "onnxruntime", "pandas", "h5py", "sklearn", "PIL"} & set(output.split())


def test_run_job_is_public_and_runs_from_a_plain_script(photos, tmp_path):
    workspace = enqueue(photos, tmp_path / "w")
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from headstart import Workspace, run_job
from headstart.pipeline.workspace import open_workspace
marker = run_job(open_workspace(Path({str(workspace.root)!r})), "job_000001")
print(marker.ok)
"""
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "64", done.stderr
