"""Extracts maps, trains a head on them and stitches a mask, each in children that are killed at chosen events, then to the end.

python -m tests.jobs.killed_masks FOLDER KILLS [STAGE...]      prints of each stage deaths, events and what came out otherwise

An event is the begin or the end of a file operation, of a window, or a look whether to leave. Whoever comes to the end between
two deaths is compared, and begins anew.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from headstart.pipeline import worker
from headstart.pipeline.kinds import Settings
from headstart.pipeline.stop import Stop
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import Workspace, open_workspace
from tests.experiments.killed import fatal_tick, watched
from tests.support import ROOT

from .killed_head import in_a_child
from .killed_model import OPERATIONS, outcome_of, train_to_the_end

SIZE = (48, 64)
_BY_NAME = ("--encoder", "test_efficientnet", "--weights", "random:0")
ENCODER = (*_BY_NAME, "--image-size", "48x64", "--maps", "4,8")
_IMAGES, _JOB_SIZE = 8, 1
_TALL = 8  # scenes below each other that make the large image


def scene(number: int) -> tuple[Image.Image, np.ndarray]:
    """A dark ground with a bright rectangle, and where it is: 1."""
    draw = np.random.default_rng(number)
    mask = np.zeros(SIZE, np.uint8)
    top, left = draw.integers(0, 24), draw.integers(0, 32)
    mask[top : top + 22, left : left + 30] = 1
    pixels = draw.integers(0, 60, (*SIZE, 3)) + 180 * mask[..., None]
    return Image.fromarray(pixels.astype(np.uint8)), mask


def drawn(folder: Path, count: int = _IMAGES) -> Path:
    """A table of `count` scenes with their masks, and beside it a large TIFF in strips."""
    folder.mkdir(parents=True)
    lines = ["path,split,mask"]
    for number in range(count):
        image, mask = scene(number)
        image.save(folder / f"{number:02}.png")
        Image.fromarray(mask).save(folder / f"{number:02}_mask.png")
        lines.append(f"{number:02}.png,{('train', 'train', 'val', 'test')[number % 4]},{number:02}_mask.png")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    large = np.concatenate([np.asarray(scene(100 + number)[0]) for number in range(_TALL)])
    Image.fromarray(large).save(folder.parent / "large.tif", tiffinfo={278: 16})  # rows a strip
    return folder / "table.csv"


def extract(workspace: Workspace) -> None:
    Worker(workspace, Settings(device="cpu"), Limits(), lambda finished: None).run()


def train(workspace: Workspace) -> None:
    os.environ["KILLED_OPTIONS"] = json.dumps({"masks": "mask", "batch_size": 4})
    train_to_the_end(workspace, "segment")


def stitch(workspace: Workspace) -> None:
    from headstart.experiments.runs.catalog import recipe_of_run
    from headstart.experiments.serving import predict_masks
    from headstart.experiments.serving.recipe_run import open_trained
    from headstart.features.images import bands

    bands.LARGE_PIXELS = 1000
    experiment = recipe_of_run(workspace, "1")
    assert experiment is not None
    request = predict_masks.MaskRequest(workspace.root / "out", overlap=8)
    large = workspace.root.parent / "large.tif"
    [said] = predict_masks.predict_masks(workspace, open_trained(experiment), [large], request)
    assert not said.error, said.error


def trained(workspace: Workspace) -> dict[str, str]:
    """As `outcome_of`, without files that were being written: they are removed by and by."""
    return {name: digest for name, digest in outcome_of(workspace).items() if "/.tmp-" not in name}


def payloads_of(workspace: Workspace) -> dict[str, str]:
    return _digests(workspace.root, "features/*/shards/*/job_*")


def mask_of(workspace: Workspace) -> dict[str, str]:
    """The mask, and what was kept on the way to it, which must be gone."""
    return {**_digests(workspace.root, "out/*.png"), **_digests(workspace.root, "experiments/*/strips/*/part_*")}


def _digests(root: Path, pattern: str) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.glob(pattern))}


@dataclass(frozen=True)
class Stage:
    """What is done, and what of it must be the same."""

    act: Callable[[Workspace], None]
    outcome: Callable[[Workspace], dict[str, str]]


STAGES = {"extraction": Stage(extract, payloads_of), "training": Stage(train, trained), "stitching": Stage(stitch, mask_of)}
PATCHES = Stage(extract, payloads_of)  # from a workspace of its own


def acted(root: Path, stage: Stage, tick: Callable[[], None]) -> None:
    """What a child does; `tick` is called before and after everything that a kill could fall between."""
    from headstart.experiments.serving import predict_masks

    for name in OPERATIONS:
        setattr(os, name, watched(getattr(os, name), tick))
    Stop.check = watched(Stop.check, tick)
    predict_masks._logits = watched(predict_masks._logits, tick)
    stage.act(open_workspace(root))


def whole(root: Path, stage: Stage) -> int:
    """Done to the end; how many events that took."""
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    def act() -> None:
        acted(root, stage, tick)
        (root / "events").write_text(str(count))

    assert not in_a_child(act)
    return int((root / "events").read_text())


def killed(base: Path, folder: Path, stage: Stage, kills: int, draw: random.Random) -> dict[str, object]:
    """`kills` deaths on the way, over as many copies of the workspace `base` as that takes."""
    reference = shutil.copytree(base, folder / "whole")
    events = whole(reference, stage)
    expected = stage.outcome(open_workspace(reference))
    deaths, copies, differing = 0, 0, list[str]()
    while deaths < kills:
        root = shutil.copytree(base, folder / f"killed_{copies}")
        copies += 1
        is_done = False
        while deaths < kills and not is_done:
            # Short lives, so that the deaths fall over all of it.
            event = draw.randrange(1, max(2, events * 2 // min(kills, 10)))
            is_done = not in_a_child(lambda: acted(root, stage, fatal_tick(event)))  # noqa: B023
            deaths += not is_done
        whole(root, stage)
        outcome = stage.outcome(open_workspace(root))
        differing += sorted(name for name in expected.keys() | outcome.keys() if expected.get(name) != outcome.get(name))
        shutil.rmtree(root)
    return {"deaths": deaths, "copies": copies, "events": events, "files": len(expected), "differing": differing}


def enqueue(table: Path, root: Path, *options: object) -> None:
    words = ("enqueue", table, *options, "--job-size", _JOB_SIZE, "-w", root)
    subprocess.run([sys.executable, str(ROOT / "cli.py"), *map(str, words)], check=True, capture_output=True)


def main() -> None:
    import scipy.stats
    import timm
    import torch

    torch.set_num_threads(1)
    assert scipy.stats, timm
    worker.DEATHS = sys.maxsize
    folder, kills, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or [*STAGES, "patches"]
    table, report = drawn(folder / "data"), {}
    enqueue(table, folder / "base", *ENCODER)
    if "patches" in names:
        enqueue(table, folder / "patches/base", *_BY_NAME, "--patches", 32, "--overlap", 8, "--maps", "4,8")
        report["patches"] = killed(folder / "patches/base", folder / "patches", PATCHES, kills, random.Random(0))
    for name, stage in STAGES.items():
        if name in names:
            (folder / name).mkdir()
            shutil.copy(folder / "large.tif", folder / name)
            report[name] = killed(folder / "base", folder / name, stage, kills, random.Random(0))
        if name != list(STAGES)[-1]:
            whole(folder / "base", stage)  # the next one goes on from there
    print(json.dumps(report))


if __name__ == "__main__":
    main()
