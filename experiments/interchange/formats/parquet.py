"""One Parquet file that embedding viewers open: features, `projection_x`, `projection_y` and `neighbors`.

embedding-atlas features.parquet --x projection_x --y projection_y
"""

from __future__ import annotations

import io

import numpy as np

from headstart.experiments.interchange.table import FeatureTable

IS_FOLDER = False
SUFFIX = ".parquet"
NEEDS = ("pyarrow", "parquet")


def files(table: FeatureTable) -> dict[str, bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = np.asarray(table.features, np.float32)
    near = table.neighbours
    distances = np.asarray(1 - near.cosine, np.float32)
    columns = {name: pa.array(values, pa.string()) for name, values in table.texts.items()}
    columns["features"] = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
    columns["projection_x"], columns["projection_y"] = (pa.array(table.projection[:, axis]) for axis in (0, 1))
    # Row numbers of the nearest images and how far these are, as viewers ask for them.
    columns["neighbors"] = pa.array(
        [{"ids": ids, "distances": far} for ids, far in zip(near.place.tolist(), distances.tolist(), strict=True)],
        pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))]),
    )
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return {"": buffer.getvalue()}
