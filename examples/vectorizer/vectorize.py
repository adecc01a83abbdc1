"""What VTracer makes of each picture of a folder with random parameters, and how much its drawing looks like the picture.

pip install vtracer resvg-py scikit-image
headstart make examples/vectorizer/vectorize.py --folder logos/ --count 20
python examples/vectorizer/vectorize.py workspace/features/made_vectorize_... results/
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.experiments.training.options import CheckedOptions, option

ITEMS_A_JOB = 10
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


@dataclass(frozen=True)
class Options(CheckedOptions):
    folder: str = option("logos", "of pictures; their type is the name of the folder below it that they are in")
    count: int = option(20, "sets of parameters a picture", at_least=1)
    seed: int = option(0, "of what is drawn", at_least=0)


def items(options: Options) -> list[str]:
    root = Path(options.folder).resolve()
    return sorted(str(path) for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def make(item: Any, options: Options) -> dict[str, str]:
    image = Path(item.name)
    name = image.relative_to(Path(options.folder).resolve()).as_posix()
    return {"image": name, "results": json.dumps(results_of(image, name, options.count, options.seed))}


def main(words: Sequence[str] | None = None) -> int:
    """Writes what was made as files that `headstart ingest` reads, one a picture."""
    from headstart import open_made

    made, output = sys.argv[1:] if words is None else words
    opened = open_made(Path(made))
    Path(output).mkdir(parents=True, exist_ok=True)
    for image, results in zip(opened.column("image"), opened.column("results"), strict=True):
        data = json.dumps({"method": "random", "results": json.loads(results)}, indent=1)
        (Path(output) / _file_name(image)).write_text(data, encoding="utf-8")
    return 0


def _file_name(image: str) -> str:
    stem = "".join(letter if letter.isalnum() else "_" for letter in Path(image).with_suffix("").as_posix())
    return f"optimization_{stem}_{hashlib.sha256(image.encode()).hexdigest()[:8]}.json"


if __name__ == "__main__":
    sys.exit(main())
