"""From a row of a manifest to the pixels an encoder takes, wherever the image lies: a file of its own, or an HDF5 file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset
from .images import ImageError, Transform, decode, fit, read_file
from .parts import Row

if TYPE_CHECKING:
    import h5py

Pixels = NDArray[np.uint8]


def open_reader(dataset: Dataset, transform: Transform) -> Callable[[Row], Pixels]:
    """A function from a row to its pixels, (h, w, 3) uint8; many threads may call it at once. It raises ImageError."""
    root = Path(dataset.root)
    if dataset.layout == "hdf5":
        assert dataset.file is not None
        return _Hdf5Reader(root / dataset.file, transform)
    return lambda row: decode(read_file(root, row.path, row.size, row.mtime_ns, dataset.allow_symlinks), transform)


class _Hdf5Reader:
    """Reads `images[i]` for rows named `file.h5#i`; h5py itself lets one thread in at a time."""

    def __init__(self, path: Path, transform: Transform) -> None:
        self._path = path
        self._transform = transform
        self._file: h5py.File | None = None

    def __call__(self, row: Row) -> Pixels:
        from PIL import Image

        pixels: NDArray[Any] = self._images(row)[int(row.path.rpartition("#")[2])]
        return fit(Image.fromarray(pixels), self._transform)

    def _images(self, row: Row) -> Any:
        import h5py

        try:
            facts = self._path.stat()
            if (facts.st_size, facts.st_mtime_ns) != (row.size, row.mtime_ns):
                raise ImageError("changed", f"{self._path.name} has changed since it was enqueued; enqueue it again")
            if self._file is None:
                self._file = h5py.File(self._path, "r")
            return self._file["images"]
        except FileNotFoundError:
            raise ImageError("missing", f"{self._path.name} is gone") from None
        except (OSError, KeyError) as error:
            raise ImageError("unreadable", f"{self._path.name}: {error}".splitlines()[0]) from None
