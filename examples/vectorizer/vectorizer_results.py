"""Results of a vectorizer for a folder of images: random parameters of VTracer, and how much its drawing looks like the image.

pip install vtracer resvg-py scikit-image
python examples/vectorizer/vectorizer_results.py logos/ results/ --count 20

One file an image, `optimization_<image>.json`, which appears when it is complete: killed and started again, it goes on. What
`headstart ingest results/ --images logos/` makes of them is a table to learn from.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

# Name: (smallest, largest, whether it is a whole number), where each changes the drawing.
RANGES: dict[str, tuple[float, float, bool]] = {
    "filter_speckle": (1, 32, True),
    "color_precision": (1, 8, True),
    "layer_difference": (1, 64, True),
    "corner_threshold": (0, 180, True),
    "length_threshold": (3.5, 10, False),
    "max_iterations": (1, 20, True),
    "splice_threshold": (0, 180, True),
    "path_precision": (0, 8, True),
}
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def parameter_sets(image: str, count: int, seed: int) -> list[dict[str, int | float]]:
    """`count` sets drawn evenly from RANGES, the same for the same name of an image and seed."""
    import numpy as np

    digest = hashlib.sha256(f"{seed}\0{image}".encode()).digest()
    draw = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return [
        {
            name: int(draw.integers(int(low), int(high) + 1)) if is_whole else round(float(draw.uniform(low, high)), 2)
            for name, (low, high, is_whole) in RANGES.items()
        }
        for _ in range(count)
    ]


def vectorized(data: bytes, parameters: dict[str, int | float]) -> str:
    """The SVG that VTracer makes of a PNG's bytes."""
    import vtracer

    said: str = vtracer.convert_raw_image_to_svg(data, img_format="png", **parameters)
    return said


def drawn(svg: str, width: int, height: int) -> Any:
    """An SVG as pixels (h, w, 3) uint8 on white."""
    import numpy as np
    import resvg_py
    from PIL import Image

    png = resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", width=width, height=height, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))


def results_of(image: Path, name: str, count: int, seed: int) -> list[dict[str, Any]]:
    """A record a set of parameters: image, logo_type (its folder), method, parameters, ssim from 0 to 1, or `error`."""
    import numpy as np
    from PIL import Image
    from skimage.metrics import structural_similarity

    picture = Image.open(image).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(white, picture).convert("RGB")
    buffer = io.BytesIO()
    flat.save(buffer, "PNG")
    pixels = np.asarray(flat)
    records = []
    for number, parameters in enumerate(parameter_sets(name, count, seed)):
        record: dict[str, Any] = {"image": name, "logo_type": Path(name).parent.name or "unknown", "method": "random"}
        record |= {"iteration": number, "parameters": parameters}
        try:
            again = drawn(vectorized(buffer.getvalue(), parameters), flat.width, flat.height)
            ssim = float(structural_similarity(pixels, again, channel_axis=2, data_range=255))
            record["ssim"] = round(min(1.0, max(0.0, ssim)), 6)
        except Exception as error:  # of three libraries in C and Rust; a record that says so is what `ingest` counts
            record |= {"success": False, "error": str(error)[:200]}
        records.append(record)
    return records


def make_results(images: Path, output: Path, count: int, seed: int, processes: int) -> Iterator[tuple[int, int]]:
    """Writes a file an image below `output` and leaves those that are there. Yields how many of how many are there."""
    output.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    names = [path.relative_to(images).as_posix() for path in files]
    left = [(path, name) for path, name in zip(files, names, strict=True) if not (output / _file_name(name)).exists()]
    done = len(files) - len(left)
    yield done, len(files)
    with ProcessPoolExecutor(processes) as pool:
        jobs = [pool.submit(_make_one, path, name, output, count, seed) for path, name in left]
        for job in jobs:
            job.result()
            done += 1
            yield done, len(files)


def _make_one(image: Path, name: str, output: Path, count: int, seed: int) -> None:
    data = json.dumps({"method": "random", "results": results_of(image, name, count, seed)}, indent=1)
    temporary = output / f".{secrets.token_hex(8)}"
    temporary.write_text(data, encoding="utf-8")
    os.replace(temporary, output / _file_name(name))


def _file_name(name: str) -> str:
    stem = "".join(letter if letter.isalnum() else "_" for letter in Path(name).with_suffix("").as_posix())
    return f"optimization_{stem}_{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--count", type=int, default=20, help="parameter sets an image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(words)
    for done, of in make_results(given.images, given.results, given.count, given.seed, given.processes):
        print(f"\r{done} of {of} images", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
