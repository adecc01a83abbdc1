from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.manifest import splits as splits_module
from headstart.features.manifest.splits import assign_splits, split_notes
from headstart.features.sources.source import Image
from headstart.features.sources.spellings import SPLITS

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}


def image(path, label="", split="", group=""):
    return Image(path, label, split, group, 1, 1)


def numbered(specs):
    return [image(f"{i}.jpg", label, split, group) for i, (label, split, group) in enumerate(specs)]


LABELS = st.sampled_from("abc")
GROUPS = st.sampled_from(["", "", "p", "q", "r", "s"])
DRAWN = st.lists(st.tuples(LABELS, st.just(""), GROUPS), max_size=60).map(numbered)
MIXED = st.lists(st.tuples(LABELS, st.sampled_from(["", "", *SPLITS]), GROUPS), max_size=60).map(numbered)


def splits_of_groups(images, splits):
    by_group = defaultdict(set)
    for item, split in zip(images, splits, strict=True):
        by_group[item.group].add(split)
    by_group.pop("", None)
    return by_group


@given(DRAWN, st.integers())
def test_a_group_is_never_divided(images, seed):
    by_group = splits_of_groups(images, assign_splits(images, {}, seed))
    assert [splits for splits in by_group.values() if len(splits) != 1] == []


@given(MIXED, st.integers(0, 60), st.integers())
def test_later_images_move_no_earlier_one_and_join_their_group(images, cut, seed):
    earlier = assign_splits(images[:cut], {}, seed)
    known = {item.path: split for item, split in zip(images, earlier, strict=False)}
    later = assign_splits(images, known, seed + 1)
    assert later[:cut] == earlier
    if not any(item.split for item in images):
        assert all(len(by_group) == 1 for by_group in splits_of_groups(images, later).values())


@given(MIXED, st.randoms(use_true_random=False), st.integers())
def test_the_order_of_the_images_does_not_matter(images, random, seed):
    expected = dict(zip(images, assign_splits(images, {}, seed), strict=True))
    random.shuffle(images)
    assert dict(zip(images, assign_splits(images, {}, seed), strict=True)) == expected


@given(
    st.lists(st.tuples(LABELS, st.sampled_from(["", "", "", *SPLITS]), st.sampled_from(["", "1" * 32, "2" * 32])), max_size=60),
    st.sets(st.integers(0, 60)),
    st.sampled_from([{}, {"1" * 32: "val", "2" * 32: "test"}]),
    st.booleans(),
    st.integers(),
)
def test_images_that_are_units_of_their_own_are_drawn_as_any_others(specs, known, elsewhere, are_given, seed):
    images, seen = [], set()
    for number, (label, split, digest) in enumerate(specs):
        own = "" if digest in seen else digest
        seen.add(digest)
        images.append(Image(f"{number}.jpg", label, split if are_given else "", "", 1, 1, (), own))
    known = {image.path: SPLITS[number % 3] for number, image in enumerate(images) if number in known}
    alone = assign_splits(images, known, seed, elsewhere)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(splits_module, "_is_each_alone", lambda table: False)
        assert assign_splits(images, known, seed, elsewhere) == alone


@given(MIXED)
def test_given_splits_are_kept_and_every_image_gets_one(images):
    splits = assign_splits(images, {}, 0)
    assert set(splits) <= set(SPLITS)
    assert [s for item, s in zip(images, splits, strict=True) if item.split not in ("", s)] == []


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers())
def test_every_class_and_the_whole_are_near_their_shares(sizes, seed):
    images = [image(f"{c}/{i}", str(c)) for c, size in enumerate(sizes) for i in range(size)]
    splits = assign_splits(images, {}, seed)
    counts = Counter((item.label, split) for item, split in zip(images, splits, strict=True))
    for c, size in enumerate(sizes):
        if size >= 3:
            assert all(abs(counts[str(c), name] - SHARES[name] * size) < 1.2 for name in SPLITS)
    usual = [c for c, size in enumerate(sizes) if size >= 7]
    if len(usual) == len(sizes):  # smaller classes need more of val and test than their share
        assert all(abs(Counter(splits)[name] - SHARES[name] * sum(sizes)) < 2 for name in SPLITS)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_shares_hold_over_all_images_ever_however_they_arrive(batches):
    images, known = [], {}
    for batch in batches:
        images += [image(f"{len(images) + i}", "a") for i in range(batch)]
        known = dict(zip((item.path for item in images), assign_splits(images, known, 0), strict=True))
    counts = Counter(known.values())
    assert all(abs(counts[name] - SHARES[name] * len(images)) < 1.2 for name in SPLITS) or len(images) < 3


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"train": 1}),
        (2, {"train": 1, "test": 1}),
        (3, {"train": 1, "val": 1, "test": 1}),
        (20, {"train": 14, "val": 3, "test": 3}),
    ],
)
@pytest.mark.parametrize("size", [1, 10], ids=["images", "groups-of-10"])
def test_small_classes_fill_train_then_test_then_val(count, expected, size):
    images = [image(f"{g}/{i}", "a", group=f"g{g}" if size > 1 else "") for g in range(count) for i in range(size)]
    counts = Counter(assign_splits(images, {}, 5))
    assert counts == {name: number * size for name, number in expected.items()}


@settings(max_examples=30)
@given(st.lists(st.integers(1, 20), min_size=20, max_size=60), st.integers())
def test_uneven_groups_come_near_the_shares(sizes, seed):
    images = [image(f"{g}/{i}", "", group=f"g{g}") for g, size in enumerate(sizes) for i in range(size)]
    counts = Counter(assign_splits(images, {}, seed))
    assert all(abs(counts[name] - SHARES[name] * len(images)) <= max(sizes) for name in SPLITS)


def test_another_seed_gives_another_draw():
    images = [image(str(i), "a") for i in range(100)]
    assert assign_splits(images, {}, 0) != assign_splits(images, {}, 1)


def test_images_without_a_given_split_follow_their_group_else_train():
    images = [image("1", split="test", group="p"), image("2", group="p"), image("3", group="q"), image("4", split="val")]
    assert assign_splits(images, {}, 0) == ["test", "test", "train", "val"]


def test_an_image_of_a_group_that_is_gone_follows_it_when_the_known_image_is_passed():
    images = [image("new", group="p"), image("old", group="p")]
    assert all(assign_splits(images, {"old": split}, 0) == [split, split] for split in SPLITS)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        pytest.param(
            [image("1", "a")], ["1 classes have one image or group, all in train", "no image is in val and test"], id="one"
        ),
        pytest.param([image("1", "a"), image("2", "a")], ["1 classes have two images or groups, in train and test"], id="two"),
        pytest.param([image("1", "a", "train"), image("2", "a", "test")], ["no image is in val"], id="no-val"),
        pytest.param([image("1", "a", "train"), image("2", "a")], ["1 images have no given split"], id="some-given"),
        pytest.param([image("1", "a", "train", "p"), image("2", "a", "test", "p")], ["1 groups are in more than one"], id="leak"),
    ],
)
def test_decisions_are_counted_and_told(images, says):
    notes = "\n".join(split_notes(images, assign_splits(images, {}, 0)))
    assert [part for part in says if part not in notes] == []


def test_nothing_is_told_where_nothing_was_decided():
    images = [image(str(i), "a") for i in range(20)]
    assert split_notes(images, assign_splits(images, {}, 0)) == []


def test_a_known_split_wins_over_a_given_one_and_leads_its_group():
    images = [image("1", split="test", group="p"), image("2", group="p"), image("3", split="test")]
    assert assign_splits(images, {"2": "train", "3": "val"}, 0) == ["test", "train", "val"]
    assert assign_splits([*images, image("0", group="p")], {"2": "train"}, 0)[-1] == "train"


def test_the_largest_group_is_placed_first():
    images = [image(f"g{i}", group="g") for i in range(70)] + [image(f"{i}") for i in range(30)]
    for seed in range(5):
        assert Counter(assign_splits(images, {}, seed)) == {"train": 70, "val": 15, "test": 15}
