"""Heads and grid files of a stranger: one line, and no more memory than the file has bytes."""

import io
import os
import time
import tracemalloc
import zipfile

import pytest
import torch

from headstart.experiments.heads.grid import read_grid
from headstart.experiments.heads.trained_head import read_head
from headstart.pipeline.errors import HeadstartError
from tests.experiments.made_heads import made_head


def repacked(change, method=zipfile.ZIP_STORED):
    before, after = io.BytesIO(made_head("linear softmax").encode()), io.BytesIO()
    with zipfile.ZipFile(before) as old, zipfile.ZipFile(after, "w", method) as new:
        for info in old.infolist():
            name, data = change(info.filename, old.read(info))
            if name:
                new.writestr(name, data)
    return after.getvalue()


def huge(name, data):
    return name, bytes(1 << 28) if name.endswith("data/0") else data


def swapped(part, data):
    return lambda name, old: (name, data if name.endswith(part) else old)


def saved(**content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


FACTS = '{"format": 1, "config": {"hidden": []}, "task": "classification", "names": ["a", "b"]}'

ODD = {
    "nothing": b"",
    "half": made_head("linear softmax").encode()[:300],
    "a tensor of 256 MiB in 260 kB": repacked(huge, zipfile.ZIP_DEFLATED),
    "compressed": repacked(lambda name, data: (name, data), zipfile.ZIP_DEFLATED),
    "a tensor too long": repacked(swapped("data/0", bytes(4000))),
    "a tensor missing": repacked(lambda name, data: ("" if name.endswith("data/0") else name, data)),
    "no pickle": repacked(swapped("data.pkl", b"hello")),
    "a pickle that calls": repacked(swapped("data.pkl", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")),
    "a pickle without end": repacked(swapped("data.pkl", b"\x80\x02" + b"(" * 100_000)),
    "facts that are none": saved(facts="[" * 100_000),
    "facts of a later version": saved(facts='{"format": 99}'),
    "facts without format": saved(facts="{}"),
    "facts of another type": saved(facts=5),
    "no facts": saved(x=1),
    "one number a billion times": saved(
        **{"facts": FACTS, "0.weight": torch.zeros(1, 1).expand(2, 10**9), "0.bias": torch.zeros(2)}
    ),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_a_head_of_a_stranger_is_one_line(tmp_path, data):
    path = tmp_path / "head.pt"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(HeadstartError, match=r"head\.pt") as caught:
            read_head(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "folder", "device"]
)
def test_what_is_no_file_is_no_head(tmp_path, make):
    make(tmp_path / "head.pt")
    with pytest.raises(HeadstartError, match=r"head\.pt"):
        read_head(tmp_path / "head.pt")


def test_a_flip_of_any_byte_is_noticed_or_changes_no_number(tmp_path):
    head = made_head("linear softmax", inputs=2, names=("a", "b"))
    data, path = head.encode(), tmp_path / "head.pt"
    for at in range(0, len(data), 3):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        try:
            read = read_head(path)
        except HeadstartError:
            continue
        assert (read.digest, read.names, read.config, read.task) == (head.digest, head.names, head.config, head.task)


GRIDS = {
    "brackets.yaml": "hidden: " + "[" * 100_000,
    "braces.yaml": "{" * 100_000,
    "deep.json": "[" * 300_000,
    "infinite.json": '{"dropout": 1e999}',
    "laughs.yaml": "a: &a [1,1,1,1,1,1,1,1]\n"
    + "".join(f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "calls.yaml": "!!python/object/apply:os.system ['true']",
    "a date.yaml": "hidden: 2020-99-99",
    "long.yaml": "#" * (2 << 20),
    "binary.yaml": "\x00",
}


@pytest.mark.parametrize(("name", "text"), GRIDS.items(), ids=GRIDS.keys())
def test_a_grid_file_of_a_stranger_is_one_line(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    begun = time.monotonic()
    with pytest.raises(HeadstartError) as caught:
        read_grid(tmp_path / name)
    assert time.monotonic() - begun < 10
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000
