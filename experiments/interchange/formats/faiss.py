"""A folder with an index of cosines, `features.faiss`, and what its row numbers are, `rows.csv`."""

from __future__ import annotations

import numpy as np

from headstart.experiments.interchange.table import TEXTS, FeatureTable
from headstart.features.manifest.csv_lines import written

IS_FOLDER = True
SUFFIX = ""
NEEDS = ("faiss", "faiss")


def files(table: FeatureTable) -> dict[str, bytes]:
    import faiss

    rows = np.asarray(table.features, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(np.ascontiguousarray(rows / np.where(lengths > 0, lengths, 1)))
    lines = zip(*(table.texts[name] for name in TEXTS), strict=True)
    return {"features.faiss": faiss.serialize_index(index).tobytes(), "rows.csv": written(TEXTS, list(lines))}
