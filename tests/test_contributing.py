"""CONTRIBUTING.md's example, pasted as it stands, passes `make check` and does every job."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import headstart.experiments.recipes
import headstart.jobs
from headstart.features.manifest.adding import add_images
from headstart.features.manifest.parts import list_parts
from headstart.features.sources.find import find_images
from headstart.features.sources.source import SourceOptions
from headstart.pipeline.kinds import Session, load_kind, missing_members
from headstart.pipeline.queue import HEADER
from headstart.pipeline.workspace import open_or_create_workspace
from tests.commands.calling import call
from tests.support import ROOT, run_python
from tools.stage import stage

KIND, QUEUEING, RECIPE = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
CONFIG = str(ROOT / "pyproject.toml")


@pytest.fixture
def pasted(tmp_path) -> Path:
    """The package with the example in its place, laid out as `make check` does; the checkout is left alone."""
    stage(tmp_path / "stage")
    package = tmp_path / "stage" / "headstart"
    (package / "jobs").unlink()
    (package / "jobs").mkdir()
    for path in (ROOT / "jobs").glob("*.py"):
        (package / "jobs" / path.name).symlink_to(path)
    (package / "jobs" / "count_bytes.py").write_text(KIND)
    _with_own_recipes(package / "experiments", ROOT / "experiments")
    (tmp_path / "stage" / "queue_bytes.py").write_text(QUEUEING)
    return tmp_path / "stage"


def _with_own_recipes(staged: Path, original: Path) -> None:
    staged.unlink()
    (staged / "recipes").mkdir(parents=True)
    for path in original.iterdir():
        if path.name != "recipes":
            (staged / path.name).symlink_to(path)
    for path in (original / "recipes").glob("*.py"):
        (staged / "recipes" / path.name).symlink_to(path)
    (staged / "recipes" / "wine.py").write_text(RECIPE)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ruff", "format", "--check", "--config", CONFIG], id="format"),
        pytest.param(["ruff", "check", "--no-cache", "--config", CONFIG], id="lint"),
        pytest.param(["mypy", "--cache-dir", "cache", "--config-file", CONFIG], id="types"),
    ],
)
def test_the_example_passes_as_it_stands(pasted, command):
    program = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    files = ["headstart/jobs/count_bytes.py", "queue_bytes.py", "headstart/experiments/recipes/wine.py"]
    environment = {**os.environ, "MYPYPATH": "."}
    done = subprocess.run([*program, *files], cwd=pasted, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_keeps_the_contracts_of_imports(pasted):
    program = str(Path(sys.executable).parent / "lint-imports")
    command = [program, "--no-cache", "--config", CONFIG]
    done = subprocess.run(command, cwd=pasted, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_recipe_that_imports_another_breaks_a_contract(pasted):
    path = pasted / "headstart" / "experiments" / "recipes" / "wine.py"
    path.write_text(RECIPE + "\n\nfrom headstart.experiments.recipes import tiny\n")
    program = str(Path(sys.executable).parent / "lint-imports")
    command = [program, "--no-cache", "--config", CONFIG, "--contract", "recipes-apart"]
    done = subprocess.run(command, cwd=pasted, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Recipes never import each other BROKEN" in done.stdout


def test_the_example_of_a_recipe_is_listed_and_trained_with_no_other_file(tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "wine.py").write_text(RECIPE)
    (folder / "tiny.py").write_bytes((ROOT / "experiments" / "recipes" / "tiny.py").read_bytes())
    monkeypatch.setattr(headstart.experiments.recipes, "__path__", [str(folder)])
    assert "wine    A small network on the wines" in call("train", "--list").output
    done = call("train", "wine", "-w", tmp_path / "workspace")
    monkeypatch.delitem(sys.modules, "headstart.experiments.recipes.wine")
    assert done.status == 0, done.errors
    metrics = json.loads((tmp_path / "workspace" / "experiments" / "exp_0001_wine" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.85
    assert "class_0" in metrics["test"]["per_class"]


def test_the_recipe_to_copy_has_forty_lines_or_little_more():
    assert len((ROOT / "experiments" / "recipes" / "tiny.py").read_text().splitlines()) <= 45


@pytest.fixture
def kind_folder(tmp_path) -> Path:
    folder = tmp_path / "kinds"
    folder.mkdir()
    (folder / "count_bytes.py").write_text(KIND)
    (folder / "queue_bytes.py").write_text(QUEUEING)
    return folder


def test_the_example_has_all_that_the_engine_asks_for(kind_folder, monkeypatch):
    monkeypatch.setattr(headstart.jobs, "__path__", [*headstart.jobs.__path__, str(kind_folder)])
    assert missing_members(Session, load_kind("count_bytes").CountBytesSession) == []


def test_the_example_does_every_job_of_a_data_set_with_two_parts(tmp_path, kind_folder):
    workspace = open_or_create_workspace(tmp_path / "workspace")
    photos = tmp_path / "photos"
    for label, first, last in (("cat", 0, 70), ("dog", 70, 75)):
        (photos / label).mkdir(parents=True, exist_ok=True)
        for size in range(first, last):
            (photos / label / f"{size}.jpg").write_bytes(b"x" * (size + 1))
        added = add_images(workspace, find_images(photos, SourceOptions()), seed=0)
    assert [part.rows for part in list_parts(added.manifest.folder)] == [70, 5]

    prelude = f"import os, runpy; os.chdir({str(tmp_path)!r}); headstart.jobs.__path__.append({str(kind_folder)!r})\n"
    queueing = prelude + f"runpy.run_path({str(kind_folder / 'queue_bytes.py')!r})"
    for _ in range(2):  # the second time adds nothing
        status, _, errors = run_python(queueing)
        assert status == 0, errors
        assert workspace.queue.read_text().splitlines()[0] == HEADER
        assert len(workspace.queue.read_text().splitlines()) == 1 + 3  # 64 and 6 rows of one part, 5 of the other

    for command in (["work"], ["verify", "--deep"], ["status", "--json", "--failed"]):
        status, output, errors = run_python(prelude + f"sys.argv[1:] = {command}\nfrom headstart.cli import main\nmain()")
        assert status == 0, errors
    state = json.loads(output)
    assert (state["remaining_jobs"], state["problems"], state["quarantined_jobs"]) == (0, [], [])
    results = sorted((workspace.features / "byte_counts" / "shards").rglob("*.json"))
    counts = [size for path in results for size in json.loads(path.read_text())]
    assert sorted(counts) == list(range(1, 76))
