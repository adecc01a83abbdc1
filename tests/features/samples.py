"""Small real images of every kind that a folder of photos may hold, and where the larger ones are found."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.features.images.decode import ImageError
from headstart.features.images.transform import Transform

DATA = Path(os.environ.get("HEADSTART_TEST_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CENTER = Transform((224, 224), "bicubic", 0.875, "center", MEAN, STD)
TRANSFORMS = {
    "center": CENTER,
    "center, all kept": Transform((64, 64), "bilinear", 1.0, "center", MEAN, STD),
    "center, oblong": Transform((48, 80), "bicubic", 0.9, "center", MEAN, STD),
    "center, padded": Transform((64, 64), "lanczos", 1.3, "center", MEAN, STD),
    "center, odd": Transform((97, 97), "nearest", 0.95, "center", MEAN, STD),
    "squash": Transform((64, 64), "bicubic", 0.9, "squash", MEAN, STD),
    "border": Transform((64, 80), "bicubic", 0.95, "border", MEAN, STD),
}


def data_folder(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; HEADSTART_TEST_DATA says where the data for development lies")
    return folder


def python_says(code: str) -> tuple[str, str]:
    """Runs code in a fresh interpreter, every warning shown: what it printed, and what it complained of."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-W", "always", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    return done.stdout, done.stderr


def enqueued_afresh(photos: Path, workspace: Path, model: str, weights: Path | str) -> dict[str, Any]:
    """What a fresh interpreter comes to that enqueues photos with an encoder of 64 pixels, without a complaint.

    folder, fingerprint; fresh: encoders that got jobs; graph_refused; loaded: of torch and timm; children: processes it started.
    """
    said, complaints = python_says(
        "import json, sys\n"
        "from headstart.features.encoders import prepared\n"
        "from headstart.features.encoders.resolve import EncoderRequest\n"
        "from headstart.features.planning.enqueue import enqueue_images\n"
        "start, started = prepared.Child, []\n"
        "prepared.Child = lambda module: started.append(module) or start(module)\n"
        f"asked = EncoderRequest({model!r}, {str(weights)!r}, 64)\n"
        f"done = enqueue_images({str(photos)!r}, {str(workspace)!r}, encoder=asked)\n"
        "facts = {'folder': str(done.folder), 'fingerprint': done.encoder.fingerprint, 'fresh': len(done.fresh)}\n"
        "facts |= {'graph_refused': done.graph_refused, 'loaded': sorted({'torch', 'timm'} & set(sys.modules))}\n"
        "print(json.dumps({**facts, 'children': len(started)}))"
    )
    assert complaints == ""
    facts: dict[str, Any] = json.loads(said.splitlines()[-1])
    return facts


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A photo-like gradient under noise: noise shows every rounding, a gradient every shift."""
    noise = np.random.default_rng(seed).integers(0, 90, (height, width, 3))
    rows, columns = np.mgrid[0:height, 0:width]
    ramp = np.stack([rows * 160 // max(1, height), columns * 160 // max(1, width), (rows + columns) % 160], axis=-1)
    return Image.fromarray((ramp + noise).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def endless_jpeg() -> bytes:
    """A progressive JPEG whose last scan comes 20,000 times: about a megabyte that takes minutes."""
    data = saved(Image.new("L", (9000, 9000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 20000 + b"\xff\xd9"


def png(width: int, height: int, bits: int, colour: int, pixels: bytes) -> bytes:
    """A PNG file as its header says, whatever `pixels` are."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def _rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(picture(120, 80), "JPEG", exif=exif)


def _frames(kind: str, **options) -> bytes:
    return saved(
        picture(70, 50), kind, save_all=True, append_images=[picture(70, 50, 1), picture(70, 50, 2)], duration=40, **options
    )


def _transparent_palette() -> bytes:
    image = picture(75, 60).quantize(16)
    return saved(image, "PNG", transparency=bytes(range(0, 256, 16)))


def kinds_of_image() -> dict[str, bytes]:
    base = picture(90, 70)
    alpha = picture(90, 70, 5).convert("L")
    deep = np.random.default_rng(2).integers(0, 65536, (40, 60), dtype=np.uint16)
    rows = b"".join(b"\0" + np.random.default_rng(row).bytes(50 * 6) for row in range(40))
    with_alpha, grey_alpha = base.copy(), base.convert("L").convert("LA")
    with_alpha.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    return {
        "grey": saved(base.convert("L"), "JPEG"),
        "black and white": saved(base.convert("1"), "PNG"),
        "palette": saved(base.quantize(64), "PNG"),
        "palette with transparent colours": _transparent_palette(),
        "palette with one transparent colour": saved(base.quantize(16), "GIF", transparency=3),
        "RGBA": saved(with_alpha, "PNG"),
        "LA": saved(grey_alpha, "PNG"),
        "CMYK": saved(base.convert("CMYK"), "JPEG"),
        "16-bit grey": saved(Image.fromarray(deep), "PNG"),
        "16-bit RGB": png(50, 40, 16, 2, rows),
        "EXIF-rotated": _rotated(),
        "animated GIF": _frames("GIF"),
        "animated WEBP": _frames("WEBP", lossless=True),
        "TIFF": saved(base, "TIFF", compression="tiff_lzw"),
        "BMP": saved(base, "BMP"),
        "progressive": saved(base, "JPEG", progressive=True),
    }


def outcomes_of(read, rows):
    """Of each row 'ok', or the code of the reason why it cannot be read."""
    outcomes = []
    for row in rows:
        try:
            read(row)
            outcomes.append("ok")
        except ImageError as error:
            outcomes.append(error.code)
    return outcomes
