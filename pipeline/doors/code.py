"""The door for files of users that are code: a recipe or a kind of job is digested with its neighbours, allowed, then run."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import ModuleType

from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError

from . import reading
from .consent import allow, require_allowed

_LOADED = "headstart_file_"  # what modules that were loaded here are called, so that errors can name their lines


def allow_named(name: str | Path) -> Path:
    """A file that its user has just named, which allows it to run; its path is absolute.

    Raises: HeadstartError if there is no such file.
    """
    file = Path(name).absolute()
    if not file.is_file():
        raise HeadstartError(f"{name}: there is no such file")
    allow(digest_of_source(file, with_neighbours=True), file)
    return file


def load_kept(path: Path, digest: str, again: str) -> ModuleType:
    """Runs a file that a workspace keeps, if it is the one that was kept and this user allowed it here.

    Args:
        digest: `digest_of_source` of it when it was kept.
        again: the command that makes anew what the file is for.

    Raises: HeadstartError in one line otherwise, or if it raises.
    """
    if not paths.is_file(path) or digest_of_source(path, with_neighbours=True) != digest:
        raise HeadstartError(f"{path} is missing or was changed. Restore it from a copy, or begin anew: {again}")
    require_allowed(digest, path)
    return load_file(path)


def load_file(path: Path) -> ModuleType:
    """Runs a user's file, so whoever calls this has asked whether it may run. It may import its neighbours by their names.

    Raises: HeadstartError in one line if it raises.
    """
    name = f"{_LOADED}{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise HeadstartError(f"{path} is no Python file. Name one: ./mine.py")
    module = util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise HeadstartError(f"{path} cannot be loaded: {said_by(error)}") from error
    finally:
        sys.path.remove(folder)
    return module


def neighbours(path: Path) -> list[Path]:
    """A user's file and the modules beside it that it imports, or that these import: what is kept of it."""
    files, todo = [path], [path]
    while todo:
        for name in _imported(todo.pop()):
            other = path.parent / f"{name}.py"
            if other not in files and _is_source(other):
                files.append(other)
                todo.append(other)
    return [path, *sorted(files[1:])]


def _imported(path: Path) -> Iterator[str]:
    try:
        parsed = ast.parse(read_source(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # loading it says what is wrong
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def digest_of_source(path: Path, with_neighbours: bool) -> str:
    """sha256 (hex) of the file, and of those beside it if it may import them."""
    sha256 = hashlib.sha256()
    for one in neighbours(path) if with_neighbours else [path]:
        data = read_source(one)
        sha256.update(f"{one.name}\0{len(data)}\0".encode() + data)
    return sha256.hexdigest()


def read_source(path: Path) -> bytes:
    """A file of Python; what was kept of one in a workspace is no link.

    Raises: HeadstartError if it is none, or larger than anything that people write.
    """
    read = reading.read if paths.is_guarded(path) else reading.read_given
    try:
        return read(path, reading.GRID_BYTES)
    except OSError as error:
        raise HeadstartError(f"{path} cannot be read: {error.strerror}. Restore it from a copy") from None


def _is_source(path: Path) -> bool:
    return paths.is_file(path) if paths.is_guarded(path) else path.is_file()


def said_by(error: BaseException, also: str = _LOADED) -> str:
    """An error of such a file on one line: what, and in which line of it. Args: also: other modules by how their names begin."""
    where = ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith((_LOADED, also)):
            where = f" (line {trace.tb_lineno} of {Path(trace.tb_frame.f_code.co_filename).name})"
        trace = trace.tb_next
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}{where}"
