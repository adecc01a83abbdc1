"""From a row of a manifest to the pixels an encoder takes, wherever the image lies: a file of its own, or an HDF5 file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import TryLaterError, as_try_later

from .dataset import Dataset
from .device_jpeg import open_decoder
from .images import ImageError, Transform, fit, read_file
from .parts import Row
from .reasons import reason_of

if TYPE_CHECKING:
    import h5py

Pixels = NDArray[np.uint8]


def open_reader(dataset: Dataset, transform: Transform, device: str = "cpu") -> Callable[[Row], Pixels]:
    """A function from a row to its pixels, (h, w, 3) uint8; many threads may call it at once. It raises ImageError.

    `device` and errors: see `device_jpeg.open_decoder`. The pixels of an HDF5 file are not encoded, and scaled by Pillow always.
    """
    root = Path(dataset.root)
    if dataset.layout == "hdf5":
        assert dataset.file is not None
        return _Hdf5Reader(root / dataset.file, transform)
    decode = open_decoder(transform, device)
    return lambda row: decode(read_file(root, row.path, row.size, row.mtime_ns, dataset.allow_symlinks))


class _Hdf5Reader:
    """Reads `images[i]` for rows named `file.h5#i`; h5py itself lets one thread in at a time."""

    def __init__(self, path: Path, transform: Transform) -> None:
        self._path = path
        self._transform = transform
        self._file: h5py.File | None = None

    def __call__(self, row: Row) -> Pixels:
        from PIL import Image

        return fit(Image.fromarray(self._stored(row)), self._transform)

    def _stored(self, row: Row) -> NDArray[Any]:
        import h5py

        try:
            facts = self._path.stat()
            if (facts.st_size, facts.st_mtime_ns) != (row.size, row.mtime_ns):
                raise ImageError("changed", f"{self._path.name} has changed since it was enqueued; enqueue it again")
            if self._file is None:
                self._file = h5py.File(self._path, "r")
            # Inside the try: a chunk is decompressed only now, and one that is damaged costs the images in it.
            pixels: NDArray[Any] = self._file["images"][int(row.path.rpartition("#")[2])]
            return pixels
        except FileNotFoundError:
            raise TryLaterError(f"{self._path} is gone. Is its disk mounted? Then run the same command again.") from None
        except (OSError, KeyError, RuntimeError) as error:  # a RuntimeError is what HDF5 has no better name for
            later = as_try_later(error, f"cannot read {self._path}") if isinstance(error, OSError) else None
            if later is not None:
                raise later from error
            raise ImageError("unreadable", f"{self._path.name}: {reason_of(error)}") from None
