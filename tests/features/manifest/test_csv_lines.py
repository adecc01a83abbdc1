"""Columns of a manifest's lines are the fields that were written, by whichever way they are read."""

import csv

import pytest

from headstart.features.manifest.csv_lines import columns, line_of

PLAIN = [["a.jpg", "cat", "1"], ["b/ü.jpg", "", "22"], [" c ", "dog;owl", "333"]]


@pytest.mark.parametrize(
    "strange",
    ["", "a,b", 'say "cat"', "two\nlines", "two\rlines", "back\\slash", "null\0", "\udcff", " ", "=1", "\u2028", "\x0b"],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_columns_are_what_was_written(strange, place):
    rows = [list(row) for row in PLAIN]
    rows[1][place] = strange
    data = b"".join(map(line_of, rows))
    assert columns(data, 3) == [list(column) for column in zip(*rows, strict=True)]


def test_columns_of_one_and_of_no_line():
    assert columns(b"".join(map(line_of, PLAIN[:1])), 3) == [["a.jpg"], ["cat"], ["1"]]
    assert columns(b"", 3) == [[], [], []]


@pytest.mark.parametrize(
    "data",
    [b"a,b\n1,2,3,4\n", b"a,b,c\n\n1,2,3\n", b"a,b,c,1,2\n3\n", b"a\nb\nc\n", b'"a,b",c\n1,2,3\n', b"a,b,c\n1,2,3,\n"],
    ids=["as many in all", "blank line", "one line too long, one too short", "one a line", "quoted", "one more, empty"],
)
def test_line_of_another_count_is_refused(data):
    with pytest.raises((ValueError, csv.Error)):
        columns(data, 3)
