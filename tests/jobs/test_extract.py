import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from headstart import load_features, run_job
from headstart.pipeline.queue import Reader
from headstart.pipeline.status import failed_items
from tests.support import ROOT, run_cli, run_python

from .extraction import KINDS, digests, draw, encoder_of, enqueue, enqueued, work


def test_every_image_has_its_features_exactly_once_aligned_with_its_label(finished, photos):
    loaded = load_features(encoder_of(finished))
    assert loaded.features.shape == (150, 96)
    assert loaded.features.dtype == np.float16
    assert sorted(loaded.paths) == sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert [path[0] for path in loaded.paths] == loaded.labels.tolist()
    assert set(loaded.splits) == {"train", "val", "test"}


def test_a_table_of_what_is_known_of_each_image_stands_beside_its_features(finished):
    loaded = load_features(encoder_of(finished))
    frame = loaded.to_frame()
    assert list(frame.columns) == ["path", "label", "split", "index"]
    assert frame["path"].tolist() == loaded.paths
    assert frame.groupby("label").size().to_dict() == {"a": 50, "b": 50, "c": 50}
    assert loaded.features[frame["split"] == "train"].shape == ((frame["split"] == "train").sum(), 96)


def test_features_are_those_of_the_image_they_stand_beside(finished, photos):
    from headstart.features.encoders.runtime import open_encoder
    from headstart.features.images.decode import decode

    loaded = load_features(encoder_of(finished))
    encoder = open_encoder(encoder_of(finished), "cpu")
    for row in (0, 71, 149):
        pixels = decode((photos / loaded.paths[row]).read_bytes(), encoder.spec.transform)
        np.testing.assert_allclose(encoder.encode(pixels[None])[0], loaded.features[row].astype(np.float32), rtol=2e-3, atol=2e-3)


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
    loaded = load_features(encoder_of(workspace))
    assert [int(label) for label in loaded.labels] == [int(path[-1]) % 2 for path in loaded.paths]
    Image.fromarray(pixels[3]).save(tmp_path / "3.png")
    draw(tmp_path / "single/a/0.png", 0)
    shutil.copy(tmp_path / "3.png", tmp_path / "single/a/0.png")
    single = enqueue(tmp_path / "single", tmp_path / "w2")
    work(single)
    alone = load_features(encoder_of(single)).features[0].astype(np.float32)
    there = loaded.features[loaded.paths.index("images.h5#000000003")].astype(np.float32)
    np.testing.assert_allclose(alone, there, rtol=2e-3, atol=2e-3)


def test_images_in_parquet_give_the_features_of_the_same_files_and_move_like_them(photos, tmp_path, finished):
    pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    import pyarrow.parquet as pq

    files = sorted(photos.rglob("*.png"))
    (tmp_path / "data").mkdir()
    for name, some in (("train-00000-of-00002", files[::2]), ("train-00001-of-00002", files[1::2])):
        pictures = [{"bytes": file.read_bytes(), "path": file.name} for file in some]
        table = pa.table({"image": pictures, "label": [file.parent.name for file in some]})
        pq.write_table(table, tmp_path / f"data/{name}.parquet", row_group_size=20)
    workspace = enqueue(tmp_path / "data", tmp_path / "w")
    work(workspace)
    loaded, expected = load_features(encoder_of(workspace)), load_features(encoder_of(finished))
    at = {path: i for i, path in enumerate(loaded.paths)}
    path_of = {
        f"train-0000{k}-of-00002.parquet#{i:09d}": file.relative_to(photos).as_posix()
        for k in range(2)
        for i, file in enumerate(files[k::2])
    }
    order = [at[name] for name in path_of]
    of_files = [expected.paths.index(path) for path in path_of.values()]
    np.testing.assert_array_equal(loaded.features[order], expected.features[of_files])
    assert loaded.labels[order].tolist() == expected.labels[of_files].tolist()
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/train-00001-of-00002.parquet").rename(tmp_path / "elsewhere/more.parquet")
    (tmp_path / "elsewhere/train-00000-of-00002.parquet").rename(tmp_path / "elsewhere/some.parquet")
    said = enqueued(tmp_path / "elsewhere", tmp_path / "w")
    assert "0 new images, 150 known (150 moved), 0 changed" in said
    assert "0 jobs added" in said


@pytest.mark.parametrize("kind", sorted(path.stem for path in ROOT.glob("jobs/[a-z]*.py")))
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
