"""Photos for benchmarks: real ones under as many names as are wanted, queued in a workspace of their own."""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
CACHE = tempfile.TemporaryDirectory(prefix="headstart-cache-")  # until the measurement ends
HERE = {
    # An installed package has its bytecode beside it, which pip writes: so has this one from the second start on.
    **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    "HEADSTART_CACHE": CACHE.name,  # what this measurement made is there as for a user, what an earlier one made is not
}


def arguments(description):
    """A parser of what every benchmark on photos is told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--encoder", default="mobilenetv2_100")
    parser.add_argument("--weights", default="random:0")
    return parser


def repeat(source, target, count):
    """`count` files in `target`, the images below `source` over and over."""
    paths = sorted(path for path in Path(source).rglob("*") if path.is_file())
    target.mkdir()
    for number in range(count):
        path = paths[number % len(paths)]
        shutil.copyfile(path, target / f"{number:06d}{path.suffix}")
    return target


def crops(source, target, count):
    """`count` different photos in `target`: parts, seven eighths wide and high, of the images below `source`, as JPEG."""
    paths = sorted(path for path in Path(source).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    target.mkdir()
    for number in range(count):
        with Image.open(paths[number % len(paths)]) as photo:
            width, height = (7 * edge // 8 for edge in photo.size)
            draws = random.Random(number)
            left, top = draws.randint(0, photo.width - width), draws.randint(0, photo.height - height)
            part = photo.convert("RGB").crop((left, top, left + width, top + height))
        part.save(target / f"{number:06d}.jpg", quality=92)
    return target


def headstart(*arguments, cache=CACHE.name):
    """Args: cache: where encoders are kept for other workspaces, and graphs that were compiled."""
    command = [sys.executable, "-m", "headstart.cli", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**HERE, "HEADSTART_CACHE": str(cache)})


def enqueue(photos, workspace, encoder, weights, *options):
    """The encoder's folder, its graph exported, all jobs queued."""
    headstart("enqueue", photos, "--encoder", encoder, "--weights", weights, "-w", workspace, *options)
    [folder] = (path.parent for path in (workspace / "features").glob("encoder_*/encoder.json"))
    return folder


def forget(folder):
    """Undoes all jobs of an encoder's folder."""
    for name in ("shards", "done", "claims"):
        shutil.rmtree(folder / name, ignore_errors=True)
