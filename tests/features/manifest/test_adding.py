import json
import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.features.manifest.adding import add_images, fair_order
from headstart.features.manifest.reading import open_manifest
from headstart.features.sources.source import Image
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.files import FileSystem
from headstart.pipeline.workspace import open_or_create_workspace
from tests.features.listed import everything, images, source


def test_adding_the_same_again_writes_nothing(workspace):
    first = add_images(workspace, source(*images(30)), 0)
    before = {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*")}
    again = add_images(workspace, source(*images(30)), 0)
    assert (first.new, first.known, first.changed) == (30, 0, 0)
    assert (again.new, again.known, again.changed) == (0, 30, 0)
    assert again.splits == first.splits
    assert {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*")} == before


def test_new_images_form_a_new_part_and_nothing_earlier_moves(workspace):
    first = add_images(workspace, source(*images(30)), 0).manifest
    earlier = everything(first)
    added = add_images(workspace, source(*images(50)), 0)
    parts = added.manifest.parts
    assert (added.new, added.known) == (20, 30)
    assert [(part.number, part.first_row, part.rows) for part in parts] == [(0, 0, 30), (1, 30, 20)]
    assert everything(added.manifest)[:30] == earlier
    assert [row.index for row in added.manifest.rows(parts[1].name, 5, 8)] == [35, 36, 37]
    assert sum(added.splits.values()) == 50


@pytest.mark.parametrize("change", [{"size": 11}, {"mtime_ns": 21}], ids=str)
def test_changed_image_is_added_again_with_its_split_and_its_last_row_counts(workspace, change):
    first = add_images(workspace, source(*images(30)), 0)
    splits = {image.path: image.split for image in everything(first.manifest)}
    changed = (*images(7), images(1, 7)[0]._replace(**change), *images(22, 8))
    added = add_images(workspace, source(*changed), 0)
    assert (added.new, added.known, added.changed) == (0, 29, 1)
    last = everything(added.manifest)[-1]
    assert last == changed[7]._replace(split=splits[last.path])
    live = added.manifest.read_all().live
    assert int(live.sum()) == 30
    assert bool(live[-1])
    assert add_images(workspace, source(*changed), 0).changed == 0


def test_known_images_that_are_gone_are_left_alone(workspace):
    add_images(workspace, source(*images(30)), 0)
    missing = images(1)[0]._replace(size=-1, mtime_ns=-1)
    added = add_images(workspace, source(missing, *images(10, 1)), 0)
    assert (added.new, added.known, added.changed) == (0, 11, 0)


def test_image_that_was_missing_and_came_is_added_again(workspace):
    missing = images(1)[0]._replace(size=-1, mtime_ns=-1)
    add_images(workspace, source(missing), 0)
    assert add_images(workspace, source(images(1)[0]), 0).changed == 1


def test_images_that_are_gone_still_count_for_the_shares_and_groups(workspace):
    one = [Image(f"p{i}", "a", "", f"g{i}", 1, 1) for i in range(20)]
    first = add_images(workspace, source(*one), 0)
    splits = {image.group: image.split for image in everything(first.manifest)}
    two = [Image(f"q{i}-{k}", "a", "", f"g{i}", 1, 1) for i in range(12) for k in range(i)]
    second = everything(add_images(workspace, source(*two), 0).manifest)[20:]
    assert {(image.group, image.split) for image in second} == {(f"g{i}", splits[f"g{i}"]) for i in range(1, 12)}


def placed(folder, count=3):
    """Real files of different sizes and the images that they are, below `folder`."""
    listed = []
    for i in range(count):
        path = folder / "cat" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (i + 1))
        listed.append(Image(f"cat/{i}.jpg", "cat", "", "", i + 1, path.stat().st_mtime_ns, digest=f"{i:032x}"))
    (folder / "t.csv").touch()
    (folder / "t.tsv").touch()
    return listed


@pytest.mark.parametrize("other", ["root", "file", "kind"])
def test_another_place_is_another_data_set_while_the_first_is_there(workspace, tmp_path, other):
    listed = placed(tmp_path / "one")
    placed(tmp_path / "two")
    first = add_images(workspace, source(*listed, root=tmp_path / "one"), 0).manifest.folder
    facts = {"root": {"root": tmp_path / "two"}, "file": {"file": "t.tsv"}, "kind": {"file": None, "layout": "classes"}}[other]
    second = add_images(workspace, source(*listed, **{"root": tmp_path / "one", **facts}), 0)
    assert first != second.manifest.folder
    assert second.new == 3
    assert any(f"3 of these photos are in data set {first.name}, too" in note for note in second.notes)


@pytest.mark.parametrize("other", [{"roles": (("path", "p"), ("label", "species"))}, {"layout": "flat"}], ids=str)
def test_data_read_another_way_is_the_same_data_set(workspace, other):
    first = add_images(workspace, source(*images(3)), 0).manifest.folder
    second = add_images(workspace, source(*images(3), **other), 0)
    assert (second.manifest.folder, second.known) == (first, 3)


def test_folder_is_named_after_the_data_and_says_where_it_is(workspace):
    pets = source(*images(3), file=None, layout="classes", root=os.fsdecode(b"/data/Pets & \xff"))
    manifest = open_manifest(add_images(workspace, pets, 7).manifest.folder)
    assert manifest.folder.name.startswith("pets-")
    assert len(manifest.folder.name) == len("pets-") + 8
    assert (manifest.dataset.root, manifest.dataset.layout, manifest.dataset.seed) == (str(pets.root), "classes", 7)


def test_seed_of_the_first_time_stays(workspace):
    add_images(workspace, source(*images(3)), 7)
    added = add_images(workspace, source(*images(9)), 8)
    assert open_manifest(added.manifest.folder).dataset.seed == 7
    assert any("keeps its seed 7" in note for note in added.notes)


def test_later_images_are_drawn_and_ordered_by_the_first_seed(tmp_path):
    def two_times(name, second_seed):
        workspace = open_or_create_workspace(tmp_path / name)
        add_images(workspace, source(*images(3)), 7)
        return everything(add_images(workspace, source(*images(40)), second_seed).manifest)

    assert two_times("a", 7) == two_times("b", 8)


def test_links_allowed_once_stay_allowed(workspace):
    states = [add_images(workspace, source(*images(3), allow_symlinks=allow), 0).manifest for allow in (False, True, False)]
    assert open_manifest(states[0].folder).dataset.allow_symlinks
    assert [manifest.dataset.allow_symlinks for manifest in states] == [False, True, True]


@pytest.mark.parametrize("change", [{"label": "bird"}, {"split": "test"}, {"extra": ("2",)}, {"group": "p"}], ids=str)
def test_what_the_data_says_now_is_taken_over_without_a_new_row(workspace, change):
    given_split = images(1)[0]._replace(split="val", extra=("1",))
    add_images(workspace, source(given_split, columns=("age",)), 0)
    corrected = given_split._replace(**change)
    added = add_images(workspace, source(corrected, columns=("age",)), 0)
    assert (added.new, added.known, added.changed, everything(added.manifest)) == (0, 1, 0, [corrected])
    assert added.manifest.rows(added.manifest.parts[0].name, 0, 1)[0].image.label == corrected.label
    assert add_images(workspace, source(corrected, columns=("age",)), 0).relabelled == 0


def test_column_that_comes_later_is_empty_in_earlier_rows(workspace):
    add_images(workspace, source(images(1)[0]), 0)
    added = add_images(workspace, source(images(1, 1)[0]._replace(extra=("7",)), columns=("age",)), 0)
    assert added.manifest.read_all().extra == {"age": ["", "7"]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("", "is damaged", id="empty"),
        pytest.param('{"format": 1', "is damaged", id="truncated"),
        pytest.param("[]", "is damaged", id="no-object"),
        pytest.param('{"format": 1}', "is damaged", id="keys-missing"),
        pytest.param('{"format": 99}', r"format 99.*pip install -U", id="newer"),
        pytest.param(None, "cannot be read.*enqueue again", id="missing"),
    ],
)
def test_bad_dataset_file_is_named(workspace, content, says):
    folder = add_images(workspace, source(*images(3)), 0).manifest.folder
    (folder / "dataset.json").unlink()
    if content is not None:
        (folder / "dataset.json").write_text(content)
    with pytest.raises(HeadstartError, match=f"dataset.json.*{says}"):
        open_manifest(folder)


def test_lost_dataset_file_comes_back_and_no_row_is_added_twice(workspace):
    folder = add_images(workspace, source(*images(3)), 0).manifest.folder
    (folder / "dataset.json").unlink()
    assert add_images(workspace, source(*images(3)), 0).known == 3
    assert json.loads((folder / "dataset.json").read_text())["seed"] == 0


def test_full_disk_leaves_no_part_and_the_next_call_adds_all(workspace, monkeypatch):
    publish = FileSystem.publish_by_pieces

    def full(*_):
        raise TryLaterError("disk full")

    monkeypatch.setattr(FileSystem, "publish_by_pieces", full)
    with pytest.raises(TryLaterError):
        add_images(workspace, source(*images(3)), 0)
    monkeypatch.setattr(FileSystem, "publish_by_pieces", publish)
    assert add_images(workspace, source(*images(3)), 0).new == 3


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.integers(0, 9))
def test_every_prefix_of_a_part_is_a_fair_sample(sizes, seed):
    strata = [(str(label), split) for label, size in enumerate(sizes) for split in ["train"] * size + ["test"] * (size // 4)]
    order = fair_order(strata, seed, 0)
    assert sorted(order) == list(range(len(strata)))
    totals, seen = Counter(label for label, _ in strata), Counter()
    for length, item in enumerate(order, start=1):
        seen[strata[item][0]] += 1
        # Each class is off by less than one around a common position, which all classes together shift by less than one each.
        assert all(abs(seen[c] - length * totals[c] / len(strata)) <= 1 + len(sizes) * totals[c] / len(strata) for c in totals)


def test_rows_that_are_unpacked_together_follow_each_other_shuffled(workspace):
    lots = tuple(i // 10 % 2 for i in range(40))
    added = add_images(workspace, source(*images(40), lots=lots), 0)
    paths = [image.path for image in images(40)]
    positions = [paths.index(path) for path in added.manifest.read_all().path]
    assert [lots[i] for i in positions] == [0] * 20 + [1] * 20
    assert positions[:20] != sorted(positions[:20])
    assert sorted(positions) == list(range(40))


def test_splits_are_spread_within_each_class():
    strata = [("cat", "train")] * 70 + [("cat", "test")] * 30
    first_half = Counter(strata[item][1] for item in fair_order(strata, 3, 0)[:50])
    assert abs(first_half["test"] - 15) <= 2


def test_order_is_shuffled_and_depends_on_the_seed():
    strata = [("a", "train")] * 100
    orders = [fair_order(strata, seed, salt) for seed, salt in ((0, 0), (1, 0), (0, 5))]
    assert len({tuple(order) for order in orders}) == 3
    assert orders[0] == fair_order(strata, 0, 0) != sorted(orders[0])
