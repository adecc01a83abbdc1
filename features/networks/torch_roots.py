"""Square roots as torch computes them on this processor, without importing torch, which takes seconds.

torch leaves them to MKL, whose vector functions round otherwise than IEEE's square root for one number in ten, and not alike on
all processors. The function is in torch's library for the CPU and is called there, as ATen's `vml.h` calls it.
"""

import ctypes
import functools
import importlib.util
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HIGH_ACCURACY, _KEEP_DENORMALS, _IGNORE_ERRORS = 0x2, 0x140000, 0x100


def _library() -> Path | None:
    found = importlib.util.find_spec("torch")
    path = None if found is None or found.origin is None else Path(found.origin).parent / "lib" / "libtorch_cpu.so"
    return path if path is not None and path.is_file() else None


def has_torch_roots() -> bool:
    """Whether `torch_roots` gives some, as far as can be said at once: elsewhere than on Linux and x86-64 there is no MKL."""
    return platform.machine() == "x86_64" and _library() is not None


@functools.cache
def _function() -> Callable[..., None] | None:
    path = _library()
    try:
        function: Any = None if path is None else ctypes.CDLL(str(path)).vmsSqrt
    except (OSError, AttributeError):
        return None
    if function is None:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    function.restype = None
    roots: Callable[..., None] = function
    return roots


def torch_roots(values: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """float32, of the same shape; None where they cannot be had like this."""
    function = _function()
    if function is None:
        return None
    given = np.ascontiguousarray(values, np.float32)
    roots = np.empty_like(given)
    function(given.size, given.ctypes.data, roots.ctypes.data, _HIGH_ACCURACY | _KEEP_DENORMALS | _IGNORE_ERRORS)
    return roots
