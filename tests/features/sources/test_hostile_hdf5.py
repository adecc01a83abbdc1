"""An HDF5 file leads nowhere and costs what it holds, not what it declares."""

import os
import time

import h5py
import numpy as np
import pytest

from headstart.features.images.decode import ImageError
from headstart.features.images.reader import _Hdf5Reader
from headstart.features.manifest.parts import Row
from headstart.features.sources.hdf5 import hdf5_source
from headstart.features.sources.source import Image, SourceOptions
from headstart.pipeline.errors import HeadstartError

PIXELS = np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)


@pytest.fixture
def elsewhere(tmp_path):
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "key").write_bytes(b"-----BEGIN PRIVATE KEY-----".ljust(768, b"K"))
    with h5py.File(folder / "p.h5", "w") as file:
        file["images"] = PIXELS
        file["labels"] = np.array([b"secret"] * 4)
    return folder


def external_storage(file, folder):
    file.create_dataset("images", shape=PIXELS.shape, dtype="u1", external=[(str(folder / "key"), 0, 768)])


def external_link(file, folder):
    file["images"] = h5py.ExternalLink(str(folder / "p.h5"), "images")


def virtual(file, folder):
    layout = h5py.VirtualLayout(PIXELS.shape, "u1")
    layout[:] = h5py.VirtualSource(str(folder / "p.h5"), "images", PIXELS.shape)
    file.create_virtual_dataset("images", layout)


def soft_link_through_an_external_one(file, folder):
    file["there"] = h5py.ExternalLink(str(folder / "p.h5"), "/")
    file["images"] = h5py.SoftLink("/there/images")


def soft_links_in_a_circle(file, folder):
    file["images"] = h5py.SoftLink("/b")
    file["b"] = h5py.SoftLink("/images")


def labels_in_external_storage(file, folder):
    file["images"] = PIXELS
    file.create_dataset("labels", shape=(4,), dtype="S14", external=[(str(folder / "key"), 0, 56)])


def labels_behind_an_external_link(file, folder):
    file["images"] = PIXELS
    file["labels"] = h5py.ExternalLink(str(folder / "p.h5"), "labels")


def labels_behind_a_soft_link(file, folder):
    file["images"] = PIXELS
    file["there"] = h5py.ExternalLink(str(folder / "p.h5"), "/")
    file["labels"] = h5py.SoftLink("there/labels")


def never_written(file, folder):
    file.create_dataset("images", shape=(10**8, 8, 8, 3), dtype="u1", chunks=(1, 8, 8, 3))


def hardly_written(file, folder):
    file.create_dataset("images", shape=(10**8, 8, 8, 3), dtype="u1", chunks=(1, 8, 8, 3))
    file["images"][5] = 1


def chunks_of_gigabytes(file, folder):
    file.create_dataset("images", shape=(4, 20000, 20000, 3), dtype="u1", chunks=(1, 20000, 20000, 3), compression="gzip")


def labels_of_a_megabyte(file, folder):
    file["images"] = PIXELS
    file["labels"] = np.array([b"x" * 10**6] * 4)


ODD = [
    external_storage,
    external_link,
    virtual,
    soft_link_through_an_external_one,
    soft_links_in_a_circle,
    labels_in_external_storage,
    labels_behind_an_external_link,
    labels_behind_a_soft_link,
    never_written,
    hardly_written,
    chunks_of_gigabytes,
    labels_of_a_megabyte,
]


@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__)
def test_it_is_refused_at_once_and_nothing_of_another_file_is_said(tmp_path, elsewhere, make):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        make(file, elsewhere)
    begun = time.monotonic()
    with pytest.raises(HeadstartError) as caught:
        hdf5_source(tmp_path / "x.h5", SourceOptions())
    assert time.monotonic() - begun < 5
    assert "BEGIN" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_pipe_is_no_hdf5_file(tmp_path):
    os.mkfifo(tmp_path / "x.h5")
    with pytest.raises(HeadstartError, match="a pipe"):
        hdf5_source(tmp_path / "x.h5", SourceOptions())


def test_a_link_within_the_file_is_followed(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["group/pixels"] = PIXELS
        file["group/again"] = h5py.SoftLink("pixels")
        file["images"] = h5py.SoftLink("/group/again")
    assert len(hdf5_source(tmp_path / "x.h5", SourceOptions()).images) == 4


@pytest.mark.parametrize("make", [external_storage, external_link, virtual], ids=lambda make: make.__name__)
def test_a_file_that_was_exchanged_since_costs_its_rows(tmp_path, elsewhere, make):
    from types import SimpleNamespace

    with h5py.File(tmp_path / "x.h5", "w") as file:
        make(file, elsewhere)
    facts = (tmp_path / "x.h5").stat()
    row = Row(Image("x.h5#000000001", "", "", "", facts.st_size, facts.st_mtime_ns), 1)
    with pytest.raises(ImageError, match="not read"):
        _Hdf5Reader(tmp_path / "x.h5", SimpleNamespace(), None)(row)


def test_an_image_of_900_megapixels_costs_its_row(tmp_path):
    from types import SimpleNamespace

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("images", shape=(4, 30000, 30000, 3), dtype="u1", chunks=(1, 1000, 1000, 3))
    facts = (tmp_path / "x.h5").stat()
    row = Row(Image("x.h5#000000001", "", "", "", facts.st_size, facts.st_mtime_ns), 1)
    with pytest.raises(ImageError, match="30000 x 30000") as caught:
        _Hdf5Reader(tmp_path / "x.h5", SimpleNamespace(), None)(row)
    assert caught.value.code == "too_large"
