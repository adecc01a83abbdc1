import dataclasses

import pytest

from headstart.features.sources.find import find_images
from headstart.features.sources.scenes import scenes_note, scenes_of
from headstart.features.sources.source import Image, SourceOptions
from headstart.pipeline.errors import HeadstartError


def images(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


SITES = ["cat/north/1.png", "cat/north/2.png", "cat/south/1.png", "dog/north/1.png", "dog/east/a/1.png"]
BY_FOLDER = {
    "the deepest folder": ("folder", ["cat/north", "cat/north", "cat/south", "dog/east/a", "dog/north"]),
    "a depth": ("2", ["cat/north", "cat/north", "cat/south", "dog/east", "dog/north"]),
    "nothing": ("none", ["", "", "", "", ""]),
}


@pytest.mark.parametrize(("said", "groups"), BY_FOLDER.values(), ids=BY_FOLDER)
def test_images_of_a_folder_are_a_group(tmp_path, said, groups):
    source = find_images(images(tmp_path, SITES), SourceOptions(group_by=said))
    assert [image.group for image in sorted(source.images, key=lambda image: image.path)] == groups


def test_what_was_said_of_groups_holds_the_next_time_and_can_be_taken_back(tmp_path):
    first = find_images(images(tmp_path, SITES), SourceOptions(group_by="folder"))
    again = SourceOptions(remembered=first.roles)
    assert find_images(tmp_path, again).images == first.images
    back = find_images(tmp_path, dataclasses.replace(again, group_by="none"))
    assert {image.group for image in back.images} == {""}
    assert back.roles == ()


BAD = {
    "a class is one folder": (["cat/1.png", "cat/2.png", "dog/1.png"], "folder", "makes one group of the class"),
    "one class is one folder, and so is the other at that depth": (SITES, "1", "makes one group of the class"),
    "deeper than an image lies": (SITES, "3", "lies in 2 folders below the data"),
    "no depth": (SITES, "0", "expected folder (the deepest), a depth such as 2, or none"),
    "a word": (SITES, "site", "expected folder (the deepest), a depth such as 2, or none"),
}


@pytest.mark.parametrize(("names", "said", "reason"), BAD.values(), ids=BAD)
def test_folders_that_can_be_no_groups_are_refused_in_one_line(tmp_path, names, said, reason):
    with pytest.raises(HeadstartError, match=r"^[^\n]*$") as refused:
        find_images(images(tmp_path, names), SourceOptions(group_by=said))
    assert reason in str(refused.value)


def test_a_table_with_groups_of_its_own_takes_none_by_folders(tmp_path):
    images(tmp_path, SITES)
    (tmp_path / "t.csv").write_text("path,label,site\n" + "".join(f"{name},{name[:3]},x\n" for name in SITES))
    found = find_images(tmp_path / "t.csv", SourceOptions(group_by="2"))
    assert {image.group for image in found.images} == {"cat/north", "cat/south", "dog/east", "dog/north"}
    with pytest.raises(HeadstartError, match="each say what belongs together"):
        find_images(tmp_path / "t.csv", SourceOptions(group_by="2", group_col="site"))


LOOKS = {
    "bursts": (["IMG_0001_a", "IMG_0001_b", "IMG_0002_a", "IMG_0002_b"], 2),
    "frames of clips": (["clip1_frame_0001", "clip1_frame_0002", "clip2_frame_0001", "clip2_frame_0002"], 2),
    "frames of a camera's sequences": (["0001TP_006690", "0001TP_006720", "0006R0_f00930", "0006R0_000931", "0006R0_000932"], 2),
    "a camera's numbers": (["IMG_0001", "IMG_0002", "IMG_0003", "IMG_0004"], 0),
    "plain numbers": (["00001", "00002", "00003", "00004"], 0),
    "one scene": (["walk1_01", "walk1_02", "walk1_03"], 0),
    "few of them": (["a1_1", "a1_2", "b2_1", "b2_2", "x", "y", "z", "u", "v"], 0),
    "words": (["a cat", "a dog", "the-cat", "the-dog"], 0),
}


@pytest.mark.parametrize(("stems", "scenes"), LOOKS.values(), ids=LOOKS)
def test_names_of_scenes_are_told_from_others(stems, scenes):
    paths = [f"photos/{stem}.jpg" for stem in stems]
    assert len(set(scenes_of(paths, ["a"] * len(paths))) - {""}) == scenes
    note = scenes_note([Image(path, "a", "", "", 1, 1) for path in paths])
    assert (note is not None) == (scenes > 0)


def test_scenes_that_are_the_classes_are_none():
    paths = [f"n{number}/n{number}_{place}.jpg" for number in (101, 102, 103) for place in (10, 20)]
    assert set(scenes_of(paths, [path[:4] for path in paths])) == {""}


def test_where_groups_are_given_nothing_is_said_of_names():
    stems = ["IMG_0001_a", "IMG_0001_b", "IMG_0002_a", "IMG_0002_b"]
    assert scenes_note([Image(f"{stem}.jpg", "a", "", stem[:8], 1, 1) for stem in stems]) is None
