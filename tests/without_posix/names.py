"""What modules of the standard library have on Linux and not on Windows, by the types that mypy brings."""

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

REDUCED = ("os", "signal", "time", "mmap", "select", "sys")


def missing_names():
    """Names that this Python has and Python on Windows lacks, by module."""
    import mypy

    stubs = Path(mypy.__file__).parent / "typeshed" / "stdlib"
    return {name: sorted(_missing(name, stubs)) for name in REDUCED}


def _missing(module, stubs):
    place = stubs / module
    body = ast.parse((place / "__init__.pyi" if place.is_dir() else place.with_suffix(".pyi")).read_text()).body
    here = import_module(module)
    return {name for name in {*_names(body, "linux")} - {*_names(body, "win32")} if hasattr(here, name)}


def _names(body, platform):
    for statement in body:
        if isinstance(statement, ast.If):
            yield from _names(statement.body if _holds(statement.test, platform) else statement.orelse, platform)
        elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.AnnAssign):
            yield statement.target.id
        elif isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets)
        elif isinstance(statement, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in statement.names)


def _holds(test, platform):
    return eval(ast.unparse(test), {"sys": SimpleNamespace(platform=platform, version_info=sys.version_info)})
