"""Images and files column by column are what they were one by one."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.features.sources.image_table import Digests, ImageTable, table_of
from headstart.features.sources.source import MISSING, Image
from headstart.features.sources.walk import ListedFile, ListedFiles

HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
# What a manifest of a stranger may have in its place, too.
ODD = st.one_of(st.just("0" * 32), HEX.map(str.upper), st.text(max_size=34), HEX.map(lambda text: f" {text[1:]}"))
DIGESTS = st.one_of(st.just(""), HEX, ODD)
IMAGES = st.builds(
    Image,
    st.text(),
    st.text(),
    st.sampled_from(["", "train", "val"]),
    st.text(max_size=2),
    st.integers(MISSING, 2**62),
    st.integers(-(2**62), 2**62),
    st.sampled_from([(), ("x",), ("", "y")]),
    DIGESTS,
)


@given(st.lists(IMAGES, max_size=8))
def test_a_table_is_its_images(images):
    table = table_of(images)
    assert list(table) == images
    assert [table[i] for i in range(len(images))] == images
    assert [table[i] for i in range(-len(images), 0)] == images
    assert (table[1:3], table[::-1]) == (tuple(images[1:3]), tuple(images[::-1]))
    assert table == tuple(images)
    assert tuple(images) == table
    assert table_of(table) is table
    assert bool(table) == bool(images)


@given(st.lists(IMAGES, min_size=1, max_size=4), IMAGES)
def test_another_image_makes_another_table(images, other):
    assert (table_of([*images[:-1], other]) == images) == (other == images[-1])
    assert table_of(images) != images[:-1]


def test_past_the_end_is_an_error():
    table = table_of([Image("a", "", "", "", 1, 2)])
    for place in (1, -2):
        with pytest.raises(IndexError):
            table[place]


@given(st.lists(DIGESTS, max_size=8))
def test_digests_are_the_texts_they_were_made_of(texts):
    digests = Digests(texts)
    assert list(digests) == texts
    assert [digests[i] for i in range(len(texts))] == texts
    assert digests[1:] == texts[1:]
    assert digests == texts != [*digests, "more"]
    digests.extend(texts)
    assert digests == [*texts, *texts]
    digests = Digests(texts)
    there = [text for text in texts if text]
    assert digests.are_distinct() == (len(set(there)) == len(there))


@given(st.lists(DIGESTS, min_size=1, max_size=4), DIGESTS)
def test_a_digest_may_become_any_other(texts, other):
    for place in range(len(texts)):
        digests = Digests(texts)
        digests[place] = other
        assert list(digests) == [*texts[:place], other, *texts[place + 1 :]]


def test_there_may_be_no_digest_at_all():
    assert list(Digests.none(3)) == ["", "", ""]
    assert Digests.none(3).are_distinct()
    assert Digests.none(0).are_distinct()


def test_new_digests_leave_the_old_table_as_it_was():
    table = table_of([Image("a", "x", "", "", 1, 2), Image("b", "y", "", "", 3, 4, (), "f" * 32)])
    other = table.with_digests(Digests(["0" * 31 + "1", ""]))
    assert [image.digest for image in table] == ["", "f" * 32]
    assert [image.digest for image in other] == ["0" * 31 + "1", ""]
    assert [image[:-1] for image in other] == [image[:-1] for image in table]


def test_besides_its_texts_an_image_takes_less_than_seventy_bytes():
    columns = [(f"class/{number:07d}.jpg", 5000 + number, 10**18 + number, f"{number + 1:032x}") for number in range(10_000)]
    tracemalloc.start()
    table = ImageTable.of(Image(path, "class", "", "", size, time, (), digest) for path, size, time, digest in columns)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(table) == 10_000
    assert taken < 10_000 * 70


NUMBERS = st.integers(MISSING, 9)
FILES = st.lists(st.builds(ListedFile, st.text("ab/-.", min_size=1, max_size=6), NUMBERS, NUMBERS), max_size=8)


@given(FILES)
def test_files_are_sorted_with_what_is_known_of_them(files):
    files = list({file.path: file for file in files}.values())
    listed = ListedFiles(files)
    assert list(listed) == files
    assert [listed[i] for i in range(len(files))] == files
    assert listed[1:] == files[1:]
    listed.sort()
    assert list(listed) == sorted(files)
