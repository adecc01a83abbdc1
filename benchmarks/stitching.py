"""A mask of a large tiled TIFF, window by window: peak memory, time, and the same by windows that are averaged on the whole.

python -m benchmarks.stitching [--edge 10000] [--compared 3000]

The photo is drawn and deflated in tiles of 512 pixels; encoder mobilenetv2_100 with seeded random weights, windows of 512 pixels
that overlap by 64, a linear head for two classes. What people write holds the image and the scores of every pixel for every
class, adds each window's to them and divides by how many windows saw a pixel; here it is given the same windows and head.
"""

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from .photos import HERE, headstart

_TILE, _WINDOW, _OVERLAP = 512, 512, 64

_AVERAGED = """
import sys
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from headstart.experiments.runs.catalog import recipe_of_run
from headstart.experiments.serving.predict_masks import MapsOf, _logits
from headstart.experiments.serving.recipe_run import open_trained
from headstart.features.encoders.runtime import open_encoder
from headstart.pipeline.workspace import open_workspace

workspace, path, out, window, overlap = open_workspace(Path(sys.argv[1])), *sys.argv[2:4], *map(int, sys.argv[4:6])
trained = open_trained(recipe_of_run(workspace, "1"))
folder = workspace.features / trained.about.encoder
maps_of = MapsOf.of(folder, open_encoder(folder, "cpu", 30.0))
Image.MAX_IMAGE_PIXELS = None
pixels = np.asarray(Image.open(path).convert("RGB"))
height, width = pixels.shape[:2]
sums = np.zeros((len(trained.about.classes), height, width), np.float32)
seen = np.zeros((height, width), np.float32)
tops, lefts = ([*range(0, edge - window, window - overlap), edge - window] for edge in (height, width))
with torch.inference_mode():
    for top in tops:
        for left in lefts:
            part = np.ascontiguousarray(pixels[top : top + window, left : left + window])
            logits = torch.from_numpy(_logits(trained, maps_of, part))[None]
            large = torch.nn.functional.interpolate(logits, size=(window, window), mode="bilinear")[0].numpy()
            sums[:, top : top + window, left : left + window] += large
            seen[top : top + window, left : left + window] += 1
mask = (sums / seen).argmax(0).astype(np.uint8)
Image.fromarray(mask).save(out)
"""


def drawn(edge: int) -> np.ndarray:
    """(edge, edge, 3) uint8: bright rectangles on a dark, noisy ground."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 60, (edge, edge, 3), np.uint8)
    for top, left in random.integers(0, edge, (max(8, edge * edge // 60_000), 2)):
        pixels[top : top + 120, left : left + 160] += 150
    return pixels


def write_tiled(pixels: np.ndarray, path: Path) -> None:
    """A TIFF of deflated tiles, which Pillow reads and does not write."""
    edge = -(-len(pixels) // _TILE)
    tiles = []
    for row in range(edge):
        for column in range(edge):
            tile = pixels[row * _TILE : (row + 1) * _TILE, column * _TILE : (column + 1) * _TILE]
            short = [(0, _TILE - length) for length in tile.shape[:2]]
            tiles.append(zlib.compress(np.pad(tile, (*short, (0, 0))).tobytes(), 1))
    count = len(tiles)
    tags = [(256, 4, 1, len(pixels)), (257, 4, 1, len(pixels)), (258, 3, 3, 0), (259, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3)]
    tags += [(322, 4, 1, _TILE), (323, 4, 1, _TILE), (324, 4, count, 0), (325, 4, count, 0)]
    after = 8 + 2 + 12 * len(tags) + 4
    places = {258: after, 324: after + 8, 325: after + 8 + 4 * count}
    begin = after + 8 + 8 * count
    offsets = [begin + sum(map(len, tiles[:number])) for number in range(count)]
    with path.open("wb") as file:
        file.write(b"II*\0" + struct.pack("<IH", 8, len(tags)))
        for tag, kind, length, value in tags:
            file.write(struct.pack("<HHII", tag, kind, length, places.get(tag, value)))
        file.write(bytes(4) + struct.pack("<4H", 8, 8, 8, 0) + struct.pack(f"<{count}I", *offsets))
        file.write(struct.pack(f"<{count}I", *map(len, tiles)))
        file.writelines(tiles)


def measured(*command: object) -> tuple[float, float]:
    """Seconds and peak memory in MB of a child. Raises: CalledProcessError if it fails."""
    begun = time.perf_counter()
    child = subprocess.Popen([sys.executable, *map(str, command)], env=HERE, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return time.perf_counter() - begun, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def learned(folder: Path) -> Path:
    """A workspace with one trained run."""
    photo = drawn(2048)
    truth = (photo.max(axis=2) >= 150).astype(np.uint8)
    lines = ["path,split,mask"]
    for number in range(16):
        top, left = divmod(number, 4)
        part = np.s_[top * _WINDOW : (top + 1) * _WINDOW, left * _WINDOW : (left + 1) * _WINDOW]
        for name, image in (("image", photo[part]), ("mask", truth[part])):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(image).save(folder / name / f"{number}.png")
        split = ("train", "train", "val", "test")[number % 4]
        lines.append(f"image/{number}.png,{split},mask/{number}.png")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    asked = ("--encoder", "mobilenetv2_100", "--weights", "random:0", "--image-size", _WINDOW, "--maps", "8,16,32")
    headstart("enqueue", folder / "table.csv", *asked, "-w", folder / "w")
    headstart("work", "-w", folder / "w")
    headstart("train", "segment", "--masks", "mask", "--epochs", 30, "-w", folder / "w")
    return folder / "w"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=10_000)
    parser.add_argument("--compared", type=int, default=3000, help="edge of the image on which both ways are tried")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        workspace = learned(folder)
        _, imports = measured("-c", "import torch, onnxruntime, headstart.experiments.serving.predict_masks")
        print(f"imports alone           {imports:8.0f} MB")
        for edge in (options.compared, options.edge):
            photo = drawn(edge)
            truth = photo.max(axis=2) >= 150
            write_tiled(photo, folder / f"{edge}.tif")
            del photo
            seconds, peak = measured(
                "-m", "headstart.cli", "predict", folder / f"{edge}.tif", "--run", 1, "--masks-to", folder / "out",
                "--overlap", _OVERLAP, "-w", workspace,
            )  # fmt: skip
            mask = np.asarray(Image.open(folder / f"out/{edge}.png")) if edge == options.compared else None
            print(
                f"stitched {edge:6} x {edge:<6}{peak:8.0f} MB, {peak - imports:.0f} above the imports; {seconds:.1f} s",
                flush=True,
            )
            if mask is not None:
                others, theirs = measured(
                    "-c", _AVERAGED, workspace, folder / f"{edge}.tif", folder / "averaged.png", _WINDOW, _OVERLAP
                )
                averaged = np.asarray(Image.open(folder / "averaged.png"))
                print(f"averaged {edge:6} x {edge:<6}{theirs:8.0f} MB, {theirs - imports:.0f} above the imports; {others:.1f} s")
                ratio = (peak - imports) / (theirs - imports)
                print(f"stitched to averaged: memory {ratio:.2f}, time {seconds / others:.2f}")
                print(f"mIoU: stitched {miou(mask, truth):.4f}, averaged {miou(averaged, truth):.4f}")


def miou(mask: np.ndarray, truth: np.ndarray) -> float:
    scores = [np.sum((mask == code) & (truth == code)) / np.sum((mask == code) | (truth == code)) for code in (0, 1)]
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
