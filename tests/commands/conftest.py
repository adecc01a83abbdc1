"""Workspaces in which heads are trained: made once, changed by no test that does not copy them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.pipeline.workspace import Workspace, open_or_create_workspace, open_workspace
from tests.experiments.samples import clouds
from tests.features.packed import Extracted
from tests.jobs.extraction import enqueue, work

from .calling import call


def draw(path: Path, number: int, brightness: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 120, (20, 24, 3))
    Image.fromarray((noise * brightness + 40 * brightness).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """90 pictures of three classes that differ in brightness, and not so much that nobody errs."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(90):
        random = np.random.default_rng(number + 1000)
        draw(folder / "abc"[number % 3] / f"{number:03d}.png", number, 0.6 + 0.3 * (number % 3) + 0.2 * random.standard_normal())
    return folder


@pytest.fixture(scope="session")
def trained(pictures, tmp_path_factory) -> Workspace:
    """A workspace with the three heads of the default ablation: runs 1 to 3."""
    workspace = enqueue(pictures, tmp_path_factory.mktemp("trained") / "w")
    work(workspace)
    assert call("train-head", "--ablation", "--epochs", "3", "-w", workspace.root).status == 0
    return workspace


@pytest.fixture
def own(trained, tmp_path) -> Workspace:
    """A copy of `trained` that a test may harm."""
    shutil.copytree(trained.root, tmp_path / "own")
    return open_workspace(tmp_path / "own")


@pytest.fixture(scope="session")
def measured(tmp_path_factory) -> Workspace:
    """A workspace with a head that predicts two numbers from a picture and two columns beside it: run 1."""
    folder = tmp_path_factory.mktemp("measured")
    lines = ["path,light,dark,=size,age,scene"]
    for number in range(60):
        brightness = 0.4 + 1.4 * np.random.default_rng(number).random()
        draw(folder / "data" / f"{number:03d}.png", number, brightness)
        lines.append(f"{number:03d}.png,{brightness:.3f},{-100 * brightness:.1f},{number % 7},{number % 5 / 10},s{number // 6}")
    (folder / "data" / "table.csv").write_text("\n".join(lines) + "\n")
    workspace = enqueue(folder / "data" / "table.csv", folder / "w", "--group-col", "scene")
    work(workspace)
    columns = ["--target", "light", "--target", "dark", "--aux", "=size", "--aux", "age"]
    done = call("train-head", "--task", "regression", *columns, "--epochs", "3", "-w", workspace.root)
    assert done.status == 0, done.errors
    return workspace


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A workspace without images and without heads: 600 rows of features, of three classes and with two columns."""
    count = 600
    made = clouds(count)
    result = Extracted(open_or_create_workspace(tmp_path_factory.mktemp("prepared") / "workspace"), embed_dim=12, job_size=100)
    columns = {"score": [f"{i / count}" for i in range(count)], "size": [f"{i % 7}" for i in range(count)]}
    splits = ["train"] * 360 + ["val"] * 120 + ["test"] * 120
    result.add(made.source.features, [made.targets.names[code] for code in made.targets.codes], splits, extra=columns)
    return result.workspace.root


@pytest.fixture
def root(prepared, tmp_path) -> Path:
    """A copy of `prepared` that a test may train in."""
    shutil.copytree(prepared, tmp_path / "workspace")
    return tmp_path / "workspace"
