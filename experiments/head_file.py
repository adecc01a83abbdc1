"""Reads the tensors of a head's file without torch, whose import alone takes longer than a prediction.

A file of `torch.save` is a zip of raw tensors and a pickle that says how to put them together. The pickle is read as text here
and never run.
"""

import io
import math
import pickletools
import re
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HARMLESS = {"torch._utils _rebuild_tensor_v2", "torch FloatStorage", "collections OrderedDict"}
_TENSOR = re.compile(r"\d+\.(weight|bias)")


class UnknownLayout(Exception):
    """The file may be sound, but only torch can tell."""


def read_content(data: bytes) -> dict[str, Any]:
    """What `TrainedHead.encode` put into a file: 'facts', a text, and float32 arrays by name.

    Raises: UnknownLayout if torch wrote it in another way; zipfile.BadZipFile if the bytes are no such file or damaged.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = archive.namelist()[0].partition("/")[0] if archive.namelist() else ""
        try:
            if archive.read(f"{root}/byteorder") != b"little":
                raise UnknownLayout("other byte order")
            texts, shapes = _read_pickle(archive.read(f"{root}/data.pkl"))
            names = [text for text in texts if _TENSOR.fullmatch(text)]
            if len(names) != len(shapes) or "facts" not in texts[:-1]:
                raise UnknownLayout("other content")
            content: dict[str, Any] = {"facts": texts[texts.index("facts") + 1]}
            for number, (name, shape) in enumerate(zip(names, shapes, strict=True)):
                content[name] = _array(archive.read(f"{root}/data/{number}"), shape)
        except KeyError as error:  # no such member
            raise UnknownLayout(str(error)) from None
    return content


def _read_pickle(data: bytes) -> tuple[list[str], list[tuple[int, ...]]]:
    """All texts, and the shape of each tensor in the order of their storages."""
    texts: list[str] = []
    shapes: list[tuple[int, ...]] = []
    numbers: list[int] | None = None
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "BINPERSID":  # a storage; then follow offset, shape and strides of the tensor in it
                numbers = []
            elif numbers is not None and opcode.name.startswith("BININT"):
                assert isinstance(argument, int)
                numbers.append(argument)
            elif numbers is not None and opcode.name == "NEWFALSE":
                shapes.append(_shape(numbers))
                numbers = None
            elif opcode.name == "BINUNICODE":
                assert isinstance(argument, str)
                texts.append(argument)
            elif opcode.name in ("GLOBAL", "STACK_GLOBAL") and argument not in _HARMLESS:
                raise UnknownLayout(f"holds {argument}")
    except ValueError as error:  # what pickletools raises for what is no pickle
        raise UnknownLayout(str(error)) from None
    return texts, shapes


def _shape(numbers: list[int]) -> tuple[int, ...]:
    offset, *rest = numbers or [-1]
    shape, strides = tuple(rest[: len(rest) // 2]), rest[len(rest) // 2 :]
    if offset != 0 or strides != [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]:
        raise UnknownLayout("a tensor is not contiguous")
    return shape


def _array(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if len(data) != 4 * math.prod(shape):
        raise UnknownLayout(f"{len(data)} bytes for a tensor of shape {shape}")
    return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)  # a copy: torch complains of memory it must not write
