"""Which calls go through which doors: the calls of a source file by their full names, and what each kind may be made by.

A door is the one module, or the few, in which calls of a kind stand; everybody else calls the door. What stands elsewhere is an
exception, with the reason why nothing of a stranger comes that way.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOMS = ("cli.py", "commands", "jobs", "experiments", "features", "pipeline", "headstart")


@dataclass(frozen=True)
class Door:
    """Attributes:
    calls: full names, such as os.remove; .name is a method of whatever object.
    modules: where they may stand, as patterns of paths.
    exceptions: other paths, each with its reason.
    """

    calls: frozenset[str]
    modules: tuple[str, ...]
    exceptions: dict[str, str]

    def lets(self, path: str) -> bool:
        return any(fnmatch(path, pattern) for pattern in (*self.modules, *self.exceptions))


def calls_of(source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that is called or handed on: `from os import remove as r; r(p)` is os.remove.

    A method of an object is `.name`; Path.replace and Path.rename are told from those of texts by their one argument.
    """
    tree = ast.parse(source)
    names = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            dotted = _dotted(node)
            if dotted is None:
                continue
            first, dot, rest = dotted.partition(".")
            if first in names:
                yield node.lineno, f"{names[first]}{dot}{rest}".replace("pathlib.Path", "")
            elif not dot:
                yield node.lineno, first
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            dotted = _dotted(node.func)
            if dotted is not None and dotted.partition(".")[0] in names:
                continue  # a function of a module, and told by its full name
            if node.func.attr in ("replace", "rename") and (len(node.args) != 1 or node.keywords):
                continue
            yield node.lineno, f".{node.func.attr}"


def _imported(tree: ast.AST) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = alias.name if alias.asname else alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{'.' * node.level}{node.module or ''}.{alias.name}"
    return names


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return None if inner is None else f"{inner}.{node.attr}"
    return None


def passed_by(source: str, path: str, doors: dict[str, Door]) -> list[str]:
    """One line for each call in `source`, which lies at `path`, that passes by its door."""
    return sorted(
        {
            f"{path}:{line}: {name} passes by the door of {kind}"
            for line, name in calls_of(source)
            for kind, door in doors.items()
            if name in door.calls and not door.lets(path)
        }
    )


def sources(root: Path) -> Iterator[tuple[str, str]]:
    """Path and text of every module that is installed."""
    for room in ROOMS:
        place = root / room
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
