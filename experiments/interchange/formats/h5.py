"""One HDF5 file: `features` (n, d) float16, and a data set of text for each of path, label, split, group and digest."""

from __future__ import annotations

import io

from headstart.experiments.interchange.table import FeatureTable

IS_FOLDER = False
SUFFIX = ".h5"
NEEDS = ("h5py", "")


def files(table: FeatureTable) -> dict[str, bytes]:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=True) as file:
        file.create_dataset("features", data=table.features)
        for name, values in table.texts.items():
            # A NUL would end the text for every reader.
            written = [value.replace("\0", "\\x00") for value in values]
            file.create_dataset(name, data=written, dtype=h5py.string_dtype())
    return {"": buffer.getvalue()}
