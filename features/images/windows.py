"""Windows over images of any size: where they begin, how large an image is, and the pixels of one window of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headstart.features.manifest.digests import digest_of_file
from headstart.features.manifest.parts import Row
from headstart.features.manifest.patch_versions import PatchVersion
from headstart.features.manifest.patches import Patches, Window
from headstart.features.manifest.reading import Dataset
from headstart.features.sources.blocks import KEPT_BYTES, Blocks
from headstart.pipeline.errors import HeadstartError

from .bands import LARGE_PIXELS, Bands, open_bands
from .decode import ImageError, opened_file, path_inside, size_in
from .reader import open_whole_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from PIL.Image import Image as PillowImage

_Block = tuple[int, int, int, int]  # row of the image, its width, first and last row of pixels


def window_starts(length: int, window: int, overlap: int) -> list[int]:
    """Where windows begin along an axis: each `window - overlap` after the last, the final one shifted back to end at `length`.

    Raises: HeadstartError if the overlap leaves no step.
    """
    if not 0 <= overlap < window:
        raise HeadstartError(f"an overlap of {overlap} in windows of {window} leaves no step. Give one from 0 to {window - 1}")
    if length <= window:
        return [0]
    starts = list(range(0, length - window, window - overlap))
    return [*starts, length - window]


def windows_of(height: int, width: int, size: int, overlap: int) -> list[Window]:
    """Squares of `size` over an image, row by row; of an image that is smaller along an axis, all of it. Raises: as above."""
    return [
        Window(left, top, min(size, width), min(size, height))
        for top in window_starts(height, size, overlap)
        for left in window_starts(width, size, overlap)
    ]


def require_windows(version: PatchVersion, patches: Patches, others: Container[int]) -> None:
    """Raises: HeadstartError unless each image has all its windows, row by row of them, and is none of `others` (rows)."""
    size, overlap = version.setting.size, version.setting.overlap
    begins = np.flatnonzero(np.diff(patches.parent, prepend=-1)).tolist()
    seen = set[int]()
    expected: dict[tuple[int, int], NDArray[np.int64]] = {}
    for begin, end in zip(begins, [*begins[1:], len(patches)], strict=True):
        row, (height, width) = int(patches.parent[begin]), map(int, patches.sizes[begin])
        if row in others or row in seen:
            raise HeadstartError(
                f"{version.source} has patches of row {row} of the data, which has some already. {version.remedy}"
            )
        seen.add(row)
        is_as_cut = (patches.sizes[begin:end] == (height, width)).all()
        if is_as_cut and (height, width) not in expected:
            is_as_cut = _count(height, size, overlap) * _count(width, size, overlap) == end - begin  # before they are listed
            if is_as_cut:
                expected[height, width] = np.array(windows_of(height, width, size, overlap), np.int64)
        if not is_as_cut or not np.array_equal(patches.windows[begin:end], expected[height, width]):
            raise HeadstartError(f"{version.source} is damaged (row {row} of the data is not cut as it says). {version.remedy}")


def _count(length: int, window: int, overlap: int) -> int:
    """Of `window_starts`."""
    return 1 if length <= window else 1 + -(-(length - window) // (window - overlap))


def size_of_image(root: Path, relative: str, allow_symlinks: bool, is_turned: bool = False) -> tuple[int, int]:
    """(height, width) by its header; no pixel is decoded. Args: is_turned: as its EXIF orientation says.

    Raises: ImageError if it is away or no image; SourceGoneError as `read_file`.
    """
    with opened_file(root, relative, allow_symlinks) as file:
        bands = open_bands(file)
        if bands is not None:
            return bands.height, bands.width
        file.seek(0)
        return size_in(file, is_turned)


def kept_bytes(patches: Patches) -> int:
    """That a `WindowReader` of these patches holds at most."""
    _, first = np.unique(patches.parent, return_index=True)
    areas = 3 * np.prod(patches.sizes[first], axis=1)
    decoded_whole = areas[areas <= 3 * LARGE_PIXELS]
    return max(min(int(areas.sum()), KEPT_BYTES), int(decoded_whole.max(initial=0)))


class WindowReader:
    """From a row of a manifest and a window to its pixels, (size, size, 3) uint8. Many threads may call it at once.

    What was decoded last is kept while other windows of it are asked for; of a large TIFF in tiles or strips only the rows of a
    window. An image smaller than a window goes on at its right and lower edge as it ends there.
    It raises ImageError; SourceGoneError if the disk of the data is the problem.
    """

    def __init__(self, dataset: Dataset, size: int) -> None:
        self._dataset, self._size = dataset, size
        self._whole: Callable[[Row], PillowImage] = open_whole_reader(dataset)
        self._rows: dict[int, Row] = {}
        self._unchanged: set[int] = set()
        self._blocks: Blocks[_Block, NDArray[np.uint8]] = Blocks(self._decoded, lambda key: (key[3] - key[2]) * key[1] * 3)

    def __call__(self, row: Row, window: Window, image_size: tuple[int, int]) -> NDArray[np.uint8]:
        """Args: image_size: (height, width) that the image had when the window was chosen."""
        height, width = image_size
        self._rows[row.index] = row
        in_parts = height * width > LARGE_PIXELS and row.image.path.lower().endswith((".tif", ".tiff"))
        top, bottom = (window.y, window.y + window.height) if in_parts else (0, height)
        rows = self._blocks[row.index, width, top, bottom]
        part = rows[window.y - top : window.y - top + window.height, window.x : window.x + window.width]
        short = [(0, self._size - length) for length in part.shape[:2]]
        return np.pad(part, (*short, (0, 0)), mode="edge") if any(after for _, after in short) else part

    def _decoded(self, key: _Block) -> NDArray[np.uint8]:
        index, width, top, bottom = key
        row = self._rows[index]
        pixels = self._rows_of_bands(row, top, bottom) if row.image.path.lower().endswith((".tif", ".tiff")) else None
        if pixels is None:
            pixels = np.asarray(self._whole(row))[top:bottom]
        if pixels.shape[:2] != (bottom - top, width):
            raise ImageError("changed", "its size is no longer that of its patches; enqueue it again")
        return pixels

    def _rows_of_bands(self, row: Row, top: int, bottom: int) -> NDArray[np.uint8] | None:
        """Of a large TIFF; None for any other image."""
        image = row.image
        with opened_file(Path(self._dataset.root), image.path, self._dataset.allow_symlinks) as file:
            bands: Bands | None = open_bands(file)
            if bands is None:
                return None
            facts = os.fstat(file.fileno())
            is_known = row.index in self._unchanged or (facts.st_size, facts.st_mtime_ns) == (image.size, image.mtime_ns)
            if not is_known:
                path = path_inside(Path(self._dataset.root), image.path, self._dataset.allow_symlinks)
                digest = digest_of_file(path, facts.st_size, facts.st_mtime_ns)
                if not digest or digest != image.digest:
                    raise ImageError("changed", "it is no longer what was enqueued; enqueue it again")
            self._unchanged.add(row.index)
            if bottom > bands.height:
                raise ImageError("changed", "its size is no longer that of its patches; enqueue it again")
            with contextlib.suppress(MemoryError):
                return bands.rows(top, bottom)
        raise ImageError("too_large", f"{bottom - top} rows of {row.image.path} do not fit into memory")
