"""Images of a few scenes, their masks and a table of both, to be cut into patches."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.jobs.extraction import enqueue, enqueued
from tests.jobs.killed_masks import scene

SIZES = ((90, 120), (96, 128), (48, 100))  # (height, width)
PATCHES = ("--patches", "48", "--overlap", "16", "--masks", "mask")
ENCODER = ("--encoder", "test_efficientnet", "--weights", "random:0", "--maps", "4,8")


def large_scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (h, w, 3) and mask (h, w) of four scenes side by side, cut to one of SIZES."""
    height, width = SIZES[number % len(SIZES)]
    four = [scene(4 * number + place) for place in range(4)]
    images, masks = [np.asarray(image) for image, _ in four], [mask for _, mask in four]
    return tuple(
        np.concatenate([np.concatenate(one[:2], 1), np.concatenate(one[2:], 1)])[:height, :width] for one in (images, masks)
    )


def draw(folder: Path, count: int) -> Path:
    """The table."""
    (folder / "in").mkdir(parents=True, exist_ok=True)
    lines = ["path,split,mask"]
    for number in range(count):
        pixels, mask = large_scene(number)
        Image.fromarray(pixels).save(folder / f"in/{number:02}.png")
        Image.fromarray(mask).save(folder / f"in/{number:02}_mask.png")
        lines.append(f"in/{number:02}.png,{('train', 'train', 'val', 'test')[number // 3 % 4]},in/{number:02}_mask.png")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def said(table: Path, root: Path, *more: str) -> str:
    """What `enqueue` with patches prints."""
    return enqueued(table, root, *ENCODER, *_without_size(more or PATCHES))


def cut(table: Path, root: Path, *more: str):
    """A workspace with patches in the queue."""
    return enqueue(table, root, *ENCODER, *_without_size(more or PATCHES))


def _without_size(options):
    # `enqueue` of the tests says --image-size 32, which is no patch's.
    return ("--image-size", options[options.index("--patches") + 1], *options)
