"""Squares and discs on noise, with what they are: a world to learn from without a download.

headstart make ./shapes.py --count 8000
"""

import json
from dataclasses import dataclass

import numpy as np

from headstart.experiments.training.options import CheckedOptions, option


@dataclass(frozen=True)
class Options(CheckedOptions):
    count: int = option(1000, "pictures", at_least=1)
    edge: int = option(16, "pixels of an edge", at_least=8, at_most=512)
    seed: int = option(0, "of everything that is drawn", at_least=0)


def items(options):
    return options.count


def make(item, options):
    draw = np.random.default_rng((options.seed, item.number))
    rows, columns = np.mgrid[: options.edge, : options.edge]
    across, down = draw.integers(options.edge // 4, options.edge * 3 // 4, 2)
    size, is_disc = int(draw.integers(2, options.edge // 4)), bool(draw.integers(2))
    apart = np.hypot(rows - down, columns - across) if is_disc else np.maximum(abs(rows - down), abs(columns - across))
    picture = draw.integers(0, 100, (options.edge, options.edge), dtype=np.uint8)
    picture[apart <= size] += 150
    facts = {"shape": "disc" if is_disc else "square", "size": size}
    return {"image": picture, "mask": apart <= size, "facts": json.dumps(facts)}
