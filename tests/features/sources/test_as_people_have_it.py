"""Folders, tables and files as people bring them: each is read as it is meant, or answered with what helps."""

import pytest

from headstart.features.images.decode import ImageError, decode
from headstart.features.sources.find import find_images
from headstart.features.sources.source import SourceOptions
from headstart.pipeline.errors import HeadstartError
from tests.features.samples import CENTER, picture, saved


@pytest.fixture
def place(tmp_path):
    (tmp_path / "img").mkdir()
    for i in range(3):
        (tmp_path / f"img/{i}.jpg").write_bytes(saved(picture(8, 8, i), "JPEG"))
    return tmp_path


def tree(place, *names):
    for name in names:
        path = place / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return place / "data"


PLAIN = "path,label\nimg/0.jpg,a\nimg/1.jpg,b\n"
READ = {
    "utf-16 with mark": PLAIN.encode("utf-16"),
    "utf-16 of the other order": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "utf-8 with mark": PLAIN.encode("utf-8-sig"),
    "bars": PLAIN.replace(",", "|").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "Excel says the separator": b"sep=;\r\n" + PLAIN.replace(",", ";").encode(),
    "Excel says the usual one": b"sep=,\n" + PLAIN.encode(),
    "blanks behind commas": PLAIN.replace(",", ", ").encode(),
    "comments above": b"# made by a tool, in 2026\n#\n" + PLAIN.encode(),
    "a header that begins with #": PLAIN.replace("path", "#path", 1).encode(),
    "a separator at each end": PLAIN.replace("\n", ",\n").encode(),
    "only carriage returns": PLAIN.replace("\n", "\r").encode(),
    "Unicode text of Excel": PLAIN.replace(",", "\t").replace("\n", "\r\n").encode("utf-16"),
    "CSV UTF-8 of an Excel that writes commas in numbers": PLAIN.replace(",", ";").replace("\n", "\r\n").encode("utf-8-sig"),
    "its separator said, in UTF-16": b"\xff\xfe" + ("sep=;\r\n" + PLAIN.replace(",", ";")).encode("utf-16-le"),
    "every cell quoted": "".join(",".join(f'"{cell}"' for cell in row.split(",")) + "\r\n" for row in PLAIN.split()).encode(),
    "columns and rows left empty": b"path,label,,,\r\nimg/0.jpg,a,,,\r\n,,,,\r\nimg/1.jpg,b,,,\r\n,,,,\r\n",
}


@pytest.mark.parametrize("content", READ.values(), ids=READ)
def test_tables_are_read_as_they_are_meant(place, content):
    (place / "t.csv").write_bytes(content)
    source = find_images(place / "t.csv", SourceOptions(path_col="#path" if b"#path" in content else None))
    assert [(image.path, image.label, image.extra) for image in source.images] == [("img/0.jpg", "a", ()), ("img/1.jpg", "b", ())]


SPOILT = {
    "a path": ("path,label\r\nimg/0.jpg,a\r\n1E+05,b\r\n", "row 3: column 'path' has '1E.05'.*a longer number"),
    "a label": ("path;label\r\nimg/0.jpg;1,23457E+11\r\nimg/1.jpg;b\r\n", "row 2: column 'label' has '1,23457E.11'"),
    "a group": ("path,label,group\r\nimg/0.jpg,a,7\r\nimg/1.jpg,b,1.23457E+11\r\n", "row 3: column 'group'"),
    "a narrow column": (
        "path,label\r\nimg/0.jpg,########\r\nimg/1.jpg,b\r\n",
        "'########', which a spreadsheet made of something",
    ),
    "a formula": ("path,label\r\nimg/0.jpg,#NAME?\r\nimg/1.jpg,b\r\n", "'#NAME.', which a spreadsheet made of something else"),
    "columns without names": ("path,label,,\r\nimg/0.jpg,a,1,2\r\n", "several columns without a name"),
}


@pytest.mark.parametrize(("content", "says"), SPOILT.values(), ids=SPOILT)
def test_what_a_spreadsheet_spoilt_is_refused_with_its_row(place, content, says):
    (place / "t.csv").write_bytes(content.encode())
    with pytest.raises(HeadstartError, match=says):
        find_images(place / "t.csv", SourceOptions())


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"], ids=["xlsx", "xls"])
def test_a_workbook_that_is_called_a_table_is_said_to_be_one(place, start):
    (place / "t.csv").write_bytes(start + bytes(80))
    with pytest.raises(HeadstartError, match="a spreadsheet's own file, whatever its name says"):
        find_images(place / "t.csv", SourceOptions())


def test_a_file_that_is_called_like_a_shortened_number_is_a_file(place):
    (place / "img/0.jpg").rename(place / "1E+05")
    (place / "t.csv").write_text("path,score\n1E+05,1E+05\n")
    [image] = find_images(place / "t.csv", SourceOptions()).images
    assert (image.path, image.extra) == ("1E+05", ("1E+05",))


TABLE_NOTES = {
    "a label that reads like none": ("path,label\nimg/0.jpg,a\nimg/1.jpg,N/A\n", "label 'N/A' is a class like any other"),
    "another": ("path,label\nimg/0.jpg,null\nimg/1.jpg,b\n", "label 'null' is a class like any other"),
    "a date": ("path,label\nimg/0.jpg,2-Mar\nimg/1.jpg,b\n", "label '2-Mar' may be what a spreadsheet made of another name"),
    "a German one": ("path,label\nimg/0.jpg,02. Mär\nimg/1.jpg,b\n", "label '02. Mär' may be what a spreadsheet made of"),
    "a label column": ("path,species\nimg/0.jpg,a\n", r"--label-col species takes one as label"),
    "a split column": ("path,label,part\nimg/0.jpg,a,train\nimg/1.jpg,b,test\n", "--split-col part takes it as split"),
    "amounts": ("path,label,score\nimg/0.jpg,a,0.5\nimg/1.jpg,b,1.25\n", "train-head --target score predicts it"),
    "an index without name": (",path,label\n0,img/0.jpg,a\n", "one without name"),
}


@pytest.mark.parametrize(("content", "says"), TABLE_NOTES.values(), ids=TABLE_NOTES)
def test_a_table_says_what_it_does_not_use_and_the_flag_that_would(place, content, says):
    (place / "t.csv").write_text(content)
    assert any(says in note for note in find_images(place / "t.csv", SourceOptions()).notes)


OTHERS = {
    "d.zip": "Unpack it",
    "d.tar.gz": "Unpack it",
    "d.csv.gz": "Decompress it",
    "d.xlsx": "CSV UTF-8",
    "d.txt": "called .csv or .tsv",
    "d.jsonl": "Convert it",
    "d.npz": "HDF5",
}


@pytest.mark.parametrize(("name", "says"), OTHERS.items())
def test_a_file_of_another_kind_is_answered_with_what_to_make_of_it(place, name, says):
    (place / name).write_bytes(b"x")
    with pytest.raises(HeadstartError, match=rf"no kind of data set.*{says}"):
        find_images(place / name, SourceOptions())


def test_a_column_of_addresses_is_said_to_be_one(place):
    (place / "t.csv").write_text("url,label\nhttps://example.org/a.jpg,a\n")
    with pytest.raises(HeadstartError, match=r"'url' holds URLs; images are not downloaded"):
        find_images(place / "t.csv", SourceOptions())


SPLITS = [("01_train", "02_test"), ("trn", "tst"), ("train", "dev"), ("1-training", "2-validation"), ("TRAIN", "EVAL")]


@pytest.mark.parametrize("names", SPLITS, ids="-".join)
def test_more_spellings_of_split_folders_are_splits(place, names):
    source = find_images(tree(place, *(f"{name}/{c}/1.jpg" for name in names for c in "ab")), SourceOptions())
    assert (source.layout, {image.label for image in source.images}) == ("split_classes", {"a", "b"})
    assert {image.split for image in source.images} in ({"train", "test"}, {"train", "val"})


SOUND = [
    ("imagesTr", "imagesTs"),
    ("x_train", "x_test"),
    ("cats-train", "cats-val"),
    ("trainA", "testA"),
    ("my training", "holdout 2"),
    ("labeled", "unlabeled"),
    ("seg_train", "seg_test", "seg_pred"),
    ("bounding_box_train", "bounding_box_test", "query"),
]


@pytest.mark.parametrize("names", SOUND, ids="-".join)
@pytest.mark.parametrize("inner", ["", "a/"], ids=["flat", "with-classes"])
def test_folders_that_all_sound_like_splits_are_a_question(place, names, inner):
    data = tree(place, *(f"{name}/{inner}1.jpg" for name in names))
    with pytest.raises(HeadstartError, match=r"sound like splits.*--layout classes"):
        find_images(data, SourceOptions())
    assert {image.label for image in find_images(data, SourceOptions(layout="classes")).images} == set(names)


@pytest.mark.parametrize(
    "names", [("trained", "untrained"), ("contest", "cat"), ("bullet train", "test tube", "cat")], ids="-".join
)
def test_classes_that_only_sound_a_little_like_splits_are_classes(place, names):
    source = find_images(tree(place, *(f"{name}/1.jpg" for name in names)), SourceOptions())
    assert {image.label for image in source.images} == set(names)


@pytest.mark.parametrize("chain", ["x/y", "archive/data/images"])
def test_classes_below_a_chain_of_folders_are_not_one_class(place, chain):
    data = tree(place, f"{chain}/cat/1.jpg", f"{chain}/dog/2.jpg")
    with pytest.raises(HeadstartError, match=rf"below {chain}, in 2 folders. Did you mean .*/{chain}\?"):
        find_images(data, SourceOptions())


def test_a_split_folder_beside_others_is_offered_alone(place):
    with pytest.raises(HeadstartError, match=r"pass a split folder alone: .*/train\."):
        find_images(tree(place, "train/a/1.jpg", "train/b/1.jpg", "unlabeled/1.jpg"), SourceOptions())


NOT_THE_CLASS = {
    "splits in one folder": (["imagenette/train/a", "imagenette/val/a"], r"Did you mean .*/imagenette\?"),
    "splits without classes in one folder": (["images/train", "images/val"], r"Did you mean .*/images\?"),
    "sites above splits": (["x/train/a", "x/train/b", "y/test/a", "y/test/b"], r"If those are the classes, pass each .*data/x\."),
    "folds above splits": (["f1/train/a", "f1/val/a", "f2/train/b", "f2/val/b"], r"'a' in f1/train and f1/val"),
    "splits in another language": (["训练集/a", "训练集/b", "测试集/a", "测试集/b"], r"same names \(a, b\).*train, val and test"),
    "abbreviated splits": (["tr/a", "tr/b", "te/a", "te/b", "te/c"], r"same names \(a, b\).*--layout classes"),
    "numbered parts": ([f"fold{i}/{c}" for i in range(5) for c in "ab"], r"5 folders \(fold0, fold1, fold2\).*--layout classes"),
    "splits in one class only": (["a/train", "a/test", "b"], r"splits in a, but 1 images lie beside.*b/1.jpg.*--layout classes"),
    "pictures without classes": (["train/images", "test/images"], r"'images' would be the only class.*--layout flat"),
    "pictures and masks": (["images", "masks"], r"sound like images and masks.*--layout classes"),
    "pictures and labels in splits": (["train/img", "train/img_labels", "val/img"], r"sound like images and masks"),
    "a split in a spelling of its own": (["train/a", "validate/a"], r"'validate'.*Rename the latter train, val or test"),
}


@pytest.mark.parametrize(("folders", "says"), NOT_THE_CLASS.values(), ids=NOT_THE_CLASS)
def test_a_level_that_is_hardly_the_class_is_a_question(place, folders, says):
    with pytest.raises(HeadstartError, match=says):
        find_images(tree(place, *(f"{folder}/1.jpg" for folder in folders)), SourceOptions())


STILL_CLASSES = {
    "folders of the same names in many classes": [f"{c}/{view}" for c in "abcd" for view in ("left", "right")],
    "one folder of the same name in two": ["a/close", "b/close", "b/far"],
    "an image beside them": ["a/left", "a/right", "b/left", "b/right", "b"],
    "digits": [f"{c}/{view}" for c in range(10) for view in ("left", "right")],
}


@pytest.mark.parametrize("folders", STILL_CLASSES.values(), ids=STILL_CLASSES)
def test_folders_inside_plain_classes_ask_nothing(place, folders):
    source = find_images(tree(place, *(f"{folder}/1.jpg" for folder in folders)), SourceOptions())
    assert {image.label for image in source.images} == {folder.split("/")[0] for folder in folders}


@pytest.mark.parametrize("between", ["images", "Image_Data", "imgs"])
def test_a_level_that_says_nothing_between_split_and_class_is_passed_over_and_said(place, between):
    names = [f"{split}/{between}/{c}/1.jpg" for split in ("train", "test") for c in "ab"]
    source = find_images(tree(place, *names), SourceOptions())
    assert {(image.label, image.split) for image in source.images} == {(c, split) for split in ("train", "test") for c in "ab"}
    assert any(f"'{between}' below the splits are no class" in note for note in source.notes)


def test_folders_of_images_inside_the_splits_of_a_class_stay_part_of_it(place):
    names = [f"{c}/{split}/images/1.jpg" for split in ("train", "test") for c in "ab"]
    source = find_images(tree(place, *names), SourceOptions())
    assert {(image.label, image.split) for image in source.images} == {(c, split) for split in ("train", "test") for c in "ab"}


def test_a_pointer_of_git_lfs_is_called_that():
    with pytest.raises(ImageError, match="git lfs pull"):
        decode(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", CENTER)
