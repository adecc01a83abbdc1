"""Graphs compiled by OpenVINO, kept in this user's cache folder: a worker that starts reads what the last one compiled."""

import contextlib
import hashlib
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headstart.pipeline.doors import reading
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.files import UNSYNCED

from . import user_cache

_MOST_BYTES = 256 * 10**6  # of a graph: of a larger one the copy takes memory that its images need
_NAME = "compiled.blob"
_TOOLS = "openvino.tools.ovc"
_importing = threading.Lock()


def compiled(graph: bytes, settings: Mapping[str, Any]) -> Any:
    """An `openvino.CompiledModel` for the CPU: the one that is kept of these bytes and settings, else a new one, which is kept.

    Raises: what OpenVINO raises.
    """
    openvino = _openvino()
    core = openvino.Core()
    kept = _place(openvino, graph, settings)
    blob = None if kept is None else _taken(kept)
    if blob is not None:
        with contextlib.suppress(RuntimeError):  # it is verified, but whether it may be used is for OpenVINO to say
            return core.import_model(blob, "CPU", dict(settings))
    made = core.compile_model(core.read_model(graph), "CPU", dict(settings))
    if kept is not None and len(graph) <= _MOST_BYTES:
        _keep(kept, made)
    return made


def _openvino() -> Any:
    """The package without its tools, which take half the time of its import, and bring what reports to its makers."""
    with _importing:
        is_whole = _TOOLS in sys.modules  # somebody else imported it
        if not is_whole:
            sys.modules[_TOOLS] = None  # type: ignore[assignment]  # Python's way to say that there is no such module
        try:
            import openvino
        finally:
            if not is_whole:
                del sys.modules[_TOOLS]
        # It looks NumPy up at its first array, in a way in which two threads that need it at once wait for each other forever.
        _ = openvino.Tensor(np.zeros(1, np.uint8)).data
        return openvino


def _place(openvino: Any, graph: bytes, settings: Mapping[str, Any]) -> Path | None:
    try:
        cache = user_cache.cache_folder()
    except RuntimeError:
        return None
    if cache is None:
        return None
    facts = {"graph": hashlib.sha256(graph).hexdigest(), "settings": dict(settings), "openvino": openvino.get_version()}
    return user_cache.kept_place(cache, "compiled", facts)


def _taken(kept: Path) -> bytes | None:
    """The bytes, if they are those that were kept."""
    try:
        expected = user_cache.read_kept(kept).text("sha256")
        data = reading.read(kept / _NAME, 2 * _MOST_BYTES)  # a little longer than the graph
    except (OSError, ExplainedError):
        return None
    return data if hashlib.sha256(data).hexdigest() == expected else None


def _keep(kept: Path, made: Any) -> None:
    with contextlib.suppress(OSError, ExplainedError, RuntimeError):
        data = made.export_model().getvalue()

        def write() -> Mapping[str, Any]:
            UNSYNCED.replace(kept / _NAME, data)
            return {"sha256": hashlib.sha256(data).hexdigest()}

        user_cache.keep(kept, len(data), write)
