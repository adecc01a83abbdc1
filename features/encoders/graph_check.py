"""What a graph file holds, seen before ONNX Runtime opens it: no other file, no loop, no operator that is not of ONNX itself.

The file is walked, not parsed: each field of a protobuf message says its number and length, so weights are stepped over. Parsing
it with onnx would cost the first image a tenth of a second. https://protobuf.dev/programming-guides/encoding, onnx/onnx.proto
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from headstart.pipeline.doors import reading

# Numbers of fields.
_GRAPH, _FUNCTIONS = 7, 25
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15
_ATTRIBUTE, _OP_TYPE, _DOMAIN = 5, 4, 7
_TENSOR_OF, _GRAPH_OF, _TENSORS_OF, _GRAPHS_OF = 5, 6, 10, 11
_EXTERNAL, _LOCATION = 13, 14

_OWN_DOMAINS = (b"", b"ai.onnx")
_ENDLESS = (b"Loop", b"Scan", b"SequenceMap")
_DEEPEST = 8
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


class _Other(Exception):
    """How the file differs from every graph that was exported here."""


def graph_flaw(path: Path) -> str:
    """One line on what the graph holds that an exported encoder never does; '' if it holds nothing of the kind.

    Raises: as `reading.opened`.
    """
    with reading.opened(path) as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped
            return "is no graph"
        return flaw_of(data)  # closed when nothing holds a part of it any more, which a traceback may


def flaw_of(data: bytes | mmap.mmap) -> str:
    """`graph_flaw` of the bytes of a graph."""
    try:
        _require_plain_model(memoryview(data))
    except _Other as other:
        return str(other)
    except (ValueError, IndexError):  # a length beyond the end
        return "is no graph"
    return ""


def _require_plain_model(data: memoryview) -> None:
    for number, value in _fields(data):
        if number == _FUNCTIONS:
            raise _Other("defines operators of its own")
        if number == _GRAPH:
            _require_plain_graph(value, 0)


def _require_plain_graph(data: memoryview, depth: int) -> None:
    if depth > _DEEPEST:
        raise _Other("is nested too deep")
    for number, value in _fields(data):
        if number == _NODE:
            _require_plain_node(value, depth)
        elif number == _INITIALIZER:
            _require_held(value)
        elif number == _SPARSE:
            raise _Other("has sparse weights")


def _require_plain_node(data: memoryview, depth: int) -> None:
    kind = b""
    for number, value in _fields(data):
        if number == _OP_TYPE:
            kind = bytes(value[:100])
        elif number == _DOMAIN and bytes(value[:100]) not in _OWN_DOMAINS:
            raise _Other(f"has an operator of {bytes(value[:40])!r}")
        elif number == _ATTRIBUTE:
            for attribute, inner in _fields(value):
                if attribute in (_GRAPH_OF, _GRAPHS_OF):
                    _require_plain_graph(inner, depth + 1)
                elif attribute in (_TENSOR_OF, _TENSORS_OF):
                    _require_held(inner)
    if kind in _ENDLESS:
        raise _Other(f"has a {kind.decode()}")


def _require_held(tensor: memoryview) -> None:
    """A tensor's numbers are in the file itself."""
    for number, value in _fields(tensor):
        if number == _EXTERNAL or (number == _LOCATION and bytes(value) != b"\0"):
            raise _Other("has weights in another file")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of each field of a message. Raises: ValueError or IndexError where the bytes are none."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            end = _varint(data, at)[1]
        elif kind == _BYTES:
            length, at = _varint(data, at)
            end = at + length
        else:
            end = at + {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind, len(data) + 1)
        if end > len(data):
            raise ValueError("a field ends beyond its message")
        yield key >> 3, data[at:end]
        at = end


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
