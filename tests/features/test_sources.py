import inspect
import os
import sys
from pathlib import Path

import pytest

from headstart.features.sources import SourceOptions, describe, find_images
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


def found(source):
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
    assert (source.layout, found(source)) == (layout, images)


@pytest.mark.parametrize("name", ["validation", "valid", "val", "evaluation", "eval"])
def test_every_synonym_of_a_split_is_that_split(data, name):
    source = find_images(data("train/cat/a.jpg", f"{name}/cat/b.jpg", "testing/cat/c.jpg"), SourceOptions())
    assert sorted(image.split for image in source.images) == ["test", "train", "val"]


def test_flag_flat_drops_labels_and_keeps_given_splits(data):
    options = SourceOptions(layout="flat")
    assert found(find_images(data("cat/a.jpg", "b.jpg", at="x"), options)) == [("b.jpg", "", ""), ("cat/a.jpg", "", "")]
    assert found(find_images(data("test/b.jpg", "train/c/a.jpg", at="y"), options)) == [
        ("test/b.jpg", "", "test"),
        ("train/c/a.jpg", "", "train"),
    ]
    assert {image.split for image in find_images(data("test/b.jpg", "dog/a.jpg", at="z"), options).images} == {""}


def test_flag_classes_reads_the_first_level_as_class_and_leaves_loose_images_out(data):
    source = find_images(data("test/a.jpg", "train/b.jpg", "loose.jpg"), SourceOptions(layout="classes"))
    assert found(source) == [("test/a.jpg", "test", ""), ("train/b.jpg", "train", "")]
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
        pytest.param(["train/cat/a.jpg", "test/b.jpg"], {}, ["test/b.jpg", "SPLIT/CLASS/IMAGE"], id="split-without-classes"),
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


def test_hidden_files_and_litter_are_left_out_and_counted(data):
    root = data("cat/a.jpg", "cat/._a.jpg", ".git/x.jpg", "__MACOSX/cat/a.jpg", ".DS_Store", "cat/Thumbs.db", "readme")
    source = find_images(root, SourceOptions())
    assert [image.path for image in source.images] == ["cat/a.jpg"]
    assert source.ignored == 6


def test_whatever_is_named_like_an_image_is_a_row(data):
    root = data("cat/a.jpg")
    (root / "cat" / "folder.jpg").mkdir()
    os.mkfifo(root / "cat" / "pipe.png")
    (root / "cat" / "empty.gif").touch()
    (root / "cat" / "full.jpg").mkdir()
    (root / "cat" / "full.jpg" / "b.png").touch()
    source = find_images(root, SourceOptions())
    assert [image.path for image in source.images] == [
        "cat/a.jpg", "cat/empty.gif", "cat/folder.jpg", "cat/full.jpg/b.png", "cat/pipe.png",
    ]  # fmt: skip


def test_order_of_the_listing_does_not_matter(data, monkeypatch):
    root = data("b/1.jpg", "a/2.jpg", "a/1.jpg", "c/x/3.jpg")
    (root / "b" / "link").symlink_to(root / "a")  # one of these two is followed, always the same
    (root / "b" / "other").symlink_to(root / "a")
    expected = find_images(root, SourceOptions())
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            self.entries = sorted(scandir(path), key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(os, "scandir", Reversed)
    assert find_images(root, SourceOptions()) == expected


@pytest.mark.parametrize("target", ["file", "folder", "dangling"])
def test_link_out_of_the_root_is_refused_and_named(data, target):
    outside = data("x.jpg", at="outside")
    root = data("cat/a.jpg")
    link = root / "cat" / "link.jpg"
    link.symlink_to({"file": outside / "x.jpg", "folder": outside, "dangling": outside / "none.jpg"}[target])
    with pytest.raises(HeadstartError, match=r"1 symbolic link leaves .*first: cat/link\.jpg -> .*outside.*--allow-symlinks"):
        find_images(root, SourceOptions())


def test_allowed_links_out_of_the_root_are_followed(data):
    outside = data("x.jpg", at="outside")
    root = data("cat/a.jpg")
    (root / "cat" / "link.jpg").symlink_to(outside / "x.jpg")
    (root / "dog").symlink_to(outside)
    source = find_images(root, SourceOptions(allow_symlinks=True))
    assert [(image.path, image.label) for image in source.images] == [
        ("cat/a.jpg", "cat"),
        ("cat/link.jpg", "cat"),
        ("dog/x.jpg", "dog"),
    ]
    assert source.images[1].size == (outside / "x.jpg").stat().st_size


def test_links_inside_the_root_are_fine_and_a_prefix_is_not_inside(data):
    root = data("cat/a.jpg")
    (root / "dog").symlink_to(root / "cat")
    assert [image.path for image in find_images(root, SourceOptions()).images] == ["cat/a.jpg", "dog/a.jpg"]
    data("b.jpg", at="database")
    (root / "cat" / "b.jpg").symlink_to(root.parent / "database" / "b.jpg")
    with pytest.raises(HeadstartError, match=r"2 symbolic links leave .*cat/b\.jpg -> .*database"):
        find_images(root, SourceOptions())


def test_loops_of_links_end_and_add_nothing(data):
    root = data("cat/a.jpg")
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "self.jpg").symlink_to(root / "cat" / "self.jpg")
    source = find_images(root, SourceOptions())
    assert [image.path for image in source.images] == ["cat/a.jpg", "cat/self.jpg"]
    assert any("did not follow 1 links" in note for note in source.notes)


def test_folders_that_all_link_to_each_other_do_not_explode(data):
    names = [f"class{i}" for i in range(12)]
    root = data(*[f"{name}/a.jpg" for name in names])
    for name in names:
        for other in names:
            if name != other:
                (root / name / other).symlink_to(root / other)
    assert len(find_images(root, SourceOptions()).images) <= 12 * 12 * 2


def test_root_given_through_a_link_is_resolved(data, tmp_path: Path):
    root = data("cat/a.jpg")
    (tmp_path / "alias").symlink_to(root)
    assert find_images(tmp_path / "alias", SourceOptions()) == find_images(root, SourceOptions())


def test_folders_deeper_than_pythons_stack_are_walked(data):
    root = data("cat/" + "d/" * 150 + "a.jpg")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert len(find_images(root, SourceOptions()).images) == 1
    finally:
        sys.setrecursionlimit(limit)


def test_folder_that_cannot_be_listed_is_an_error(data, monkeypatch):
    root = data("cat/a.jpg", "dog/b.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).rstrip("/").endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # mode 000 stops nobody who runs the tests as root
    with pytest.raises(HeadstartError, match=r"cannot list .*dog.*Permission denied"):
        find_images(root, SourceOptions())
