"""Exported features are those of the cache, row by row, and other programs' own readers take them."""

import contextlib
import csv
import importlib.util
import io

import numpy as np
import pytest

from headstart.experiments.interchange.export_features import known_formats
from headstart.features.store.packing import open_cache
from headstart.pipeline.files import FileSystem
from headstart.pipeline.workspace import open_workspace
from tests.jobs.extraction import encoder_of

from .calling import call

HAS_FAISS = importlib.util.find_spec("faiss") is not None


@pytest.fixture(scope="module")
def cached(prepared):
    return open_cache(encoder_of(open_workspace(prepared)))


def exported(prepared, form, out):
    done = call("export-features", "--format", form, "-o", out, "-w", prepared)
    assert done.status == 0, done.errors
    assert "600 images" in done.output
    return out


def test_parquet_has_features_a_map_and_neighbours(prepared, cached, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(exported(prepared, "parquet", tmp_path / "f.parquet"))
    rows = np.array(table["features"].to_pylist(), np.float32)
    assert (rows == cached.take(np.arange(600))).all()
    assert table["path"].to_pylist() == cached.paths
    assert table["label"].to_pylist() == cached.labels.tolist()
    near = table["neighbors"].to_pylist()
    assert all(row not in each["ids"] and len(each["ids"]) == 10 for row, each in enumerate(near))
    assert all(each["distances"] == sorted(each["distances"]) for each in near)
    points = np.array([table["projection_x"].to_pylist(), table["projection_y"].to_pylist()]).T
    centred = rows.astype(np.float64) - rows.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    assert np.abs(np.sqrt((points**2).sum(axis=0)) / singular[:2] - 1).max() < 1e-3


def test_hdf5_has_features_and_texts(prepared, cached, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(exported(prepared, "h5", tmp_path / "f.h5")) as file:
        assert (file["features"][:] == cached.take(np.arange(600))).all()
        assert file["split"].asstr()[:].tolist() == cached.splits.tolist()


def test_a_file_an_image_holds_its_features_and_what_it_is(prepared, cached, tmp_path):
    folder = exported(prepared, "npz-per-image", tmp_path / "f")
    assert len(list(folder.iterdir())) == 600
    with np.load(folder / "img_000123.npz", allow_pickle=False) as one:
        assert (one["features"] == cached.take(np.array([123]))[0]).all()
        assert (str(one["path"]), str(one["label"])) == (cached.paths[123], cached.labels[123])


def test_tensorboards_projector_gets_a_line_an_image(prepared, cached, tmp_path):
    folder = exported(prepared, "tensorboard", tmp_path / "f")
    rows = np.loadtxt(folder / "features.tsv", delimiter="\t")
    assert np.allclose(rows, cached.take(np.arange(600)).astype(float), rtol=1e-5, atol=1e-6)
    lines = list(csv.reader(io.StringIO((folder / "metadata.tsv").read_text()), delimiter="\t"))
    assert lines[0] == ["path", "label", "split"]
    assert [line[0] for line in lines[1:]] == cached.paths
    assert 'tensor_path: "features.tsv"' in (folder / "projector_config.pbtxt").read_text()


@pytest.mark.skipif(not HAS_FAISS, reason="faiss is not installed")
def test_the_index_finds_each_image_itself_first(prepared, cached, tmp_path):
    import faiss

    folder = exported(prepared, "faiss", tmp_path / "f")
    index = faiss.read_index(str(folder / "features.faiss"))
    rows = cached.take(np.arange(600)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert (index.search(rows, 1)[1][:, 0] == np.arange(600)).mean() > 0.99


@pytest.mark.skipif(HAS_FAISS, reason="faiss is installed")
def test_a_format_whose_package_is_absent_names_the_extra_in_one_line(prepared, tmp_path):
    done = call("export-features", "--format", "faiss", "-o", tmp_path / "f", "-w", prepared)
    assert done.status == 1
    assert "pip install 'headstart[faiss]'" in done.reason
    assert not (tmp_path / "f").exists()


def test_an_unknown_format_is_answered_with_those_that_there_are(prepared, tmp_path):
    done = call("export-features", "--format", "xlsx", "-o", tmp_path / "f", "-w", prepared)
    assert done.status == 1
    assert ", ".join(known_formats()) in done.reason


def test_what_is_there_already_is_not_written_over(prepared, tmp_path):
    (tmp_path / "f.h5").write_text("mine")
    done = call("export-features", "--format", "h5", "-o", tmp_path / "f.h5", "-w", prepared)
    assert done.status == 1
    assert "is there already" in done.reason
    assert (tmp_path / "f.h5").read_text() == "mine"


def test_a_folder_whose_writing_was_killed_does_not_stand_there_and_the_next_one_is_whole(prepared, tmp_path, monkeypatch):
    whole = {path.name for path in exported(prepared, "npz-per-image", tmp_path / "whole").iterdir()}
    replace, written = FileSystem.replace, []

    def killed(files, path, data):
        written.append(path)
        if len(written) == 5:
            raise KeyboardInterrupt
        replace(files, path, data)

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(FileSystem, "replace", killed)
        call("export-features", "--format", "npz-per-image", "-o", tmp_path / "out", "-w", prepared)
    assert len(written) == 5
    assert not (tmp_path / "out").exists()
    assert {path.name for path in exported(prepared, "npz-per-image", tmp_path / "out").iterdir()} == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]
