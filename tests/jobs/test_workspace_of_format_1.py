"""A workspace that version 0.1.0 made before manifests had digests (commit 1ab5bdf), as it lies on somebody's disk.

`format_1_workspace.tar.gz`: 16 photos enqueued in jobs of four for the embedded encoder, three of four jobs done, one head
trained. What comes back by itself is left out: weights, the graph, locks.
"""

import json
import os
import random
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from headstart import list_data, load_features
from headstart.cli import group
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import read_encoder
from headstart.features.networks.weights import resolve_weights
from headstart.pipeline.workspace import Workspace, open_workspace

from .extraction import digests, encoder_of, work

MADE_BEFORE = Path(__file__).with_name("format_1_workspace.tar.gz")


def write_photos(folder: Path) -> None:
    """The bytes and times of the photos of that workspace."""
    chance = random.Random(15)
    for number in range(16):
        path = folder / "ab"[number % 2] / f"{number:02d}.ppm"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = bytes(min(255, chance.randrange(128) + 127 * (number % 2)) for _ in range(432))
        path.write_bytes(b"P6 12 12 255\n" + pixels)
        os.utime(path, ns=(1_600_000_000_123_456_789 + number,) * 2)


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def workspace(tmp_path, photos) -> Workspace:
    with tarfile.open(MADE_BEFORE) as archive:
        archive.extractall(tmp_path, filter="data")
    workspace = open_workspace(tmp_path / "workspace")
    [dataset] = workspace.manifests.glob("*/dataset.json")
    dataset.write_text(json.dumps({**json.loads(dataset.read_text()), "root": str(photos)}))
    spec = read_encoder(encoder_of(workspace))
    save_encoder(workspace, spec, resolve_weights(spec.model, spec.model_args, "embedded"))
    export_graph(encoder_of(workspace))
    return workspace


def said(workspace: Workspace, *words: object) -> str:
    done = CliRunner().invoke(group, [*map(str, words), "-w", str(workspace.root)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def kept(workspace: Workspace) -> dict[Path, bytes]:
    """Every file but the one that says where the data set lies, and what is derived or held by somebody."""
    files = (path for path in workspace.root.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.name != "dataset.json" and not path.name.endswith(".lock")}


def head_of(workspace: Workspace, experiment: str) -> dict[str, torch.Tensor]:
    saved = torch.load(workspace.experiments / experiment / "checkpoints/linear.pt", weights_only=True)
    return {name: value for name, value in saved.items() if name != "facts"}


def test_it_is_migrated_and_every_file_in_it_stays_as_it_is(workspace, photos):
    before = kept(workspace)
    answer = said(workspace, "enqueue", photos, "--job-size", "4")
    assert "0 new images, 16 known, 0 changed" in answer
    assert "0 jobs added" in answer
    after = kept(workspace)
    assert {path: after[path] for path in before} == before
    assert [path.name.split(".")[0] for path in after.keys() - before.keys()] == ["revision_0001"]
    assert [one.images for one in list_data(workspace)] == [16]
    assert "16 known" in said(workspace, "enqueue", photos)


@pytest.mark.parametrize("is_migrated_first", [True, False], ids=["migrated-then-moved", "moved-before"])
def test_its_data_may_move_and_nothing_is_computed_again(workspace, photos, tmp_path, is_migrated_first):
    if is_migrated_first:
        said(workspace, "enqueue", photos)
        for path in photos.rglob("*.ppm"):
            os.utime(path, (1, 1))
    done = digests(workspace)
    place = photos.rename(tmp_path / "elsewhere")
    shutil.move(place / "a", place / "first")
    assert "0 new images, 16 known" in said(workspace, "enqueue", place)
    assert work(workspace).items == 4
    assert done.items() <= digests(workspace).items()
    loaded = load_features(encoder_of(workspace))
    assert sorted(loaded.labels.tolist()) == ["b"] * 8 + ["first"] * 8


def test_the_rest_of_its_jobs_are_done_and_its_rows_are_trained_on(workspace, photos):
    trained = head_of(workspace, "exp_0001_before")
    said(workspace, "enqueue", photos)
    said(workspace, "train-head", "--epochs", "5", "--name", "again")  # on the rows that were there
    again = head_of(workspace, "exp_0002_again")
    # A linear head starts and learns otherwise than it did then (see the changelog), from the same rows.
    assert {name: value.shape for name, value in again.items()} == {name: value.shape for name, value in trained.items()}
    assert work(workspace).items == 4
    assert len(load_features(encoder_of(workspace)).paths) == 16
    assert "accuracy" in said(workspace, "evaluate", "1")
