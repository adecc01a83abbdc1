"""The door for files of users that are code: a recipe or a kind of job is digested with its neighbours, allowed, then run."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError

from . import reading
from .consent import allow, require_allowed

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:
    Loader = MetaPathFinder = object  # importing their module loads shutil and tempfile, which `runs` does without

_LOADED = "headstart_file_"  # what modules that were loaded here are called, so that errors can name their lines


@dataclass(frozen=True)
class Code:
    """A user's file and the modules beside it that it imports, read once: what is digested is what is kept, and what runs.

    Attributes:
        path: of the file.
        files: name and bytes, the file itself first.
    """

    path: Path
    files: tuple[tuple[str, bytes], ...]

    @property
    def digest(self) -> str:
        """sha256 (hex) of names, lengths and bytes."""
        sha256 = hashlib.sha256()
        for name, data in self.files:
            sha256.update(f"{name}\0{len(data)}\0".encode() + data)
        return sha256.hexdigest()


def allow_named(name: str | Path) -> Code:
    """A file that its user has just named, which allows it to run; its path is absolute.

    Raises: HeadstartError if there is no such file.
    """
    file = Path(name).absolute()
    if not file.is_file():
        raise HeadstartError(f"{name}: there is no such file")
    code = read_code(file)
    allow(code.digest, file)
    return code


def load_kept(path: Path, digest: str, again: str) -> ModuleType:
    """Runs a file that a workspace keeps, if it is the one that was kept and this user allowed it here.

    Args:
        digest: of the code when it was kept.
        again: the command that makes anew what the file is for.

    Raises: HeadstartError in one line otherwise, or if it raises.
    """
    code = read_code(path) if paths.is_file(path) else None
    if code is None or code.digest != digest:
        raise HeadstartError(f"{path} is missing or was changed. Restore it from a copy, or begin anew: {again}")
    require_allowed(digest, path)
    return run_code(code)


def run_code(code: Code) -> ModuleType:
    """Runs a user's file, so whoever calls this has asked whether it may. It may import what was read with it.

    Not by its path: the file may be another one by now, and nobody was asked about a compiled one or a package beside it.

    Raises: HeadstartError in one line if it raises.
    """
    name = f"{_LOADED}{code.path.stem}_{hashlib.sha256(str(code.path.resolve()).encode()).hexdigest()[:8]}"
    beside = _Beside(code)
    module = util.module_from_spec(beside.spec(name, *code.files[0]))
    for stem in beside.sources:
        # Of the same name, but of another file, or as it was before.
        if isinstance(getattr(sys.modules.get(stem), "__loader__", None), _Bytes):
            del sys.modules[stem]
    sys.modules[name] = module  # dataclasses look their module up
    sys.meta_path.insert(0, beside)
    try:
        _Bytes(code.path, code.files[0][1]).exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise HeadstartError(f"{code.path} cannot be loaded: {said_by(error)}") from error
    finally:
        sys.meta_path.remove(beside)
    return module


class _Bytes(Loader):
    """Runs what was read, whatever the file says by now."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path, self._data = path, data

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None  # Python's usual way

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._data, str(self._path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - what it is for


class _Beside(MetaPathFinder):
    """Finds the modules beside a file that were read with it, and no others."""

    def __init__(self, code: Code) -> None:
        self._folder = code.path.parent
        self.sources = {name.removesuffix(".py"): (name, data) for name, data in code.files[1:]}

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return self.spec(fullname, *self.sources[fullname]) if fullname in self.sources else None

    def spec(self, module: str, name: str, data: bytes) -> ModuleSpec:
        path = self._folder / name
        spec = util.spec_from_file_location(module, path, loader=_Bytes(path, data))
        assert spec is not None
        return spec


def read_code(path: Path) -> Code:
    """A user's file and the modules beside it that it imports, or that these import. Raises: HeadstartError as `read_source`."""
    files, todo = {path: read_source(path)}, [path]
    while todo:
        for name in _imported(files[todo.pop()]):
            other = path.parent / f"{name}.py"
            if other not in files and _is_source(other):
                files[other] = read_source(other)
                todo.append(other)
    return Code(path, tuple((one.name, files[one]) for one in [path, *sorted(files.keys() - {path})]))


def _imported(source: bytes) -> Iterator[str]:
    try:
        parsed = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # loading it says what is wrong
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def digest_alone(path: Path) -> str:
    """As `Code.digest`, of a file without its neighbours."""
    return Code(path, ((path.name, read_source(path)),)).digest


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
