import errno

import h5py
import numpy as np
import pytest

from headstart.features.images.decode import ImageError
from headstart.features.images.reader import open_reader
from headstart.features.manifest.parts import Row
from headstart.features.manifest.reading import Dataset
from headstart.features.sources import blocks
from headstart.features.sources.hdf5 import hdf5_source
from headstart.features.sources.source import Image, SourceOptions
from headstart.pipeline.errors import TryLaterError
from tests.features.samples import CENTER, outcomes_of

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)
DAMAGED = 2


def reader_and_rows(path):
    facts = path.stat()
    rows = [Row(Image(f"{path.name}#{i:09d}", "", "", "", facts.st_size, facts.st_mtime_ns), i) for i in range(len(IMAGES))]
    return open_reader(Dataset(str(path.parent), "hdf5", path.name, {}, 0, allow_symlinks=False), CENTER), rows


def test_a_damaged_chunk_of_an_hdf5_file_costs_its_own_image(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("images", data=IMAGES, chunks=(1, *IMAGES.shape[1:]), compression="gzip")
        chunk = stored.id.get_chunk_info(DAMAGED)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(bytes(20))
    read, rows = reader_and_rows(path)
    for row in rows:
        if row.index == DAMAGED:
            with pytest.raises(ImageError, match=r"^unreadable: x\.h5: ") as caught:
                read(row)
            assert "\n" not in caught.value.reason
        else:
            assert read(row).shape == (224, 224, 3)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ENOTCONN], ids=errno.errorcode.get)
def test_a_disk_that_fails_under_an_hdf5_file_blames_no_image(tmp_path, monkeypatch, code):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["images"] = IMAGES
    read, rows = reader_and_rows(path)
    read(rows[0])

    def fail(dataset, place):
        raise OSError(code, "Can't synchronously read data (file read failed)")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    with pytest.raises(TryLaterError, match=r"cannot read .*x\.h5"):
        read(rows[1])


def test_an_hdf5_file_whose_disk_is_not_mounted_blames_no_image(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["images"] = IMAGES
    read, rows = reader_and_rows(path)
    path.unlink()
    with pytest.raises(TryLaterError, match="Is its disk mounted"):
        read(rows[0])


SHAPES = [True, (1, 20, 24, 3), (6, 20, 24, 3), (4, 7, 5, 3), (2, 20, 24, 1), (1, 5, 5, 1)]


def chunked(tmp_path, chunks, **more):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("images", data=IMAGES, chunks=chunks, **{"compression": "gzip", **more})
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["images"] = IMAGES
    return tmp_path / "x.h5", tmp_path / "plain.h5"


@pytest.mark.parametrize("chunks", SHAPES, ids=str)
def test_chunks_are_decompressed_once_whatever_their_shape(tmp_path, monkeypatch, chunks):
    path, plain_path = chunked(tmp_path, chunks)
    read, rows = reader_and_rows(path)
    plain, plain_rows = reader_and_rows(plain_path)
    expected = [plain(row) for row in plain_rows]
    unpacked, get = [], h5py.Dataset.__getitem__

    def count(dataset, place):
        first, last = (place.start, place.stop) if isinstance(place, slice) else (place, place + 1)
        unpacked.extend(range(first, min(last, len(dataset))))
        return get(dataset, place)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", count)
    for number in (5, 0, 3, 1, 4, 2, 5, 0)[: 6 if chunks in (SHAPES[1], SHAPES[5]) else 8]:
        assert np.array_equal(read(rows[number]), expected[number])
    assert sorted(unpacked) == list(range(len(IMAGES)))


@pytest.mark.parametrize("filters", [{"compression": "lzf"}, {"shuffle": True}, {"fletcher32": True}], ids=str)
def test_filters_of_a_chunk_change_no_pixel(tmp_path, filters):
    path, plain_path = chunked(tmp_path, (4, 7, 5, 3), **filters)
    (read, rows), (plain, plain_rows) = reader_and_rows(path), reader_and_rows(plain_path)
    for ours, row in zip(rows, plain_rows, strict=True):
        assert np.array_equal(read(ours), plain(row))


def test_chunks_that_too_many_images_share_are_read_without_being_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "LARGEST_BYTES", IMAGES.nbytes - 1)
    path, plain_path = chunked(tmp_path, (6, 5, 5, 1))
    (read, rows), (plain, plain_rows) = reader_and_rows(path), reader_and_rows(plain_path)
    for ours, row in zip(rows, plain_rows, strict=True):
        assert np.array_equal(read(ours), plain(row))
    assert any("makes reading slow" in note for note in hdf5_source(path, SourceOptions()).notes)


def test_a_damaged_chunk_costs_only_the_images_that_share_it(tmp_path):
    path, _ = chunked(tmp_path, (2, 20, 24, 3))
    with h5py.File(path, "r") as file:
        chunk = file["images"].id.get_chunk_info(1)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(bytes(20))
    read, rows = reader_and_rows(path)
    assert outcomes_of(read, rows) == ["ok", "ok", "unreadable", "unreadable", "ok", "ok"]


def test_a_disk_that_fails_under_a_block_blames_no_image(tmp_path, monkeypatch):
    path, _ = chunked(tmp_path, (2, 20, 24, 3))
    read, rows = reader_and_rows(path)
    read(rows[0])

    def fail(dataset, place):
        raise OSError(errno.EIO, "Can't synchronously read data (file read failed)")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    read(rows[1])  # it was unpacked with the first
    with pytest.raises(TryLaterError, match=r"cannot read .*x\.h5"):
        read(rows[2])


def test_rows_of_an_hdf5_file_are_read_in_the_order_of_its_chunks():
    from concurrent.futures import ThreadPoolExecutor

    from headstart.features.images.reader import Decoding, storage_order

    dataset = Dataset("/data", "hdf5", "x.h5", {}, 0, allow_symlinks=False)
    rows = [Row(Image(f"x.h5#{i:09d}", "", "", "", 1, 1), i) for i in (4, 0, 3, 1, 2)]
    seen = []

    def read(row):
        seen.append(row.index)
        return np.full((2, 2, 3), row.index, np.uint8)

    with ThreadPoolExecutor(1) as pool:
        decoding = Decoding(rows, (2, 2), read, pool, storage_order(dataset, rows))
        assert list(decoding.good()) == [0, 1, 2, 3, 4]
    assert seen == [0, 1, 2, 3, 4]
    assert decoding.images[:, 0, 0, 0].tolist() == [4, 0, 3, 1, 2]
