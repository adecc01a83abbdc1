"""Images that are unpacked together, because they share chunks of an HDF5 file or a row group of Parquet: blocks.

A block is unpacked once and kept while its images are read; where not all of them fit into memory, images of few blocks follow
each other in a manifest.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

KEPT_BYTES = 256 << 20  # unpacked blocks that a reader keeps, unless a single one takes more
LARGEST_BYTES = 1 << 29  # of a single block that is kept whole
_WORTH_A_CALL = 4096  # values of one chunk: scattering them costs HDF5 more than reading them by themselves

K = TypeVar("K")
T = TypeVar("T")


class Blocks(Generic[K, T]):
    """The blocks that were asked for last, at most KEPT_BYTES of them or one. Many threads may ask at once."""

    def __init__(self, load: Callable[[K], T], size_of: Callable[[K], int]) -> None:
        """Args:
        load: unpacks the block of that key; called once for it as long as it is kept. Not kept if it raises.
        size_of: bytes that it takes then, known beforehand.
        """
        self._load = load
        self._size_of = size_of
        self._kept: dict[K, Future[T]] = {}  # the one that was asked for last stands last
        self._lock = Lock()

    def __getitem__(self, key: K) -> T:
        with self._lock:
            future = self._kept.pop(key, None)
            is_first = future is None
            if future is None:
                future = Future()
                self._make_room(key)
            self._kept[key] = future
        if is_first:
            try:
                future.set_result(self._load(key))
            except BaseException as error:
                with self._lock:
                    if self._kept.get(key) is future:
                        del self._kept[key]
                future.set_exception(error)
        return future.result()

    def _make_room(self, key: K) -> None:
        """Before a block is unpacked, so that it never takes memory beside those that it displaces."""
        left = KEPT_BYTES - self._size_of(key)
        for kept in reversed(list(self._kept)):
            left -= self._size_of(kept)
            if left < 0:
                del self._kept[kept]


def lots_of(block_of: Sequence[int], bytes_of: Sequence[int]) -> tuple[int, ...]:
    """For each image the number of its lot: few blocks, drawn at random, that fit into memory together; () if all do.

    Args:
        block_of: for each image its block, from 0 on.
        bytes_of: for each block how many bytes it takes unpacked.

    Of a manifest that goes through lots one after the other, a beginning is a sample as fair as the blocks allow, and a worker
    unpacks each block once.
    """
    if sum(bytes_of) <= KEPT_BYTES:
        return ()
    order = sorted(range(len(bytes_of)), key=lambda block: hashlib.blake2b(str(block).encode(), digest_size=8).digest())
    lot_of = [0] * len(order)
    lot, room = -1, 0
    for block in order:
        if bytes_of[block] > room:
            # Half of what is kept: where a job begins in one lot and ends in the next, both are there.
            lot, room = lot + 1, KEPT_BYTES // 2
        room -= bytes_of[block]
        lot_of[block] = lot
    return tuple(lot_of[block] for block in block_of)


def images_a_block(shape: Sequence[int], chunks: Sequence[int] | None) -> int:
    """How many images of an HDF5 data set of one byte a value are unpacked together.

    1 where each lies by itself, or where so many share their chunks that these are not kept.
    """
    if not chunks or chunks[0] * math.prod(shape[1:]) > LARGEST_BYTES:
        return 1
    return min(chunks[0], max(shape[0], 1))


def unpacked(images: Any, start: int, stop: int) -> NDArray[np.uint8]:
    """`images[start:stop]` of an HDF5 data set (n, h, w, 3) uint8, in half the time where a chunk holds parts of many images.

    HDF5 spreads a chunk over the images byte by byte, as h5py's default chunks hold one channel; here each is read as it lies,
    whatever its filters are, and numpy spreads it. Errors are h5py's own.
    """
    count, edges = min(stop, len(images)) - start, images.shape[1:]
    chunk = images.chunks and [min(*pair) for pair in zip(images.chunks[1:], edges, strict=True)]
    if not chunk or tuple(chunk) == edges or count * math.prod(chunk) < _WORTH_A_CALL:
        whole: NDArray[np.uint8] = images[start:stop]
        return whole
    pixels = np.empty((count, *edges), np.uint8)
    steps = zip(edges, chunk, strict=True)
    for corner in itertools.product(*(range(0, edge, step) for edge, step in steps)):
        part = tuple(slice(begin, begin + step) for begin, step in zip(corner, chunk, strict=True))
        pixels[:, *part] = images[start:stop, *part]
    return pixels
