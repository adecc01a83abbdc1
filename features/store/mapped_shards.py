"""Arrays of shards that stay on disk: all bytes are read once and compared, then pages come when they are touched."""

from __future__ import annotations

import mmap

from headstart.features.arrays import DamagedArrays, NamedArrays, require_arrays, unpack_npz
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.markers import Marker

from .shards import REDO, require_rows_of


def map_finished(marker: Marker, name: str) -> NamedArrays:
    """The arrays of a job that is done, read-only, every byte as it was committed: `index` and `name`, an item a row.

    Raises: HeadstartError naming the file if it differs from its marker or has rows that are not the job's.
    """
    arrays = map_payload(marker)
    try:
        require_rows_of(marker, arrays, name)
    except DamagedArrays as error:
        raise HeadstartError(f"{marker.payload} cannot be read ({error}). {REDO}") from None
    return arrays


def map_payload(marker: Marker) -> NamedArrays:
    """As `map_finished`, whatever rows there are."""
    path = marker.payload_here()
    try:
        with environment_faults(f"cannot read {path}"), reading.opened(path, reading.PAYLOAD_BYTES) as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        arrays = unpack_npz(data, marker.sha256)
        require_arrays(arrays, marker.arrays)
    except (OSError, ValueError, reading.UnreadableError, DamagedArrays) as error:  # ValueError: it is empty
        raise HeadstartError(f"{path} cannot be read ({error}). {REDO}") from None
    return arrays
