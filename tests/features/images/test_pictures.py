"""Images that lie in Parquet files: read by row groups, each unpacked once, and never taken for what they are not."""

import errno
import os
from dataclasses import replace

import numpy as np
import pytest

from headstart.features.images import pictures
from headstart.features.images.decode import ImageError, decode
from headstart.features.images.reader import open_reader, open_whole_reader
from headstart.features.manifest.content import digest_of_bytes
from headstart.features.manifest.parts import Row
from headstart.features.manifest.reading import Dataset
from headstart.features.sources.source import Image
from headstart.pipeline.errors import SourceGoneError, TryLaterError
from tests.features.samples import CENTER, outcomes_of, picture, saved

pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

FILES = [saved(picture(20, 24, seed), kind) for seed, kind in enumerate(["PNG", "JPEG", "PNG", "WEBP", "GIF", "PNG"])]


def write(path, files, **options):
    values = [{"bytes": data, "path": None} for data in files]
    pq.write_table(pa.table({"image": values, "label": ["a"] * len(files)}), path, **{"row_group_size": 2, **options})


@pytest.fixture
def shard(tmp_path):
    write(tmp_path / "a.parquet", FILES)
    return tmp_path / "a.parquet"


def rows_of(path, with_digest=True):
    facts = path.stat()
    digests = [digest_of_bytes(data) if with_digest else "" for data in FILES]
    known = (facts.st_size, facts.st_mtime_ns, ())
    return [Row(Image(f"a.parquet#{i:09d}", "", "", "", *known, digest=digest), i) for i, digest in enumerate(digests)]


def changed(row, **image):
    return replace(row, image=row.image._replace(**image))


def dataset(path, file=None):
    return Dataset(str(path.parent), "parquet", file, {"path": "image"}, 0, allow_symlinks=False)


@pytest.mark.parametrize("file", [None, "a.parquet"], ids=["folder", "file"])
def test_pixels_are_those_of_the_same_image_as_a_file(shard, file):
    read, whole = open_reader(dataset(shard, file), CENTER), open_whole_reader(dataset(shard, file))
    for row, data in zip(rows_of(shard), FILES, strict=True):
        assert np.array_equal(read(row), decode(data, CENTER))
        assert whole(row).size == (20, 24)


def test_a_row_group_is_unpacked_once_for_its_images(shard, monkeypatch):
    unpacked, read_group = [], pictures.read_group

    def count(file, column, group):
        unpacked.append(group.number)
        return read_group(file, column, group)

    monkeypatch.setattr(pictures, "read_group", count)
    read = open_reader(dataset(shard), CENTER)
    for i in (5, 0, 3, 1, 4, 2, 0):
        read(rows_of(shard)[i])
    assert sorted(unpacked) == [0, 1, 2]


def test_a_file_with_another_time_and_the_same_bytes_is_the_same(shard):
    rows = rows_of(shard)
    os.utime(shard, (1, 1))
    read = open_reader(dataset(shard), CENTER)
    assert all(read(row).shape == (224, 224, 3) for row in rows)
    with pytest.raises(ImageError, match=r"^changed: "):
        open_reader(dataset(shard), CENTER)(changed(rows[0], digest=""))


def test_other_images_at_the_same_rows_are_changed(shard):
    rows = rows_of(shard)
    write(shard, [FILES[0], *FILES[:4]])
    read = open_reader(dataset(shard), CENTER)
    assert read(rows[0]).shape == (224, 224, 3)
    for row in rows[1:]:
        with pytest.raises(ImageError, match=r"^changed: "):
            read(row)


def test_digests_are_noted_where_there_were_none(shard):
    noted = {}
    read = open_reader(dataset(shard), CENTER, note=lambda row, digest: noted.update({row.index: digest}))
    for row in rows_of(shard, with_digest=False):
        read(row)
    assert noted == {i: digest_of_bytes(data) for i, data in enumerate(FILES)}


def test_a_damaged_row_group_costs_its_own_images(shard):
    with pq.ParquetFile(shard) as file:
        place = file.metadata.row_group(1).column(0).data_page_offset
    with shard.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 40)
    read = open_reader(dataset(shard), CENTER)
    assert outcomes_of(read, rows_of(shard)) == ["ok", "ok", "unreadable", "unreadable", "ok", "ok"]


def test_a_row_without_picture_and_one_that_is_none_cost_themselves(tmp_path):
    write(tmp_path / "a.parquet", [None, b"", b"no image", FILES[0]])
    read = open_reader(dataset(tmp_path / "a.parquet"), CENTER)
    codes = []
    for row in rows_of(tmp_path / "a.parquet", with_digest=False)[:4]:
        try:
            read(row)
            codes.append("ok")
        except ImageError as error:
            codes.append(error.code)
    assert codes == ["missing", "not_an_image", "not_an_image", "ok"]


def test_a_file_that_left_the_folder_costs_its_rows_and_a_disk_that_left_none(tmp_path):
    (tmp_path / "data").mkdir()
    shard = tmp_path / "data/a.parquet"
    write(shard, FILES)
    row = rows_of(shard)[0]
    read, alone = open_reader(dataset(shard), CENTER), open_reader(dataset(shard, "a.parquet"), CENTER)
    shard.unlink()
    with pytest.raises(ImageError, match=r"^missing: "):
        read(row)
    with pytest.raises(SourceGoneError, match="Is its disk mounted"):
        alone(row)
    (tmp_path / "data").rmdir()
    with pytest.raises(SourceGoneError, match="Is its disk mounted"):
        read(row)


def test_a_disk_that_fails_blames_no_image(shard, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    read = open_reader(dataset(shard), CENTER)
    monkeypatch.setattr(pictures, "read_group", fail)
    with pytest.raises(TryLaterError, match=r"cannot read .*a\.parquet"):
        read(rows_of(shard)[0])


@pytest.mark.parametrize("path", ["../a.parquet#000000000", "/a.parquet#000000000"])
def test_no_path_leads_out_of_the_data(shard, path):
    row = rows_of(shard)[0]
    with pytest.raises(ImageError, match=r"^outside_root: "):
        open_reader(dataset(shard), CENTER)(changed(row, path=path))


def test_a_link_out_of_the_data_is_not_followed(shard, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.parquet").symlink_to(shard)
    with pytest.raises(ImageError, match=r"^outside_root: "):
        open_reader(dataset(tmp_path / "in/a.parquet"), CENTER)(rows_of(shard)[0])
