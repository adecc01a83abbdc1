import csv
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.manifest.adding import add_images
from headstart.features.manifest.reading import open_manifest
from headstart.features.sources.source import IMAGE_COLUMNS, Image
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace
from tests.features.listed import everything, images, source

TEXT = st.text(st.characters(exclude_categories=()), max_size=20) | st.binary(max_size=20).map(os.fsdecode)
COUNT = st.integers(-1, 2**62)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(TEXT, TEXT, TEXT, COUNT, COUNT, TEXT, TEXT), min_size=1, max_size=30, unique_by=lambda row: row[0]),
    st.data(),
)
def test_whatever_is_added_is_read_back(rows, data):
    given_rows = {r[0]: Image(r[0], r[1], "val", r[2], r[3], r[4], (r[5], r[6])) for r in rows}
    with tempfile.TemporaryDirectory() as folder:
        workspace = open_or_create_workspace(Path(folder) / "w")
        added = add_images(workspace, source(*given_rows.values(), columns=("age", "=odd\nname")), 0)
        manifest = open_manifest(added.manifest.folder)
        assert {image.path: image for image in everything(manifest)} == given_rows
        assert list(manifest.read_all().extra) == ["age", "=odd\nname"]
        (part,) = manifest.parts
        start = data.draw(st.integers(0, len(rows)))
        stop = data.draw(st.integers(start, len(rows)))
        some = manifest.rows(part.name, start, stop)
        assert [row.index for row in some] == list(range(start, stop))
        assert [given_rows[row.image.path].extra for row in some] == [row.image.extra for row in some]
        assert [row.image.path for row in some] == manifest.read_all().path[start:stop]
        content = part.path.read_bytes()
        assert content.count(b"\n") == len(content.decode().splitlines()) == len(rows) + 1


def test_pandas_and_the_csv_module_read_a_part(workspace):
    pd = pytest.importorskip("pandas")
    strange = (Image('a,"b".jpg', "=cat\n", "", "", 1, 2), Image("NA", "null", "", "", 3, 4))
    added = add_images(workspace, source(*strange), 0)
    frame = pd.read_csv(added.manifest.parts[0].path, dtype=str, keep_default_na=False)
    assert list(frame.columns) == list(IMAGE_COLUMNS)
    assert sorted(zip(frame["path"], frame["label"], strict=True)) == [("NA", "null"), ('a,"b".jpg', "\\x3dcat\\n")]
    with added.manifest.parts[0].path.open(newline="") as file:
        assert sorted(row["path"] for row in csv.DictReader(file)) == ["NA", 'a,"b".jpg']


def test_part_longer_than_a_chunk_is_read_like_a_short_one(workspace, monkeypatch):
    manifest = add_images(workspace, source(*images(30)), 0).manifest
    part = manifest.parts[0]
    whole = manifest.rows(part.name, 0, 30)
    monkeypatch.setattr("headstart.features.manifest.parts._CHUNK", 7)
    assert [open_manifest(manifest.folder).rows(part.name, i, i + 1)[0] for i in range(30)] == whole


def damaged(content, how):
    return {
        "truncated": content[:-5],
        "last row gone": content[: content.rindex(b"\n", 0, -1) + 1],
        "empty": b"",
        "edited": content.replace(b",train,", b",trein,", 1),
        "row added": content + content.splitlines(True)[-1],
    }[how]


@pytest.mark.parametrize("how", ["truncated", "last row gone", "empty", "edited", "row added"])
def test_damaged_part_is_refused_by_name(workspace, how):
    folder = add_images(workspace, source(*images(30)), 0).manifest.folder
    part = open_manifest(folder).parts[0]
    part.path.write_bytes(damaged(part.path.read_bytes(), how))
    for read in (
        lambda: open_manifest(folder).rows(part.name, 0, 1),
        lambda: open_manifest(folder).read_all(),
        lambda: add_images(workspace, source(*images(40)), 0),
    ):
        with pytest.raises(HeadstartError, match=part.name):
            read()


def test_part_cut_off_while_in_use_is_an_error_not_a_crash(workspace):
    manifest = add_images(workspace, source(*images(30)), 0).manifest
    part = manifest.parts[0]
    manifest.rows(part.name, 0, 1)
    os.truncate(part.path, 300)
    with pytest.raises(HeadstartError, match=r"part_0000.*became shorter"):
        manifest.rows(part.name, 20, 30)


@pytest.mark.parametrize(
    "name",
    [
        "part_0000.0-9.csv",
        "../x.csv",
        "../part_0000.0-9.0123456789abcdef.csv",
        "part_0000.9-0.0123456789abcdef.csv",
        "jobs_queue.csv",
    ],
)
def test_name_that_is_no_parts_is_refused(workspace, name):
    manifest = add_images(workspace, source(*images(3)), 0).manifest
    with pytest.raises(HeadstartError, match="no part of a manifest"):
        manifest.rows(name, 0, 1)


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (-1, 2), (2, 1)])
def test_rows_that_are_not_there_are_refused(workspace, start, stop):
    manifest = add_images(workspace, source(*images(3)), 0).manifest
    with pytest.raises(HeadstartError, match="has rows 0 to 3"):
        manifest.rows(manifest.parts[0].name, start, stop)


def test_missing_and_doubled_parts_are_named(workspace):
    manifest = add_images(workspace, source(*images(3)), 0).manifest
    manifest = add_images(workspace, source(*images(6)), 0).manifest
    first, second = manifest.parts
    shutil.copy(second.path, second.path.with_name("part_0001.3-6.0123456789abcdef.csv"))
    with pytest.raises(HeadstartError, match=r"two parts of number 1.*0123456789abcdef"):
        manifest.read_all()
    second.path.with_name("part_0001.3-6.0123456789abcdef.csv").unlink()
    first.path.unlink()
    with pytest.raises(HeadstartError, match="part_0000 starting at row 0 is missing"):
        manifest.read_all()
    with pytest.raises(HeadstartError, match=r"part_0000.*cannot be read"):
        manifest.rows(first.name, 0, 1)
