"""Small pictures of images for a page: read again from where they lie, each gone or broken one a grey square."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.devices import cores
from headstart.features.images.decode import ImageError
from headstart.features.images.reader import Pixels, open_reader
from headstart.features.images.transform import Transform
from headstart.features.images.watch import read_within
from headstart.features.manifest.parts import Row
from headstart.features.manifest.reading import Columns, open_manifest
from headstart.features.store.cached_features import CachedFeatures
from headstart.pipeline.errors import ExplainedError

_GREY = 128
_A_SHEET = 1024


@dataclass(frozen=True)
class Sheets:
    """Attributes:
    edge: of a tile in pixels.
    columns: tiles in a row of a sheet; of: tiles in a sheet, the last one apart.
    images: JPEG, base64.
    """

    edge: int
    columns: int
    of: int
    images: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        return {"edge": self.edge, "columns": self.columns, "of": self.of, "images": list(self.images)}


def tile_edge(count: int) -> int:
    """So that all tiles together stay within about 5 MB."""
    return 88 if count <= 700 else 64 if count <= 2500 else 32 if count <= 7000 else 24


class Pictures:
    """Pictures of a cache's rows, squares from the middle of each image."""

    def __init__(self, cached: CachedFeatures) -> None:
        self._cached = cached
        root = cached.workspace.root
        self._manifests = [open_manifest(root / name) for name in cached.rows.datasets]
        self._columns: list[Columns] = [manifest.read_all() for manifest in self._manifests]
        self.missing = 0

    def take(self, positions: NDArray[np.int64] | Sequence[int], edge: int) -> list[Pixels]:
        """(edge, edge, 3) of each."""
        readers = [self._reader(number, edge) for number in range(len(self._manifests))]
        with ThreadPoolExecutor(cores(), "thumbnail") as pool:
            taken = list(pool.map(partial(self._pixels, readers), map(int, positions)))
        self.missing += sum(pixels is None for pixels in taken)
        return [np.full((edge, edge, 3), _GREY, np.uint8) if pixels is None else pixels for pixels in taken]

    def _reader(self, number: int, edge: int) -> Any:
        transform = Transform((edge, edge), "bilinear", 1.0, "center", (0.5,) * 3, (0.5,) * 3, fast_decode=True)
        return open_reader(self._manifests[number].dataset, transform)

    def _pixels(self, readers: Sequence[Any], position: int) -> Pixels | None:
        rows = self._cached.rows
        number, index = int(rows.dataset[position]), int(rows.index[position])
        columns = self._columns[number]
        row = Row(
            columns.path[index], columns.label[index], "", "", int(columns.size[index]), int(columns.mtime_ns[index]), index=index
        )
        try:
            pixels: Pixels = read_within(lambda: readers[number](row))
            return pixels
        except (ImageError, ExplainedError):  # the disk that they lie on may not be there: a page without them says the rest
            return None


def jpeg(pixels: Pixels, quality: int = 78) -> str:
    """Base64."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def sheets_of(tiles: Sequence[Pixels], edge: int, columns: int = 32, quality: int = 72) -> Sheets:
    """Tiles side by side in as few JPEGs as decode quickly."""
    images = []
    for start in range(0, len(tiles), _A_SHEET):
        mine = tiles[start : start + _A_SHEET]
        rows = -(-len(mine) // columns)
        sheet = np.full((rows * edge, columns * edge, 3), _GREY, np.uint8)
        for number, tile in enumerate(mine):
            top, left = number // columns * edge, number % columns * edge
            sheet[top : top + edge, left : left + edge] = tile
        images.append(jpeg(sheet, quality))
    return Sheets(edge, columns, _A_SHEET, tuple(images))
