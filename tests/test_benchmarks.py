"""Benchmarks and tools, which no other test runs, import what is there, inside functions and in code as text, too."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

from tests.support import ROOT

FILES = sorted(path for room in ("benchmarks", "tools") for path in (ROOT / room).glob("*.py"))


def absent_imports(code: str) -> list[str]:
    """Names that `code` imports from Headstart and that Headstart does not have."""
    tree = ast.parse(code)
    absent = [name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in _absent_in(node)]
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [*absent, *(name for text in texts if "from headstart" in text for name in _of_text(text))]


def _of_text(text: str) -> list[str]:
    try:
        return absent_imports(text)
    except SyntaxError:  # prose
        return []


def _absent_in(node: ast.ImportFrom) -> list[str]:
    module = node.module or ""
    if node.level or module.split(".")[0] != "headstart":
        return []
    try:
        found = import_module(module)
    except ModuleNotFoundError:
        return [module]
    return [
        f"{module}.{alias.name}"
        for alias in node.names
        if not hasattr(found, alias.name) and not _is_module(f"{module}.{alias.name}")
    ]


def _is_module(name: str) -> bool:
    try:
        return bool(import_module(name))
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_it_imports_is_there(path: Path):
    assert absent_imports(path.read_text(encoding="utf-8")) == []


def test_what_is_not_there_is_named():
    code = "def run():\n    from headstart.pipeline.job import Job, Jobs\nCODE = '''\nfrom headstart.cache import read\n'''\n"
    assert absent_imports(code) == ["headstart.pipeline.job.Jobs", "headstart.cache"]
