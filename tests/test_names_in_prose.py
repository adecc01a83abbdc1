"""Every file, wing and module that documents, docstrings and comments name is there."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

ROOMS = "features|experiments|pipeline|jobs|commands"
FILE = re.compile(r"(?<![\w/.*<>-])(?:[\w.-]+/)*[\w-]+\.py\b")
WING = re.compile(rf"`((?:{ROOMS}|tests|tools|benchmarks|docs)/[\w/]*)`")
DOTTED = re.compile(rf"(?<![\w./-])(?!experiments\.db\b)(?:headstart\.|(?=(?:{ROOMS})\.[a-z_]+\.))((?:{ROOMS}|cli)(?:\.\w+)+)")
# In a workspace, not in the code.
OF_A_WORKSPACE = re.compile(
    r"features/(manifests|jobs_queue|encoder_|patches|plans|status_cache|byte_counts|fragile|fake|source)|experiments/(exp_|experiments)"
)
# CONTRIBUTING has its reader make the first two, docs/recipes.md the last ones; the others are files of other people.
ELSEWHERE = {
    "jobs/count_bytes.py",
    "experiments/recipes/wine.py",
    "tests/jobs/test_count_bytes.py",
    "sitecustomize.py",
    "setup.py",
    "mine.py",
    "./mine.py",
}


# Wings that are still to come: the contracts of imports name their floor in brackets.
CONFIG = (ROOT / "pyproject.toml").read_text()
PLANNED = {
    f"{room}/{wing}"
    for room, layers in re.findall(r'containers = \["headstart\.(\w+)"\]\nlayers = \[(.*?)\]\n', CONFIG, re.DOTALL)
    for wing in re.findall(r"\((\w+)\)", layers)
}


def tree() -> list[Path]:
    """All files of the checkout whose text is ours."""
    # CHANGELOG.md names what was.
    skipped = {"CHANGELOG.md", ".venv", "build", "dist", ".git", ".hypothesis"}
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.suffix in {".md", ".py"} and not skipped & set(path.relative_to(ROOT).parts)
    ]


FILES = {path.relative_to(ROOT).as_posix() for path in tree()}


def prose(path: Path) -> Iterator[str]:
    """A document's text; of code only docstrings and comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def absent_in(text: str, here: str = "") -> list[str]:
    """What `text`, found in the file `here`, names and nobody can open."""
    files = [name for name in FILE.findall(text) if name not in ELSEWHERE and not _is_file(name, here)]
    wings = [name for name in WING.findall(text) if not OF_A_WORKSPACE.match(name) and not _is_wing(name.rstrip("/"))]
    return [*files, *wings, *(name for name in DOTTED.findall(text) if not _is_module(name))]


def _is_file(name: str, here: str) -> bool:
    beside = (Path(here).parent / name).as_posix()
    return name in FILES or beside in FILES or ("/" not in name and any(file.endswith(f"/{name}") for file in FILES))


def _is_wing(name: str) -> bool:
    return f"{name}.py" in FILES or (ROOT / name).exists() or name in PLANNED


def _is_module(name: str) -> bool:
    """Whether a dotted name is a wing, a module, or something that a module defines."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        place, rest = "/".join(parts[:length]), parts[length:]
        if f"{place}.py" in FILES:
            return not rest or bool(
                re.search(rf"^(?:\s*(?:async )?def |class |)\b{rest[0]}\b", (ROOT / f"{place}.py").read_text(), re.MULTILINE)
            )
        if (ROOT / place).is_dir():
            return not rest or rest[0].startswith("__")
    return False


@pytest.mark.parametrize("path", tree(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_text_names_is_there(path):
    here = path.relative_to(ROOT).as_posix()
    absent = [name for text in prose(path) for name in absent_in(text, here)]
    assert not absent, f"{here} names what is not there: {', '.join(absent)}"


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        pytest.param("see jobs/extract.py", [], id="file"),
        pytest.param("see `jobs/extracted.py`", ["jobs/extracted.py"], id="no file"),
        pytest.param("extract.py has both", [], id="name"),
        pytest.param("extracted.py has both", ["extracted.py"], id="no name"),
        pytest.param("`features/manifest` and `pipeline/worker`", [], id="wings"),
        pytest.param("`experiments/recipes/` is still to come", [], id="planned"),
        pytest.param("`features/snapshot`", ["features/snapshot"], id="no wing"),
        pytest.param("`features/encoder_x/` lies in a workspace", [], id="workspace"),
        pytest.param("experiments.db.replaced lies in a workspace", [], id="database"),
        pytest.param("headstart.pipeline.worker.run_job, features.manifest.reading", [], id="dotted"),
        pytest.param("`headstart.pipeline.worker.walk_job`", ["pipeline.worker.walk_job"], id="no function"),
        pytest.param("of features.encoders.opening.Encoder", ["features.encoders.opening.Encoder"], id="no module"),
    ],
)
def test_a_name_of_nothing_is_seen(text, absent):
    assert absent_in(text) == absent
