"""Numbers in YAML that take an hour to read, or cannot be printed, are errors."""

import sys

import pytest
import yaml

from headstart.experiments.heads.grid import read_grid
from headstart.experiments.training.options import read_config
from headstart.pipeline.doors.yaml_files import parse_yaml
from headstart.pipeline.errors import HeadstartError

LONG = {
    "base 60": "1" + ":59" * 200_000,
    "base 60, negative": "-1" + ":59" * 50_000,
    "base 60, fraction": "1" + ":59" * 200_000 + ".5",
    "hexadecimal": "0x" + "f" * 900_000,
    "binary": "0b" + "1" * 900_000,
    "octal": "0" + "7" * 900_000,
    "decimal": "9" * 900_000,
    "said to be a number": "!!int '1" + ":59" * 200_000 + "'",
}


@pytest.mark.parametrize("number", LONG.values(), ids=LONG)
@pytest.mark.parametrize("read", [read_grid, read_config], ids=["grid", "options"])
def test_a_number_that_nobody_writes_is_refused_at_once(tmp_path, number, read):
    path = tmp_path / "given.yaml"
    path.write_text(f"hidden: 8\nlearning_rate: {number}\n")
    with pytest.raises(HeadstartError, match=r"is no YAML in line 2: a number of [0-9,]+ characters"):
        read(path)


def test_numbers_that_people_write_are_read():
    text = "[1:30, 0x1F, 1_000, 1.5e-3, -7, 017, .inf]"
    assert parse_yaml(text) == [90, 31, 1000, 0.0015, -7, 15, float("inf")]


@pytest.mark.parametrize("text", ["!!python/object/apply:os.getcwd []", "!!python/name:os.system"], ids=["call", "name"])
def test_no_tag_runs_code(text):
    with pytest.raises(yaml.YAMLError):
        parse_yaml(text)


@pytest.mark.parametrize("text", ["[" * 500_000, "{" * 500_000, "- " * 500_000, "? " * 500_000, "a: [" * 100_000])
def test_depth_is_bounded_whatever_python_allows(text):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        with pytest.raises(RecursionError):
            parse_yaml(text)
    finally:
        sys.setrecursionlimit(before)


def test_what_lies_as_deep_as_people_write_is_read():
    text = "[" * 49 + "1" + "]" * 49
    for _ in range(49):
        assert len(value := parse_yaml(text)) == 1
        text = text[1:-1]
    assert value == [1]
