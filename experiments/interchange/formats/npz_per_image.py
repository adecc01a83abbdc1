"""A folder with a file an image, `img_000000.npz`: `features` (d,) float16, and path, label, split, group and digest as text."""

from __future__ import annotations

import io

import numpy as np

from headstart.experiments.interchange.table import FeatureTable

IS_FOLDER = True
SUFFIX = ""
NEEDS = ("numpy", "")


def files(table: FeatureTable) -> dict[str, bytes]:
    result = {}
    for number, row in enumerate(table.features):
        buffer = io.BytesIO()
        texts = {name: np.array(values[number]) for name, values in table.texts.items()}
        np.savez(buffer, allow_pickle=False, features=row, **texts)
        result[f"img_{number:06d}.npz"] = buffer.getvalue()
    return result
