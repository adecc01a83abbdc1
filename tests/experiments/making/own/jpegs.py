"""How well a JPEG of each picture of a folder holds up, by quality: results of a program, an item a picture and quality.

headstart make ./jpegs.py --folder photos/
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from headstart.experiments.training.options import CheckedOptions, option

ITEMS_A_JOB = 10


@dataclass(frozen=True)
class Options(CheckedOptions):
    folder: str = option("photos", "folder of pictures")
    qualities: tuple[int, ...] = option((30, 90), "of the JPEG", at_least=1, at_most=95)


def items(options):
    pictures = sorted(Path(options.folder).resolve().rglob("*.png"))
    return [f"{picture}@{quality}" for picture in pictures for quality in options.qualities]


def prepare(options):
    return {"loaded": 0}  # such as a model


def make(item, options, prepared):
    path, _, quality = item.name.rpartition("@")
    picture = Image.open(path).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(quality))
    again = np.asarray(Image.open(buffer).convert("RGB"), float)
    error = np.square(again - np.asarray(picture, float)).mean()
    return {"quality": int(quality), "bytes": buffer.tell(), "error": float(error), "jpeg": buffer.getvalue().hex()}
