"""A user's own recipe, in a file outside the project, from training to export."""

import json
import os
import subprocess
import sys

import pytest

from headstart.experiments.training.recipe import named_recipe
from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call
from tests.jobs.killed_model import outcome_of
from tests.support import ROOT

from .test_classify import photos

OWN = ROOT / "tests" / "experiments" / "recipes" / "own" / "photos.py"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A copy of it that this user allowed, in a folder of its own."""
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))
    (tmp_path / "code").mkdir()
    path = tmp_path / "code" / "mine.py"
    path.write_bytes(OWN.read_bytes())
    named_recipe(str(path))
    return path


def test_it_needs_no_more_than_sixty_lines():
    assert len(OWN.read_text().splitlines()) <= 60


def test_a_recipe_of_ones_own_is_trained_killed_resumed_judged_predicts_and_is_exported(own, tmp_path, monkeypatch):
    data = photos(tmp_path / "photos", count=30, size=16)
    whole = tmp_path / "whole"
    done = call("train", own, data, "--name", "killed", "--save-every", 1, "-w", whole)
    assert done.status == 0, done.errors

    moments = ("check:4", "link:6", "replace:9", "check:2")
    command = [sys.executable, "-m", "tests.jobs.killed_model", str(tmp_path / "workspace"), str(own), *moments]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "KILLED_OPTIONS": json.dumps({"data": str(data), "epochs": 3})}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    deaths, _, outcome, violations = json.loads(ran.stdout)
    assert (deaths, violations) == (len(moments), [])
    assert outcome == outcome_of(open_workspace(whole))

    monkeypatch.chdir(tmp_path)
    workspace = ("-w", tmp_path / "workspace")
    noted = json.loads((tmp_path / "workspace" / "experiments" / "exp_0001_killed" / "metrics.json").read_text())["test"]
    judged = call("evaluate", 1, "--json", *workspace)
    assert {name: value for name, value in judged.json.items() if name not in ("experiment", "split")} == noted
    assert noted["accuracy"] >= 0.9
    said = call("predict", data / "light" / "000.png", "--run", 1, "--json", *workspace)
    assert said.json["predictions"][0]["probabilities"]["light"] > 0.5
    exported = call("export", "--run", 1, "--json", *workspace)
    assert exported.status == 0, exported.errors
    assert exported.json["largest_difference"] < 1e-4
