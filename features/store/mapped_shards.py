"""Arrays of shards without reading them: an uncompressed NPZ holds each as it is, so it can be mapped."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError

_LOCAL_HEADER = 30  # bytes of a zip's local file header before name and extra field
_NAME_LENGTH, _EXTRA_LENGTH = slice(26, 28), slice(28, 30)


def map_array(path: Path, name: str) -> NDArray[Any]:
    """The array `name` of the NPZ at `path`, read-only; pages are read when they are touched.

    Raises: HeadstartError if the file is damaged, compressed or has no such array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{name}.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError("compressed")
        with path.open("rb") as file:
            file.seek(member.header_offset)
            header = file.read(_LOCAL_HEADER)
            lengths = (int.from_bytes(header[part], "little") for part in (_NAME_LENGTH, _EXTRA_LENGTH))
            file.seek(member.header_offset + _LOCAL_HEADER + sum(lengths))
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, is_fortran, dtype = read(file)
            if is_fortran or dtype.hasobject:
                raise ValueError("not a plain array")
            if not np.prod(shape):
                return np.empty(shape, dtype)
            return np.memmap(path, dtype, "r", file.tell(), shape)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise HeadstartError(f"{path} cannot be read ({error}). Redo it: headstart verify --deep --repair") from None
