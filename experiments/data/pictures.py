"""Small pictures of images that have features: read again from where they lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from headstart.features.devices import cores
from headstart.features.images.decode import ImageError
from headstart.features.images.reader import Decoding, Pixels, open_reader, storage_order
from headstart.features.images.transform import Transform
from headstart.features.images.watch import MOST_LEFT, Decoders
from headstart.features.manifest.parts import Row
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
        positions = np.asarray(positions, np.int64)
        taken: list[Pixels | None] = [None] * len(positions)
        rows, pool = self._cached.rows, Decoders(cores(), MOST_LEFT)
        try:
            for number in np.unique(rows.dataset[positions]).tolist():
                places = np.flatnonzero(rows.dataset[positions] == number).tolist()
                dataset, columns = self._manifests[number].dataset, self._columns[number]
                wanted = [columns.row(index) for index in rows.index[positions[places]].tolist()]
                read = partial(_read, open_reader(dataset, transform))
                decoding = Decoding(wanted, transform.image_size, read, pool, storage_order(dataset, wanted))
                for i in decoding.good():
                    taken[places[i]] = decoding.images[i]
        finally:
            pool.shutdown(cancel_futures=True)
        self.missing += sum(pixels is None for pixels in taken)
        return taken


def _read(read: Callable[[Row], Pixels], row: Row) -> Pixels:
    try:
        return read(row)
    except ExplainedError as error:  # the disk that they lie on may not be there: a page without them says the rest
        raise ImageError("missing", str(error)) from None
