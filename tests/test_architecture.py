"""ARCHITECTURE.md's drawing is that of the imports as they are."""

import subprocess
import sys

import pytest

from tests.support import ROOT
from tools import draw_wings

DRAW = [sys.executable, "-m", "tools.draw_wings"]


def test_the_drawing_is_that_of_the_imports_as_they_are():
    done = subprocess.run([*DRAW, "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("  jobs_ --> experiments_tracking\n", "", id="an arrow less"),
        pytest.param("flowchart TD\n", "flowchart TD\n  pipeline_ --> jobs_\n", id="an arrow more"),
        pytest.param("| `features/store` |", "| `features/shop` |", id="another wing"),
        pytest.param("| `markers` |", "| `marks` |", id="another module"),
    ],
)
def test_a_stale_drawing_is_named_with_the_command_that_draws_it_again(tmp_path, before, after):
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert before in text
    (tmp_path / "stale.md").write_text(text.replace(before, after, 1))
    stale = str(tmp_path / "stale.md")
    code = f"import pathlib; from tools import draw_wings; draw_wings.DOCUMENT = pathlib.Path({stale!r}); draw_wings.main()"
    done = subprocess.run([sys.executable, "-c", code, "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "the drawing in stale.md is stale. Draw it again: python -m tools.draw_wings\n"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert (tmp_path / "stale.md").read_text() == text


def test_an_arrow_that_follows_from_others_is_left_out():
    arrows = {"cli": {"jobs", "store", "pipeline"}, "jobs": {"store", "pipeline"}, "store": {"pipeline"}}
    assert draw_wings.without_detours(arrows) == {"cli": {"jobs"}, "jobs": {"store"}, "store": {"pipeline"}}


@pytest.mark.parametrize(
    ("module", "wing"),
    [
        ("headstart", None),
        ("headstart.features", None),
        ("headstart.features.devices", "features.devices"),
        ("headstart.features.store.load", "features.store"),
        ("headstart.commands.running.work", "commands"),
        ("headstart.commands.output.run", "commands.output"),
        ("headstart.pipeline.job", "pipeline"),
    ],
)
def test_a_module_lies_in_its_wing(module, wing):
    assert draw_wings.wing_of(module) == wing
