"""JSON in pieces: the same values whatever is decoded whole, and what stands before damage."""

import io
import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.features.sources.results.json_stream import BrokenJsonError, stream_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


def put_together(pieces):
    """The value that `stream_json` took apart; empty containers that were too large cannot be, so all are there."""
    whole = None
    for path, value in pieces:
        if not path:
            return value
        whole = whole if whole is not None else ([] if isinstance(path[0], int) else {})
        inside = whole
        for key, following in itertools.pairwise(path):
            new = [] if isinstance(following, int) else {}
            if isinstance(inside, list) and key == len(inside):
                inside.append(new)
            elif isinstance(inside, dict):
                inside.setdefault(key, new)
            inside = inside[key]
        if isinstance(inside, list):
            inside.append(value)
        else:
            inside[path[-1]] = value
    return whole


class Dripping(io.BytesIO):
    """Gives a few bytes at a time, as a pipe may."""

    def read(self, size=-1):
        return super().read(min(size, 3))


@given(VALUES, st.integers(min_value=20, max_value=200), st.sampled_from([None, 1]))
def test_pieces_of_any_size_are_the_value(value, largest, indent):
    text = json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "replace")
    expected = json.loads(text)
    try:
        pieces = list(stream_json(Dripping(text), largest))
    except BrokenJsonError as error:
        assert str(error) == "a text is too long"  # noqa: PT017
        return
    if pieces and pieces[0][0] == ():
        assert pieces == [((), expected)]
    else:
        assert put_together(pieces) == expected


def test_numbers_are_whole_where_a_piece_ends():
    [(_, value)] = stream_json(Dripping(b"123456789"))
    assert value == 123456789


def test_nan_is_read():
    [(_, value)] = stream_json(io.BytesIO(b"[NaN, -Infinity]"))
    assert math.isnan(value[0])


def test_a_large_list_is_walked_item_by_item():
    text = json.dumps([{"number": number} for number in range(1000)]).encode()
    pieces = list(stream_json(io.BytesIO(text), largest=100))
    assert pieces[0] == ((0,), {"number": 0})
    assert len(pieces) == 1000


@pytest.mark.parametrize(
    ("text", "before", "why"),
    [
        pytest.param(b"", [], "it is empty", id="empty"),
        pytest.param(b"[1, 2", [1, 2], "ends in the middle", id="torn list"),
        pytest.param(b'[1, {"a": 2', [1, 2], "ends in the middle", id="torn object"),
        pytest.param(b'[1, "ab', [1], "a text has no end", id="torn text"),
        pytest.param(b"[1, 2] [3]", [[1, 2]], "more follows", id="two values"),
        pytest.param(b"[1 2]", [1], "expected , or ], found '2'", id="no comma"),
        pytest.param(b"[1,]", [1], "unexpected ']'", id="comma at the end"),
        pytest.param(b"{'a': 1}", [], 'expected ", found', id="single quotes"),
        pytest.param(b'{"a" 1}', [], "expected :, found '1'", id="no colon"),
        pytest.param(b"<html>", [], "unexpected '<html>'", id="a page"),
        pytest.param(b"[1, \xff]", [], "not UTF-8", id="no UTF-8"),
        pytest.param(b"[" * 100_000, [], "nested too deep", id="deep"),
        pytest.param(b'[1, "\n"]', [1], "control character", id="line end in a text"),
    ],
)
def test_what_stands_before_damage_is_given_and_the_damage_named(text, before, why):
    given_values = []

    def take():
        for _, value in stream_json(io.BytesIO(text)):
            given_values.append(value)

    with pytest.raises(BrokenJsonError) as error:
        take()
    assert why in str(error.value)
    assert given_values == before
