"""Pickles of strokes, as the field passes them on (`.cpkl`, `.pkl`): numbers, text, lists and numpy arrays, nothing else.

A pickle is a program; this reader looks every name up in a table of harmless ones, so that it can build data and call nothing.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np


class RefusedPickle(ValueError):
    """It wants something that is no data; the text names it."""


def _reconstruct(kind: Any, shape: Any, dtype: Any) -> Any:
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: str = "C") -> Any:
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")


class _Dtype:
    """`numpy.dtype` with plain numbers alone."""

    def __new__(cls, name: Any, *_: Any) -> Any:
        text = name.decode("latin1") if isinstance(name, bytes) else str(name)
        dtype = np.dtype(text)
        if dtype.kind not in "biufSU" or dtype.fields is not None:
            raise RefusedPickle(f"arrays of {text[:40]!r}")
        return dtype


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "ascii", "utf-8"):
        raise RefusedPickle(f"the encoding {encoding[:40]!r}")
    return text.encode(encoding)


_HARMLESS: dict[tuple[str, str], Callable[..., Any]] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): lambda dtype, data: np.frombuffer(data, dtype)[0] for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encoded,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _HARMLESS[module, name]
        except KeyError:
            raise RefusedPickle(f"it asks for {module[:60]}.{name[:60]}, which is no data") from None

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedPickle("it refers to objects outside itself")


def unpickled(data: bytes) -> Any:
    """What a pickle of numbers, text, lists and arrays holds. Raises: RefusedPickle, whatever else it is or asks for."""
    try:
        return _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except RefusedPickle:
        raise
    except Exception as error:  # damaged ones end in errors of any kind
        reason = (str(error).splitlines() or [""])[0][:120]
        raise RefusedPickle(f"it does not unpack ({type(error).__name__}: {reason})") from None
