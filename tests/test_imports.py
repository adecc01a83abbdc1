"""Tests of who imports whom: whatever a module imports, now or later, never leads back to it."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support import ROOT

ROOMS = ("pipeline", "features", "experiments", "jobs", "commands")


def imports(root: Path) -> dict[str, set[str]]:
    """Modules of the project by dotted name, with those that each imports anywhere but for a type checker."""
    paths = [path for room in ROOMS for path in (root / room).rglob("*.py")] + [root / "cli.py"]
    names = {_name(path, root): path for path in paths if path.is_file()}
    return {name: _imported(path, name, set(names)) for name, path in names.items()}


def _name(path: Path, root: Path) -> str:
    return ".".join(("headstart", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")


def _imported(path: Path, name: str, known: set[str]) -> set[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    targets = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            targets |= {f"{source}.{alias.name}" if f"{source}.{alias.name}" in known else source for alias in node.names}
        pending += ast.iter_child_nodes(node)
    return (targets & known) - {name}


def test_no_import_leads_back_to_where_it_began():
    graph = imports(ROOT)
    assert len(graph) > 100
    TopologicalSorter(graph).prepare()


def test_a_circle_would_be_seen(tmp_path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "a.py").write_text("from .b import x\n")
    (tmp_path / "pipeline" / "b.py").write_text("def f():\n    from headstart.pipeline import a\n")
    with pytest.raises(CycleError):
        TopologicalSorter(imports(tmp_path)).prepare()
