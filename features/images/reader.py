"""From rows of a manifest to pixels, wherever the images lie: one row at a time, or a job's rows ahead in a pool of threads."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.arrays import DamagedArrays, hdf5_dataset
from headstart.features.manifest.content import digest_of_bytes, digest_of_pixels
from headstart.features.manifest.parts import Row
from headstart.features.manifest.reading import Dataset
from headstart.features.sources.blocks import KEPT_BYTES, Blocks, images_a_block, unpacked
from headstart.pipeline.errors import ItemHung, SourceGoneError
from headstart.pipeline.text import printable, reason_of

from .decode import ImageError, open_decoder, open_rgb, raise_if_environment, read_file, require_decodable
from .transform import Transform, fit
from .watch import TICK_S, Decoders, Effort, picture_seconds, too_long

if TYPE_CHECKING:
    import h5py
    from PIL.Image import Image as PillowImage

_CACHE_SLOTS = 100_003  # a prime, as HDF5 asks for

Pixels = NDArray[np.uint8]


def open_reader(
    dataset: Dataset, transform: Transform, device: str = "cpu", note: Callable[[Row, str], None] | None = None
) -> Callable[[Row], Pixels]:
    """A function from a row to its pixels, (h, w, 3) uint8; many threads may call it at once. It raises ImageError.

    `note` is told the digest of each row that has none yet, as soon as its bytes were read.
    `device` and errors: see `decode.open_decoder`. The pixels of an HDF5 file are not encoded, and scaled by Pillow always.
    """
    if dataset.layout == "hdf5":
        assert dataset.file is not None
        return _Hdf5Reader(Path(dataset.root) / dataset.file, transform, note)
    decode = open_decoder(transform, device)
    if dataset.layout == "parquet":
        from .pictures import PictureReader

        picture = PictureReader(dataset, note)
        return lambda row: decode(picture(row))

    def read(row: Row) -> Pixels:
        data = _bytes_of(row, dataset)
        if note is not None and not row.image.digest:
            note(row, digest_of_bytes(data))
        return decode(data)

    return read


def _bytes_of(row: Row, dataset: Dataset) -> bytes:
    image = row.image
    return read_file(Path(dataset.root), image.path, image.size, image.mtime_ns, dataset.allow_symlinks, image.digest)


def open_whole_reader(dataset: Dataset, is_turned: bool = False) -> "Callable[[Row], PillowImage]":
    """A function from a row to its image as it is, RGB, for whoever cuts and scales it otherwise. It raises ImageError.

    Args: is_turned: as its EXIF orientation says.
    """
    if dataset.layout == "hdf5":
        from PIL import Image

        assert dataset.file is not None
        stored = _Hdf5Reader(Path(dataset.root) / dataset.file, None, None).stored
        return lambda row: Image.fromarray(stored(row))
    if dataset.layout == "parquet":
        from .pictures import PictureReader

        picture = PictureReader(dataset, None)
        return lambda row: open_rgb(picture(row), is_turned)
    return lambda row: open_rgb(_bytes_of(row, dataset), is_turned)


class _Hdf5Reader:
    """Reads `images[i]` for rows named `file.h5#i`; h5py itself lets one thread in at a time."""

    def __init__(self, path: Path, transform: Transform | None, note: Callable[[Row, str], None] | None) -> None:
        self._path = path
        self._note = note
        self._transform = transform
        self._file: h5py.File | None = None
        self._opening = Lock()
        self._step = 1  # images a block
        self._blocks: Blocks[int, NDArray[Any] | None] | None = None

    def __call__(self, row: Row) -> Pixels:
        from PIL import Image

        assert self._transform is not None
        return fit(Image.fromarray(self.stored(row)), self._transform)

    def stored(self, row: Row) -> NDArray[Any]:
        import h5py

        try:
            facts = self._path.stat()
            is_touched = (facts.st_size, facts.st_mtime_ns) != (row.image.size, row.image.mtime_ns)
            if is_touched and not row.image.digest:
                raise ImageError("changed", f"{self._path.name} has changed since it was enqueued; enqueue it again")
            with self._opening:
                if self._file is None:
                    # HDF5's own cache serves only chunks that too many images share; the others are in blocks.
                    self._file = h5py.File(self._path, "r", rdcc_nbytes=KEPT_BYTES, rdcc_nslots=_CACHE_SLOTS)
            images = hdf5_dataset(self._file, "images")
            require_decodable(images.shape[2], images.shape[1])
            # Inside the try: a chunk is decompressed only now, and one that is damaged costs the images in it.
            pixels = self._pixels(images, int(row.image.path.rpartition("#")[2]))
        except DamagedArrays as error:
            raise ImageError("unreadable", f"{self._path.name}: {reason_of(error)}") from None
        except FileNotFoundError:
            raise SourceGoneError(f"{self._path} is gone. Is its disk mounted? Then run the same command again.") from None
        # A RuntimeError is what HDF5 has no better name for.
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, OSError):
                raise_if_environment(error, f"cannot read {self._path}")
            raise ImageError("unreadable", f"{self._path.name}: {reason_of(error)}") from None
        if is_touched and digest_of_pixels(pixels) != row.image.digest:
            raise ImageError("changed", f"an image of {self._path.name} changed since it was enqueued; enqueue it again")
        if self._note is not None and not row.image.digest:
            self._note(row, digest_of_pixels(pixels))
        return pixels

    def _pixels(self, images: Any, number: int) -> NDArray[Any]:
        with self._opening:
            if self._blocks is None:
                self._step = images_a_block(images.shape, images.chunks)
                block_bytes = self._step * math.prod(images.shape[1:])
                self._blocks = Blocks(lambda block: self._block(images, block), lambda block: block_bytes)
        block = self._blocks[number // self._step] if self._step > 1 else None
        pixels: NDArray[Any] = unpacked(images, number, number + 1)[0] if block is None else block[number % self._step]
        return pixels

    def _block(self, images: Any, block: int) -> NDArray[Any] | None:
        """None if one of its chunks is damaged: then each image is read by itself, and those without it are whole."""
        try:
            return unpacked(images, block * self._step, (block + 1) * self._step)
        except (OSError, RuntimeError) as error:
            if isinstance(error, OSError):
                raise_if_environment(error, f"cannot read {self._path}")
            return None


def storage_order(dataset: Dataset, rows: Sequence[Row]) -> list[int] | None:
    """Positions of rows as they lie in HDF5 or Parquet, so that what holds several is unpacked once; None for other data."""
    return sorted(range(len(rows)), key=lambda i: rows[i].image.path) if dataset.layout in ("hdf5", "parquet") else None


class Decoding:
    """Rows on their way to pixels. Making one starts the work in `pool` and returns at once.

    A picture that is decoded for longer than `picture_seconds` is given up if `pool` can leave its thread behind.

    Attributes:
        rows: as given.
        images: (n, h, w, 3) uint8; row i holds the pixels of `rows[i]` once `good` has named i.
        errors: by position in `rows`, why an image has no pixels; complete once `good` has ended.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        size: tuple[int, int],
        read: Callable[[Row], NDArray[np.uint8]],
        pool: Executor,
        order: Sequence[int] | None = None,
    ) -> None:
        """Args: order: positions in the order in which to read them, see `storage_order`; None for that of the rows."""
        self.rows = rows
        self.images = np.empty((len(rows), *size, 3), np.uint8)
        self.errors: dict[int, ImageError] = {}
        self._read = read
        self._decoders = pool if isinstance(pool, Decoders) else None
        self._efforts: dict[int, Effort] = {}
        self._limit_s = picture_seconds()
        outcomes: dict[int, Future[ImageError | None]] = {}
        for i in range(len(rows)) if order is None else order:
            outcomes[i] = pool.submit(self._fill, i)
        self._outcomes = [outcomes[i] for i in range(len(rows))]

    def good(self) -> Iterator[int]:
        """Positions of the images that decoded, in order, each as soon as it is there.

        Raises: what `read` raised, ImageError apart; ItemHung if a picture takes too long and its thread cannot be left behind.
        """
        for i, outcome in enumerate(self._outcomes):
            error = self._outcome(i, outcome)
            if error is None:
                yield i
            else:
                self.errors[i] = error

    def _outcome(self, i: int, outcome: "Future[ImageError | None]") -> ImageError | None:
        while True:
            try:
                return outcome.result(timeout=TICK_S)
            except TimeoutError:
                if outcome.done():
                    return outcome.result()
            effort = self._efforts.get(i)
            if effort is None or not effort.is_beyond(self._limit_s):
                continue
            error = too_long(self._limit_s)
            if self._decoders is None:
                raise ItemHung(f"{printable(self.rows[i].image.path)}: {error.reason}")
            self._decoders.leave_behind()
            return error

    def _fill(self, i: int) -> ImageError | None:
        self._efforts[i] = Effort()
        try:
            self.images[i] = self._read(self.rows[i])
        except ImageError as error:
            return error
        return None
