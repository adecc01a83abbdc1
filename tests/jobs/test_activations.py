"""What jobs of kind `activations` promise: the same bytes again, and a broken image costs its own row."""

import json
import shutil

import pytest

from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call
from tests.experiments.recipes.test_classify import photos

ENCODER = ("--encoder", "test_resnet", "--weights", "random:0", "--image-size", 32)
FINETUNE = ("train", "finetune", "--epochs", 1, "--batch-size", 16, "--threads", 1, "--device", "cpu")


@pytest.fixture(scope="module")
def headed(tmp_path_factory):
    """A folder with photos and a workspace in which a head is trained on them."""
    root = tmp_path_factory.mktemp("activations")
    data = photos(root / "photos", count=30)
    for command in (("enqueue", data, *ENCODER), ("work", "--device", "cpu"), ("train-head", "--epochs", 2)):
        done = call(*command, "-w", root / "workspace")
        assert done.status == 0, done.errors
    return root


@pytest.fixture
def own(headed, tmp_path):
    """A workspace of one's own over the same photos."""
    shutil.copytree(headed / "workspace", tmp_path / "workspace")
    return open_workspace(tmp_path / "workspace")


def payloads(workspace):
    return {path.name: path.read_bytes() for path in workspace.features.glob("activations_*/shards/*/*")}


def test_a_job_that_is_lost_is_done_again_in_the_same_bytes(own):
    assert call(*FINETUNE, "-w", own.root).status == 0
    before = payloads(own)
    assert before
    [folder] = own.features.glob("activations_*")
    for name in ("shards", "done"):
        shutil.rmtree(folder / name)
    assert call("work", "--device", "cpu", "-w", own.root).status == 0
    assert payloads(own) == before


def test_a_flipped_bit_of_activations_stops_the_training_with_one_line(own):
    assert call(*FINETUNE, "-w", own.root).status == 0
    payload = max(own.features.glob("activations_*/shards/*/*"), key=lambda path: path.stat().st_size)
    data = bytearray(payload.read_bytes())
    data[len(data) // 2] ^= 1
    payload.write_bytes(data)
    done = call(*FINETUNE, "--name", "other", "-w", own.root)
    assert done.status == 1
    assert payload.name in done.errors
    assert "Traceback" not in done.errors


def test_an_image_that_broke_meanwhile_costs_its_own_row(headed, own):
    victim = sorted((headed / "photos").rglob("*.*"))[0]
    sound = victim.read_bytes()
    victim.write_bytes(b"no image")
    try:
        done = call(*FINETUNE, "-w", own.root)
    finally:
        victim.write_bytes(sound)
    assert done.status == 0, done.errors
    markers = [json.loads(path.read_bytes()) for path in own.features.glob("activations_*/done/*/*")]
    assert sum(len(marker["failed"]) for marker in markers) == 1
    assert sum(marker["items"] for marker in markers) == sum(marker["ok"] for marker in markers) + 1
