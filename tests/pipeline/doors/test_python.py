"""No process that this project starts imports from the folder its user stands in."""

import os
import sys
from pathlib import Path

import pytest

from headstart.pipeline.doors import python

NAMES = ("numpy", "click", "json", "PIL", "subprocess", "torch")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'w')\nraise ImportError\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = {
    "a module": lambda: python.module_command("headstart.cli", "--version"),
    "code": lambda: python.code_command("import json, numpy, click, subprocess"),
    "code that starts code": lambda: python.code_command(
        "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'import json, numpy, click']))"
    ),
}


@pytest.mark.parametrize(
    "given", ["", ".", ":", "relative", "/nowhere:"], ids=["none", "dot", "empty entries", "relative", "a colon behind"]
)
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_the_current_folder_is_on_no_path(photos, monkeypatch, command, given):
    monkeypatch.setenv("PYTHONPATH", given)
    done = python.run(command(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (photos / "RAN").exists()


def test_started_processes_are_the_same_that_run_is(photos):
    assert python.start(python.code_command("import json, click")).wait() == 0
    assert not (photos / "RAN").exists()


def test_a_folder_that_was_named_stays_on_the_path(photos, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(photos)]))
    assert str(photos) in python.environment()["PYTHONPATH"].split(os.pathsep)


def test_the_command_line_takes_the_current_folder_off_its_own_path(photos, monkeypatch):
    # A shell whose PYTHONPATH ends with a colon, or `python -m`, has put it there.
    monkeypatch.setattr(sys, "path", [*sys.path, "", ".", str(photos)])
    python.forget_current_folder()
    assert not {"", ".", str(photos)} & set(sys.path)
    assert str(Path(python.__file__).resolve().parents[2]) in sys.path


def test_the_command_line_keeps_a_folder_that_its_user_named(photos, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(photos), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(photos))
    python.forget_current_folder()
    assert str(photos) in sys.path
