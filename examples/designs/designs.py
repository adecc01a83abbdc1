"""A world of graphic designs: posters, slides and cards with the structure of each, what it is for, and how well it is laid out.

headstart make examples/designs/designs.py --count 8000
python examples/designs/designs.py --as-files notebook/ workspace/features/made_designs_...
headstart make examples/designs/designs.py --from-files notebook/

A design is image (256, 256, 3) uint8, structure (4, 256, 256) uint8 (see drawing.py) and metadata, a JSON text: goal, format,
tone, grammar (four scores, whose formulas stand in grammar.py), and the layout that they are computed from.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from composing import Composer
from drawing import drawn, structure
from grammar import scores
from numpy.typing import NDArray

from headstart.experiments.designs.description import read_description
from headstart.experiments.training.options import CheckedOptions, option
from headstart.pipeline.errors import HeadstartError

_NUMBERED = re.compile(r"[0-9]{6}\.json")


@dataclass(frozen=True)
class Options(CheckedOptions):
    count: int = option(1000, "designs to draw", at_least=1, at_most=1_000_000)
    seed: int = option(0, "of everything that is drawn", at_least=0)
    from_files: str = option("", "folder with images/, f_tensors/ and metadata/ of designs to take instead")


def items(options: Options) -> int | list[str]:
    if not options.from_files:
        return options.count
    return sorted(
        str(path) for path in (Path(options.from_files).resolve() / "metadata").glob("*.json") if _NUMBERED.match(path.name)
    )


def make(item: Any, options: Options) -> dict[str, Any]:
    return taken(Path(item.name)) if options.from_files else design(options.seed, item.number)


def design(seed: int, number: int) -> dict[str, Any]:
    """The design of that number, the same whatever else is drawn."""
    draw = np.random.default_rng((seed, number))
    composer = Composer(draw)
    layout = composer.layout()
    metadata = {"goal": composer.goal, "format": composer.format, "tone": composer.tone, "grammar": scores(layout)}
    metadata |= {
        "page": layout.page,
        "elements": [
            {"kind": element.kind, "box": element.box, "size": element.size, "level": element.level}
            for element in layout.elements
        ],
    }
    return {"image": drawn(layout, draw), "structure": structure(layout), "metadata": json.dumps(metadata)}


def taken(metadata: Path) -> dict[str, Any]:
    """A design of files, by its metadata file. Raises: ValueError or OSError, so that it alone is left out, if one is wrong."""
    folder, stem = metadata.parent.parent, metadata.stem
    text = metadata.read_text(encoding="utf-8")
    try:
        read_description(text, f"metadata/{metadata.name}")
    except HeadstartError as error:
        raise ValueError(str(error)) from None
    image = _array(folder / "images" / f"{stem}.npy", (256, 256, 3))
    return {"image": image, "structure": _array(folder / "f_tensors" / f"{stem}.npy", (4, 256, 256)), "metadata": text}


def _array(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    array = np.load(path, allow_pickle=False)
    if array.dtype != np.uint8 or array.shape != shape:
        raise ValueError(f"{path.parent.name}/{path.name} is {array.dtype} of shape {array.shape}, expected uint8 {shape}")
    return np.asarray(array)


def main(words: Sequence[str] | None = None) -> int:
    """Writes what was made as files, three a design."""
    from headstart import open_made

    parser = argparse.ArgumentParser(description="Designs as files.")
    parser.add_argument(
        "--as-files", type=Path, required=True, metavar="DIR", help="where images/, f_tensors/ and metadata/ are written"
    )
    parser.add_argument("made", type=Path, help="the folder that headstart make named")
    asked = parser.parse_args(words)
    folders = {name: asked.as_files / name for name in ("images", "f_tensors", "metadata")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    for columns in open_made(asked.made).shards():
        for place, number in enumerate(columns["index"].tolist()):
            np.save(folders["images"] / f"{number:06}.npy", columns["image"][place], allow_pickle=False)
            np.save(folders["f_tensors"] / f"{number:06}.npy", columns["structure"][place], allow_pickle=False)
            (folders["metadata"] / f"{number:06}.json").write_text(columns["metadata"][place], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
