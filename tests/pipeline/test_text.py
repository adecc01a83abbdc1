import csv
import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.pipeline.text import escape, one_line, printable, rough_size_words, unescape, verb

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40) | st.binary(max_size=40).map(os.fsdecode)


@given(ANY_TEXT)
def test_escaping_is_reversible_one_line_and_utf_8(text):
    escaped = escape(text)
    assert unescape(escaped) == text
    assert escaped.encode().decode().splitlines() in ([escaped], [])
    assert len(printable(text).splitlines()) <= 1


@given(ANY_TEXT)
def test_a_message_is_one_line_and_keeps_the_spelling_of_names_in_it(text):
    assert len(one_line(text).splitlines()) <= 1
    assert one_line(text).isprintable() or all(c.isprintable() or ord(c) > 0x9F for c in one_line(text))
    assert one_line(printable(text)) == printable(text)


@given(ANY_TEXT, ANY_TEXT)
def test_different_texts_are_spelled_differently(one, other):
    assert (escape(one) == escape(other)) == (one == other)


@given(st.lists(ANY_TEXT, min_size=2))
def test_a_csv_reader_gets_the_fields_back_from_one_line(fields):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(map(escape, fields))
    assert out.getvalue().count("\n") == 1
    assert [unescape(field) for field in next(csv.reader([out.getvalue()]))] == fields


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain ż, \"'.jpg", "plain ż, \"'.jpg"),
        ("a\\b\n\r\t\0\x7f", "a\\\\b\\n\\r\\x09\\x00\\x7f"),
        (os.fsdecode(b"\xff"), "\\xff"),
        ("\x85\u2028\ud800", "\\u0085\\u2028\\ud800"),
        ("=1+1", "\\x3d1+1"),
        ("=1", "\\x3d1"),
        (os.fsdecode(b"\x80"), "\\x80"),
        ("@1", "\\x401"),
        ("@x", "\\x40x"),
        ("+cmd|x", "\\x2bcmd|x"),
        ("-1+1", "\\x2d1+1"),
        ("\t=1", "\\x09=1"),
        ("-1.5e-3", "-1.5e-3"),
        ("a=1", "a=1"),
        ("", ""),
    ],
)
def test_spelling_is_fixed_for_ever(text, escaped):
    assert escape(text) == escaped


def test_memory_is_said_with_no_more_digits_than_were_measured():
    assert [rough_size_words(size, "MB") for size in (230_400_000, 4_000_000_000)] == ["230 MB", "4,000 MB"]
    assert [rough_size_words(size, "GB") for size in (230_400_000, 4 * 2**30)] == ["0.2 GB", "4.3 GB"]


@pytest.mark.parametrize(
    ("number", "said"),
    [(1, "is was has needs"), (0, "are were have need"), (2, "are were have need"), (1_000, "are were have need")],
    ids=["one", "none", "two", "many"],
)
def test_a_verb_agrees_with_the_number_before_it(number, said):
    assert " ".join(verb(number, many) for many in ("are", "were", "have", "need")) == said
