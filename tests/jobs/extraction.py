"""Small pictures, queued and extracted in this process by a small encoder of random numbers."""

import hashlib
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from headstart.pipeline.kinds import Settings
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import Workspace, open_workspace

ENCODER = ["--encoder", "test_resnet", "--weights", "random:0", "--image-size", "32"]
KINDS = frozenset({"extract"})


def draw(path: Path, number: int) -> None:
    """A small picture, another for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


def enqueued(data: Path, root: Path, *more: str) -> str:
    """What `headstart enqueue` prints; in this process, because importing torch takes longer than the whole test."""
    from headstart.cli import group

    done = CliRunner().invoke(group, ["enqueue", str(data), *ENCODER, "-w", str(root), *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def enqueue(data: Path, root: Path, *more: str) -> Workspace:
    enqueued(data, root, *more)
    return open_workspace(root)


def work(workspace: Workspace, device: str = "cpu"):
    return Worker(workspace, Settings(device=device), Limits(), lambda finished: None).run()


def encoder_of(workspace: Workspace) -> Path:
    [folder] = workspace.features.glob("encoder_*")
    return folder


def digests(workspace: Workspace) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in workspace.features.glob("encoder_*/shards/*/*")}
