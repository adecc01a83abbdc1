import os

import pytest

from headstart.features.sources.find import describe, find_images
from headstart.features.sources.source import SourceOptions
from headstart.pipeline.errors import HeadstartError

STRANGE = [
    "comma, and space.jpg",
    "new\nline.jpg",
    'quo"te.jpg',
    "=cmd.jpg",
    " leading space.jpg",
    "żółw.jpg",
    os.fsdecode(b"not utf-8 \xff\xfe.jpg"),
    "n" * 246 + ".jpg",
    "back\\slash.jpg",
]


def triples(source):
    return [(image.path, image.label, image.split) for image in source.images]


@pytest.mark.parametrize(
    ("files", "layout", "images"),
    [
        pytest.param(["dog/b.png", "cat/a.jpg"], "classes", [("cat/a.jpg", "cat", ""), ("dog/b.png", "dog", "")], id="classes"),
        pytest.param(["a.JPG", "b.TiFf"], "flat", [("a.JPG", "", ""), ("b.TiFf", "", "")], id="flat-upper-case"),
        pytest.param(["only.webp"], "flat", [("only.webp", "", "")], id="one-image"),
        pytest.param(["cat/deep/er/a.jpg"], "classes", [("cat/deep/er/a.jpg", "cat", "")], id="class-is-the-first-level"),
        pytest.param(
            ["Training/cat/a.jpg", "eval/cat/b.jpg", "TEST/dog/x/c.jpg"],
            "split_classes",
            [("TEST/dog/x/c.jpg", "dog", "test"), ("Training/cat/a.jpg", "cat", "train"), ("eval/cat/b.jpg", "cat", "val")],
            id="split-synonyms",
        ),
    ],
)
def test_layout_is_read_off_the_folders(data, files, layout, images):
    source = find_images(data(*files), SourceOptions())
    assert (source.layout, triples(source)) == (layout, images)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("training_set", "validation_set", "test_set"),
        ("Train_Images", "Val_Images", "Test_Images"),
        ("train-images", "val-images", "test-images"),
        ("train2017", "val2017", "test2017"),
        ("trainset", "validset", "testset"),
        ("images_train", "images_val", "images_test"),
        ("Train Data", "Eval Data", "Testing Data"),
    ],
    ids=lambda name: name,
)
def test_split_folders_are_read_in_the_usual_spellings_and_inside_classes(data, train, val, test):
    wanted = {("cat", "train"), ("cat", "val"), ("cat", "test"), ("dog", "train")}
    outer = data(f"{train}/cat/a.jpg", f"{val}/cat/b.jpg", f"{test}/cat/c.jpg", f"{train}/dog/d.jpg", at="outer")
    inner = data(f"cat/{train}/a.jpg", f"cat/{val}/b.jpg", f"cat/{test}/c.jpg", f"dog/{train}/d.jpg", at="inner")
    for root, layout in ((outer, "split_classes"), (inner, "class_splits")):
        source = find_images(root, SourceOptions())
        assert (source.layout, {(image.label, image.split) for image in source.images}) == (layout, wanted)


@pytest.mark.parametrize("name", ["test tube", "training wheels", "trainer", "set", "tested", "2017", "contest"])
def test_a_class_that_only_looks_like_a_split_stays_a_class(data, name):
    source = find_images(data(f"{name}/a.jpg", "cat/b.jpg"), SourceOptions())
    assert (source.layout, {image.label for image in source.images}) == ("classes", {name, "cat"})


@pytest.mark.parametrize(
    ("files", "unlabelled"),
    [
        pytest.param(["train/cat/a.jpg", "train/dog/b.jpg", "test/c.jpg"], {"test/c.jpg"}, id="flat-test"),
        pytest.param(
            ["train/cat/a.jpg", "val/cat/b.jpg", "test/c.jpg", "test/d.jpg"], {"test/c.jpg", "test/d.jpg"}, id="with-val"
        ),
        pytest.param(["train/a.jpg", "test/cat/c.jpg", "test/dog/d.jpg"], {"train/a.jpg"}, id="flat-train"),
    ],
)
def test_a_split_without_class_folders_has_no_labels_and_takes_none_from_the_others(data, files, unlabelled):
    source = find_images(data(*files), SourceOptions())
    assert source.layout == "split_classes"
    assert {image.path for image in source.images if not image.label} == unlabelled
    assert all(image.split for image in source.images)
    assert any(f"{len(unlabelled)} images of" in note and "have no label" in note for note in source.notes)
    [classes] = [line for line in describe(source) if line.startswith("  classes")]
    assert "''" not in classes
    assert classes.endswith(f"; {len(unlabelled)} images without label")


NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        pytest.param([f"train/{NFC}/a.jpg", f"val/{NFD}/b.jpg", "train/tea/c.jpg"], {NFC, "tea"}, id="in-two-splits"),
        pytest.param([f"{NFC}/a.jpg", f"{NFD}/b.jpg", f"{NFD}/c.jpg", "tea/c.jpg"], {NFD, "tea"}, id="the-more-frequent-form"),
        pytest.param([f"{NFD}/a.jpg", "tea/c.jpg"], {NFD, "tea"}, id="one-form-stays-as-it-is"),
        pytest.param(
            ["train/\ud55c/a.jpg", "val/\u1112\u1161\u11ab/b.jpg", "train/tea/c.jpg"], {"\ud55c", "tea"}, id="syllables"
        ),
        pytest.param(["train/\u212b/a.jpg", "val/A\u030a/b.jpg", "train/\u212b/c.jpg"], {"\u212b"}, id="neither-is-nfc"),
    ],
)
@pytest.mark.parametrize("keep_case", [False, True], ids=["plain", "keep-case"])
def test_labels_that_differ_by_their_unicode_form_are_one_class(data, files, labels, keep_case):
    source = find_images(data(*files), SourceOptions(keep_case=keep_case))
    assert {image.label for image in source.images} == labels
    assert {image.path for image in source.images} == set(files)


def test_folders_inside_classes_are_said_to_be_merged(data):
    notes = find_images(data("cat/siamese/a.jpg", "cat/b.jpg", "dog/c.jpg"), SourceOptions()).notes
    assert any("1 folders inside classes are part of their class, for example cat/siamese" in note for note in notes)


@pytest.mark.parametrize("name", ["validation", "valid", "val", "evaluation", "eval"])
def test_every_synonym_of_a_split_is_that_split(data, name):
    source = find_images(data("train/cat/a.jpg", f"{name}/cat/b.jpg", "testing/cat/c.jpg"), SourceOptions())
    assert sorted(image.split for image in source.images) == ["test", "train", "val"]


def test_flag_flat_drops_labels_and_keeps_given_splits(data):
    options = SourceOptions(layout="flat")
    assert triples(find_images(data("cat/a.jpg", "b.jpg", at="x"), options)) == [("b.jpg", "", ""), ("cat/a.jpg", "", "")]
    assert triples(find_images(data("test/b.jpg", "train/c/a.jpg", at="y"), options)) == [
        ("test/b.jpg", "", "test"),
        ("train/c/a.jpg", "", "train"),
    ]
    assert {image.split for image in find_images(data("test/b.jpg", "dog/a.jpg", at="z"), options).images} == {""}


def test_flag_classes_reads_the_first_level_as_class_and_leaves_loose_images_out(data):
    source = find_images(data("test/a.jpg", "train/b.jpg", "loose.jpg"), SourceOptions(layout="classes"))
    assert triples(source) == [("test/a.jpg", "test", ""), ("train/b.jpg", "train", "")]
    assert source.ignored == 1


@pytest.mark.parametrize(
    ("files", "options", "says"),
    [
        pytest.param(
            ["a.jpg", "cat/b.jpg"], {}, ["1 images of its own", "a.jpg", "--layout flat", "--layout classes"], id="mixed"
        ),
        pytest.param(
            ["images/cat/a.jpg", "images/dog/b.jpg"], {}, ["Did you mean", "data/images", "--layout"], id="one-above-many"
        ),
        pytest.param(["train/cat/a.jpg", "cat/b.jpg"], {}, ["split folders ('train')", "'cat'"], id="splits-beside-classes"),
        pytest.param(["train/a.jpg", "test/b.jpg"], {}, ["test/b.jpg", "SPLIT/CLASS/IMAGE"], id="splits-without-classes"),
        pytest.param(
            ["train/cat/a.jpg", "train/b.jpg", "test/cat/c.jpg"],
            {},
            ["train/b.jpg", "pass a split folder alone"],
            id="half-a-split",
        ),
        pytest.param(
            ["cat/train/a.jpg", "cat/test/b.jpg", "dog/train/c.jpg", "dog/d.jpg"],
            {},
            ["folders of splits in each class", "dog/d.jpg", "--layout classes"],
            id="image-beside-splits-of-classes",
        ),
        pytest.param(["a.txt", "b/c.pdf", ".x.jpg"], {}, ["holds no image", "3 other", ".pdf 1", "hidden 1"], id="no-image"),
        pytest.param([], {}, ["holds no image", "nothing else"], id="empty-folder"),
        pytest.param(["a.jpg"], {"layout": "classes"}, ["no class folder"], id="classes-asked-of-flat"),
        pytest.param(["c/a.jpg"], {"label_col": "x"}, ["--label-col", "folder"], id="column-flag-for-folder"),
        pytest.param(
            ["Cat/1.jpg", "cat/2.jpg", "cat/3.jpg"],
            {},
            ["Cat/1.jpg has label 'Cat'", "2 other", "'cat'", "--keep-case"],
            id="case",
        ),
    ],
)
def test_unclear_folders_ask_in_one_line(data, files, options, says):
    with pytest.raises(HeadstartError) as caught:
        find_images(data(*files), SourceOptions(**options))
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in says if part not in message] == []


def test_keep_case_keeps_both_spellings(data):
    source = find_images(data("Cat/1.jpg", "cat/2.jpg"), SourceOptions(keep_case=True))
    assert {image.label for image in source.images} == {"Cat", "cat"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("nowhere", "No such file", id="missing"),
        pytest.param("photo.jpg", "single image", id="single-image"),
        pytest.param("notes.docx", "no kind of data set", id="other-file"),
        pytest.param("nul\0", "no such file", id="impossible-name"),
        pytest.param("pipe.csv", "no kind of data set", id="fifo-instead-of-table"),
    ],
)
def test_data_that_is_no_data_set_is_refused(data, name, says):
    root = data("photo.jpg", "notes.docx")
    os.mkfifo(root / "pipe.csv")
    with pytest.raises(HeadstartError, match=says):
        find_images(root / name, SourceOptions())


def test_strange_names_are_found_as_they_are(data):
    source = find_images(data(*[f"cat/{name}" for name in STRANGE]), SourceOptions())
    assert [image.path for image in source.images] == sorted(f"cat/{name}" for name in STRANGE)
    assert all((source.root / image.path).stat().st_size == image.size for image in source.images)


def test_description_is_one_line_a_fact_even_with_strange_names(data):
    source = find_images(data("x.md", *[f"cla\nss/{name}" for name in STRANGE], "b/1.png"), SourceOptions())
    lines = describe(source)
    assert not [line for line in lines if "\n" in line or line.encode("utf-8", "replace").decode() != line]
    text = "\n".join(lines)
    assert all(
        part in text for part in ["folder of classes", "images    10", "2, the smallest is 'b' with 1", "none given", ".md 1"]
    )
    assert text.count("  example ") == 3
