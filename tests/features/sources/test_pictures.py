"""Parquet files with images in them, as the Hugging Face hub and others write them."""

import io
import json

import numpy as np
import pytest
from PIL import Image as PillowImage

from headstart.features.sources import parquet
from headstart.features.sources.find import describe, find_images
from headstart.features.sources.source import SourceOptions
from headstart.pipeline.errors import HeadstartError

pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def picture(number, kind="PNG"):
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    PillowImage.fromarray(pixels).save(file, kind)
    return file.getvalue()


def hub_table(numbers, labels=None, names=("cat", "dog"), **columns):
    """What `push_to_hub` and `to_parquet` of the package datasets write."""
    labels = [number % len(names) for number in numbers] if labels is None else labels
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    table = pa.table(
        {"image": [{"bytes": picture(n), "path": f"{n}.png"} for n in numbers], "label": pa.array(labels, pa.int64()), **columns}
    )
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(path, table, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def read(path, **options):
    return find_images(path, SourceOptions(**options))


def test_a_hub_file_has_the_names_of_its_classes_as_labels(tmp_path):
    source = read(write(tmp_path / "train.parquet", hub_table(range(4)), row_group_size=3))
    assert [(image.path, image.label, image.split) for image in source.images] == [
        ("train.parquet#000000000", "cat", ""),
        ("train.parquet#000000001", "dog", ""),
        ("train.parquet#000000002", "cat", ""),
        ("train.parquet#000000003", "dog", ""),
    ]
    assert (source.layout, source.file, source.root) == ("parquet", "train.parquet", tmp_path)
    assert source.columns == ("image_path",)
    assert [image.extra for image in source.images] == [(f"{i}.png",) for i in range(4)]
    assert any("images lie in column 'image'" in line for line in describe(source))


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(lambda pictures: pa.array([{"bytes": data} for data in pictures]), id="bytes-without-path"),
        pytest.param(lambda pictures: pa.array(pictures, pa.binary()), id="binary"),
        pytest.param(lambda pictures: pa.array(pictures, pa.large_binary()), id="large-binary"),
        pytest.param(lambda pictures: pa.array([None, *pictures[1:]], pa.binary()), id="first-is-null"),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_columns_of_whole_image_files_are_pictures(tmp_path, column, kind):
    table = pa.table({"pixels": column([picture(i, kind) for i in range(3)]), "label": ["a", "b", "a"]})
    source = read(write(tmp_path / "t.parquet", table))
    assert ([image.label for image in source.images], dict(source.roles)["path"]) == (["a", "b", "a"], "pixels")


SHARDS = {
    "hub": (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-0-of-1.parquet"], "tte"),
    "hub-with-hash": (["data/train-00000-of-00001-0123456789ab.parquet", "data/validation-0-of-1-ab12cd34ef56.parquet"], "tv"),
    "converted": (["default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"], "tte"),
    "plain": (["train.parquet", "valid.parquet", "test.parquet"], "tve"),
    "numbered": (["train_1.pq", "train_2.pq", "val_1.pq"], "ttv"),
    "no-splits": (["part-0.parquet", "part-1.parquet"], "--"),
    "one-split": (["train-0.parquet", "train-1.parquet"], "--"),
}  # fmt: skip


@pytest.mark.parametrize(("names", "splits"), SHARDS.values(), ids=SHARDS)
def test_a_folder_of_files_has_the_splits_that_their_names_say(tmp_path, names, splits):
    meant = {"t": "train", "v": "val", "e": "test", "-": ""}
    for i, name in enumerate(names):
        write(tmp_path / name, hub_table([2 * i, 2 * i + 1]))
    source = read(tmp_path)
    assert {image.path.partition("#")[0]: image.split for image in source.images} == dict(
        zip(names, (meant[split] for split in splits), strict=True)
    )
    assert len(source.images) == 2 * len(names)
    assert [image.path for image in source.images] == sorted(image.path for image in source.images)


def test_a_column_of_splits_counts_more_than_the_names_of_files(tmp_path):
    write(tmp_path / "train.parquet", hub_table(range(3), split=["train", "val", "test"]))
    write(tmp_path / "test.parquet", hub_table(range(3, 5), split=["test", "test"]))
    splits = [image.split for image in read(tmp_path).images]
    assert splits == ["test", "test", "train", "val", "test"]
    assert {image.split for image in read(tmp_path, split_col="").images} == {""}


def test_rows_that_the_hub_says_to_be_without_class_have_no_label(tmp_path):
    write(tmp_path / "train.parquet", hub_table(range(4)))
    write(tmp_path / "test.parquet", hub_table(range(4, 6), labels=[-1, None]))
    source = read(tmp_path)
    assert [image.label for image in source.images] == ["", "", "cat", "dog", "cat", "dog"]
    assert any("2 images have no label" in note for note in source.notes)


def test_a_column_of_classes_is_the_label_whatever_it_is_called(tmp_path):
    table = hub_table(range(2)).rename_columns(["img", "fine"])
    text = json.dumps({"info": {"features": {"fine": {"names": ["oak", "elm"], "_type": "ClassLabel"}}}})
    source = read(write(tmp_path / "t.parquet", table.replace_schema_metadata({"huggingface": text})))
    assert [image.label for image in source.images] == ["oak", "elm"]


def test_files_that_a_column_names_are_read_although_pictures_are_there(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(0))
    write(tmp_path / "t.parquet", pa.table({"file_name": ["a.png"], "thumbnail": [{"bytes": picture(1), "path": None}]}))
    assert [image.path for image in read(tmp_path / "t.parquet").images] == ["a.png"]
    chosen = read(tmp_path / "t.parquet", path_col="thumbnail")
    assert ([image.path for image in chosen.images], chosen.columns) == (["t.parquet#000000000"], ("file_name",))


def test_an_unreadable_note_of_the_hub_changes_nothing(tmp_path):
    for i, text in enumerate((b"{", b"[]", b'{"info": 3}', b'{"info": {"features": {"label": 3}}}', b"[" * 100_000)):
        table = hub_table(range(2)).replace_schema_metadata({"huggingface": text})
        assert [image.label for image in read(write(tmp_path / f"{i}.parquet", table)).images] == ["0", "1"]


def two_pictures(folder):
    table = hub_table(range(2))
    return write(folder / "t.parquet", table.append_column("depth", table["image"]).rename_columns(["left", "label", "right"]))


def class_beyond(folder):
    return write(folder / "t.parquet", hub_table(range(2), labels=[0, 7]))


def names_alone(folder):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return write(folder / "t.parquet", pa.table({"image": pa.array([{"bytes": None, "path": "a.jpg"}] * 2, kind)}))


def mixed(folder):
    write(folder / "train.parquet", hub_table(range(2)))
    write(folder / "more.parquet", hub_table(range(2)))
    return folder


def a_table_beside(folder):
    write(folder / "train.parquet", hub_table(range(2)))
    write(folder / "about.parquet", pa.table({"name": ["x"]}))
    return folder


def empty(folder):
    return write(folder / "train.parquet", hub_table([])).parent


def cut_off(folder):
    path = write(folder / "t.parquet", hub_table(range(9)))
    path.write_bytes(path.read_bytes()[:-20])
    return folder


def sound(folder):
    kind = {"sound": {"_type": "Audio"}}
    table = pa.table({"sound": [{"bytes": b"RIFF", "path": "a.wav"}], "label": [1]})
    return write(folder / "t.parquet", table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": kind}})}))


def other_bytes(folder):
    return write(folder / "t.parquet", pa.table({"embedding": pa.array([b"\1\2\3\4"], pa.binary()), "label": [1]}))


BAD = {
    two_pictures: r"2 columns of pictures: left, right\. Choose one with --path-col",
    class_beyond: r"row 2: column 'label' has class 7, and its schema names 2 classes",
    names_alone: r"'image' holds names of files and no bytes.*to_parquet",
    mixed: r"files of splits \('train.parquet'\) beside other files \('more.parquet'\).*--split-col ''",
    a_table_beside: r"about.parquet has no column of pictures. Pass a file alone",
    empty: r"no rows",
    cut_off: r"t.parquet cannot be read as Parquet",
    sound: r"no column of file names",
    other_bytes: r"no column of file names",
}


@pytest.mark.parametrize(("make", "says"), BAD.items(), ids=[make.__name__ for make in BAD])
def test_parquet_that_is_not_clear_is_one_line(tmp_path, make, says):
    with pytest.raises(HeadstartError, match=says) as caught:
        read(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_row_group_that_takes_too_much_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "t.parquet", hub_table(range(20)), row_group_size=10)
    with parquet.open_parquet(path) as file:
        size = max(group.size for group in parquet.groups_of(file, "image"))
    monkeypatch.setattr(parquet, "LARGEST_GROUP", size - 1)
    with pytest.raises(HeadstartError, match=r"row group \d unpacks to .*row_group_size"):
        read(path)


@pytest.mark.parametrize("is_stored", [True, False], ids=["as-dictionary", "as-bytes"])
def test_a_picture_that_is_stored_once_is_not_unpacked_for_each_of_its_rows(tmp_path, monkeypatch, is_stored):
    one = picture(0) + bytes(100_000)
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), pa.array([one]))
    path = write(tmp_path / "t.parquet", pa.table({"image": words, "label": ["a"] * 50_000}), store_schema=is_stored)
    monkeypatch.setattr(parquet, "LARGEST_GROUP", 50_000_000)
    assert len(read(path).images) == 50_000
    with parquet.open_parquet(path) as file:
        [group] = parquet.groups_of(file, "image")
        if is_stored:
            assert parquet.read_group(file, "image", group)[-1].as_py() == one
            return
        with pytest.raises(parquet.DamagedArrays, match="more than 50,000,000 bytes"):
            parquet.read_group(file, "image", group)


def test_a_folder_says_what_to_install(tmp_path, monkeypatch):
    import sys

    write(tmp_path / "train.parquet", hub_table(range(2)))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(HeadstartError, match=r"pip install 'headstart\[parquet\]'"):
        read(tmp_path)
