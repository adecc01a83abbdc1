"""Whatever is wrong with a JSON file, one error says so and names it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.pipeline.doors import records
from headstart.pipeline.doors.records import DamagedError, NewerError, parse_record, read_record
from tests.support import flipped

DAMAGED = {
    "empty": b"",
    "half": b'{"format": 1, "a": ',
    "deep": b"[" * 300_000,
    "deep objects": b'{"a":' * 300_000,
    "infinite": b'{"format": 1, "a": 1e999}',
    "minus infinite": b'{"format": 1, "a": -1e999}',
    "Infinity": b'{"format": 1, "a": Infinity}',
    "NaN": b'{"format": 1, "a": NaN}',
    "an integer that no float holds": b'{"format": 1, "a": 1' + b"0" * 400 + b"}",
    "a number of 10,000 digits": b'{"format": 1, "a": ' + b"9" * 10_000 + b"}",
    "no UTF-8": b'{"format": 1, "a": "\xff"}',
    "UTF-16": '{"format": 1}'.encode("utf-16"),
    "a bare NUL": b"\0",
    "an array": b"[1]",
    "a word": b'"format"',
    "two": b'{"format": 1}{"format": 1}',
    "no format": b"{}",
    "format 0": b'{"format": 0}',
    "format true": b'{"format": true}',
    "format text": b'{"format": "1"}',
    "format 1.5": b'{"format": 1.5}',
    "format array": b'{"format": [1]}',
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_damage_is_one_line_that_names_the_file_and_the_way_on(tmp_path, data):
    path = tmp_path / "facts.json"
    path.write_bytes(data)
    with pytest.raises(DamagedError) as caught:
        read_record(path, 1, "Delete it")
    assert str(caught.value).startswith(f"{path} is damaged (")
    assert str(caught.value).endswith(". Delete it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [2, 10**30], ids=["next", "huge"])
def test_a_later_format_is_refused_and_not_called_damaged(tmp_path, version):
    path = tmp_path / "facts.json"
    path.write_text(json.dumps({"format": version, "whatever": 1}))
    with pytest.raises(NewerError, match="Upgrade"):
        read_record(path, 1)


def test_keys_of_later_versions_are_passed_over(tmp_path):
    path = tmp_path / "facts.json"
    path.write_bytes(records.encode({"format": 1, "name": "a", "added later": {"x": 1}}))
    assert read_record(path, 1).text("name") == "a"


@pytest.mark.parametrize("make", ["mkdir", "link"], ids=["a folder", "a link"])
def test_what_is_no_file_is_damaged(tmp_path, make):
    path = tmp_path / "facts.json"
    path.mkdir() if make == "mkdir" else path.symlink_to(__file__)
    with pytest.raises(DamagedError, match=r"folder|symbolic link"):
        read_record(path, 1)


def test_a_missing_file_is_missing_also_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "gone", tmp_path / "file" / "gone"):
        with pytest.raises(FileNotFoundError):
            read_record(path, 1)


VALUES = {
    "text of a number": ('{"a": 1}', lambda r: r.text("a")),
    "text of nothing": ("{}", lambda r: r.text("a")),
    "text of another form": ('{"a": "../x"}', lambda r: r.text("a", "[a-z]+")),
    "name with half a surrogate pair": ('{"a": "x\\ud800"}', lambda r: r.text("a", "x.")),
    "text that is too long": ('{"a": "xxxx"}', lambda r: r.text("a", longest=3)),
    "integer of true": ('{"a": true}', lambda r: r.integer("a")),
    "integer of a fraction": ('{"a": 1.5}', lambda r: r.integer("a")),
    "integer of 2^60": ('{"a": 1152921504606846976}', lambda r: r.integer("a")),
    "integer below zero": ('{"a": -1}', lambda r: r.integer("a")),
    "number of text": ('{"a": "1"}', lambda r: r.number("a")),
    "number beyond": ('{"a": 5}', lambda r: r.number("a", most=4)),
    "flag of 1": ('{"a": 1}', lambda r: r.flag("a")),
    "list of an object": ('{"a": {}}', lambda r: r.items_of("a")),
    "list that is too long": ('{"a": [1, 2]}', lambda r: r.items_of("a", longest=1)),
    "texts of numbers": ('{"a": ["x", 1]}', lambda r: r.texts("a")),
    "records of numbers": ('{"a": [1]}', lambda r: r.records("a")),
    "inner": ('{"a": {"b": []}}', lambda r: r.record("a").text("b")),
    "inner of a list": ('{"a": [{"b": []}]}', lambda r: r.records("a")[0].text("b")),
}


@pytest.mark.parametrize(("text", "ask"), VALUES.values(), ids=VALUES.keys())
def test_a_value_of_another_kind_is_damage_that_names_file_and_key(text, ask):
    with pytest.raises(DamagedError, match=r"facts.json is damaged \(a"):
        ask(parse_record(text, "facts.json", None))


def test_a_number_that_no_float_holds_is_damage_where_it_is_asked_for_too():
    text = '{"a": ' + "9" * 400 + "}"
    with pytest.raises(DamagedError, match=r"facts.json is damaged \(a"):
        parse_record(text, "facts.json", None, is_finite=False).number("a")


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_parse_or_are_damaged(data):
    try:
        parse_record(data, "facts.json", 1)
    except (DamagedError, NewerError) as error:
        assert "facts.json" in str(error)  # noqa: PT017 - most inputs raise nothing that could be waited for


@given(
    st.dictionaries(
        st.text(), st.none() | st.text() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    )
)
def test_what_is_written_is_read_back(facts):
    facts.pop("seal", None)
    assert parse_record(records.encode(facts), "facts.json", None) == facts
    for indent in (None, 1):
        assert parse_record(records.seal(facts, indent), "facts.json", None) == facts


@pytest.mark.parametrize("indent", [None, 1], ids=["one line", "lines"])
def test_a_flipped_bit_of_a_sealed_record_is_damage_or_changes_nothing(indent):
    facts = {"format": 1, "score": 0.91, "heads": [{"name": "linear", "epochs": 12}], "of": {"a": {"b": 10}}}
    data = records.seal(facts, indent)
    noticed = 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            read = parse_record(bytes(flipped), "facts.json", 1)
        except (DamagedError, NewerError):
            noticed += 1
        else:
            assert {key: read[key] for key in facts} == facts
    assert noticed > 6 * len(data)


def test_another_versions_record_is_refused_as_such_whatever_its_seal(tmp_path):
    path = tmp_path / "facts.json"
    path.write_bytes(records.seal({"format": 1, "needs": []}).replace(b"[]", b'["more"]'))

    def judge(facts):
        if facts["needs"]:
            raise LookupError

    with pytest.raises(LookupError):
        read_record(path, None, judge=judge)


@pytest.mark.parametrize("indent", [1, None], ids=["in lines", "in one line"])
def test_a_sealed_record_that_lost_its_end_or_lines_or_any_bytes_to_zeros_is_damaged(indent):
    facts = {"format": 1, "score": 0.91, "of": {"items": 64, "ok": 63}}
    data = records.seal(facts, indent)
    lines = data.splitlines(keepends=True)
    left = [data[:end] for end in range(len(data.rstrip()))]
    left += [data[:begin] + bytes(end - begin) + data[end:] for end in range(len(data)) for begin in range(end)]
    left += [b"".join(lines[:begin] + lines[end:]) for end in range(len(lines) + 1) for begin in range(end)]
    for each in left:
        with pytest.raises(DamagedError):
            parse_record(each, "facts.json", 1)


def test_a_seal_whose_name_was_flipped_is_missed(tmp_path):
    data = records.seal({"format": 1, "score": 0.91})
    for byte in range(data.index(b"seal"), data.index(b"seal") + 4):
        for bit in range(8):
            with pytest.raises(DamagedError):
                parse_record(flipped(data, 8 * byte + bit), "facts.json", 1)


@pytest.mark.parametrize("last", ["0123456789abcdef", "seal", 3], ids=["looks like a seal", "says seal", "number"])
def test_an_unsealed_record_may_end_with_anything(last):
    assert parse_record(records.encode({"format": 1, "last": last}), "facts.json", 1)["last"] == last
