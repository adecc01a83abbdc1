import inspect
import os
import sys
from pathlib import Path

import pytest

from headstart.features.sources.find import find_images
from headstart.features.sources.source import SourceOptions
from headstart.features.sources.walk import walk_images
from headstart.pipeline.errors import HeadstartError


def test_hidden_files_and_litter_are_left_out_and_counted(data):
    root = data("cat/a.jpg", "cat/._a.jpg", ".git/x.jpg", "__MACOSX/cat/a.jpg", ".DS_Store", "cat/Thumbs.db", "readme")
    source = find_images(root, SourceOptions())
    assert [image.path for image in source.images] == ["cat/a.jpg"]
    assert source.ignored == 6


@pytest.mark.parametrize(
    "litter",
    [
        "$RECYCLE.BIN",
        "$Recycle.Bin",
        "System Volume Information",
        "FOUND.000",
        "#recycle",
        "@Recycle",
        "#snapshot",
        ".Trash-1000",
    ],
)
def test_what_was_thrown_away_is_no_class(data, litter):
    source = find_images(data("cat/a.jpg", "dog/b.jpg", f"{litter}/c.jpg", f"cat/{litter}/d.jpg"), SourceOptions())
    assert [(image.path, image.label) for image in source.images] == [("cat/a.jpg", "cat"), ("dog/b.jpg", "dog")]
    assert source.ignored == 2


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


@pytest.mark.parametrize("name", ["lost+found", "private", "a/private"])
def test_a_folder_that_may_not_be_listed_is_named_and_passed_over(data, monkeypatch, name):
    root = data("a/x.jpg", f"{name}/y.jpg")
    plain = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).rstrip("/").endswith(name) and plain(path, mode))
    listed = walk_images(root, allow_symlinks=False)
    assert [file.path for file in listed.files] == ["a/x.jpg"]
    assert listed.unreadable == ([] if name == "lost+found" else [name])
