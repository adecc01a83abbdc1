"""Small pictures of images that have features: read again from where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.devices import cores
from headstart.features.images.decode import ImageError
from headstart.features.images.reader import Pixels, open_reader
from headstart.features.images.transform import Transform
from headstart.features.images.watch import read_within
from headstart.features.manifest.reading import Columns, open_manifest
from headstart.features.store.cached_features import CachedFeatures
from headstart.pipeline.errors import ExplainedError

_GREY = 128


class Pictures:
    """Pictures of a cache's rows, squares from the middle of each image.

    Attributes:
        missing: how many could not be read so far.
    """

    def __init__(self, cached: CachedFeatures) -> None:
        self._cached = cached
        root = cached.workspace.root
        self._manifests = [open_manifest(root / name) for name in cached.rows.datasets]
        self._columns: list[Columns] = [manifest.read_all() for manifest in self._manifests]
        self.missing = 0

    def take(self, positions: NDArray[np.int64] | Sequence[int], edge: int) -> list[Pixels]:
        """(edge, edge, 3) uint8 of each; grey where there is none."""
        return [np.full((edge, edge, 3), _GREY, np.uint8) if p is None else p for p in self.take_readable(positions, edge)]

    def take_readable(self, positions: NDArray[np.int64] | Sequence[int], edge: int) -> list[Pixels | None]:
        """(edge, edge, 3) uint8 of each; None where the image is gone, broken or no image any more."""
        square = Transform((edge, edge), "bilinear", 1.0, "center", (0.5,) * 3, (0.5,) * 3, fast_decode=True)
        return self.as_encoded(positions, square)

    def as_encoded(self, positions: NDArray[np.int64] | Sequence[int], transform: Transform) -> list[Pixels | None]:
        """(h, w, 3) uint8 of each, as an encoder of that transform gets it; None where there is none any more."""
        readers = [open_reader(manifest.dataset, transform) for manifest in self._manifests]
        with ThreadPoolExecutor(cores(), "thumbnail") as pool:
            taken = list(pool.map(partial(self._pixels, readers), map(int, positions)))
        self.missing += sum(pixels is None for pixels in taken)
        return taken

    def _pixels(self, readers: Sequence[Any], position: int) -> Pixels | None:
        rows = self._cached.rows
        number, index = int(rows.dataset[position]), int(rows.index[position])
        row = self._columns[number].row(index)
        try:
            pixels: Pixels = read_within(lambda: readers[number](row))
            return pixels
        except (ImageError, ExplainedError):  # the disk that they lie on may not be there: a page without them says the rest
            return None
