"""A public name at the top of a module means one thing in the whole tree."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

ROOMS = ("pipeline", "features", "experiments", "jobs", "commands")
# Names that a rule gives to every module of a sort, and why.
BY_RULE = {
    **dict.fromkeys(("IS_FOLDER", "NEEDS", "SUFFIX", "files"), "what `export-features` asks of each format"),
    **dict.fromkeys(
        ("PLACE", "SIMPLICITY", "TITLE", "fit"), "what each method of a baseline has, see `experiments/linear/method.py`"
    ),
    "FORMAT": "the version of the one format that the module writes",
    "HEADER": "the first line of the one CSV that the module writes",
    "PAYLOADS_IN_OBJECTS": "what a kind says whose payloads may lie in an object store, see `pipeline/kinds.py`",
    "command": "what `cli.py` takes from each module of `commands/`",
    "main": "where a child process, or the command line, begins",
    "count_items": "what the engine asks of kinds of job that know, see `pipeline/kinds.py`",
    "fingerprint": "what the engine asks of each kind of job, see `pipeline/kinds.py`",
    "open_executor": "what `headstart launch` asks of each executor, see `pipeline/executor.py`",
    "open_session": "what the engine asks of each kind of job, see `pipeline/kinds.py`",
}
# What each recipe has, as `experiments/training/recipe.py` says. Whatever else two recipes have is no second meaning either:
# none imports another.
RECIPES = "experiments/recipes/"
OF_A_RECIPE = {
    each.target.id if isinstance(each, ast.AnnAssign) else each.name
    for node in ast.parse((ROOT / "experiments" / "training" / "recipe.py").read_text()).body
    if isinstance(node, ast.ClassDef) and any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
    for each in node.body
    if isinstance(each, ast.FunctionDef) or (isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name))
}


def names_in(text: str) -> Iterator[str]:
    """Public classes, functions and constants that a module defines at its top."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


def owners(root: Path) -> dict[str, set[str]]:
    """The modules that define each name."""
    result: dict[str, set[str]] = defaultdict(set)
    for path in [*sorted(path for room in ROOMS for path in (root / room).rglob("*.py")), root / "cli.py"]:
        module = path.relative_to(root).as_posix()
        for name in names_in(path.read_text(encoding="utf-8")):
            if not module.startswith(RECIPES):
                result[name].add(module)
            elif name not in OF_A_RECIPE:
                result[name].add(RECIPES)
    return result


def test_no_public_name_has_two_meanings():
    twice = {name: sorted(modules) for name, modules in owners(ROOT).items() if len(modules) > 1 and name not in BY_RULE}
    assert not twice, "give each its own name, or import the one from the other"


def test_every_exception_from_the_rule_is_still_needed():
    where = owners(ROOT)
    assert [name for name in BY_RULE if len(where[name]) < 2] == []


@pytest.mark.parametrize(
    "text",
    ["class Twin: pass", "def Twin(): pass", "async def Twin(): pass", "Twin = 1", "Twin: int = 1"],
    ids=["class", "function", "coroutine", "constant", "typed constant"],
)
def test_whatever_defines_a_name_is_seen(tmp_path, text):
    for name in ("pipeline", "jobs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "module.py").write_text(f"{text}\n_Twin = 2\n")
    (tmp_path / "cli.py").write_text("Other = 1\n")
    twice = {name for name, modules in owners(tmp_path).items() if len(modules) > 1}
    assert twice == {"Twin"}
