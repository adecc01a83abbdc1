"""Rows of an image too large to be held: of a TIFF in tiles or strips only those that are asked for are read and decoded.

Some of its rows are made a small TIFF with the same tags and decoded as any other, so pixels are those of the whole to the bit,
whatever the compression.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .decode import ImageError, open_rgb, silence_pillow

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

LARGE_PIXELS = 2**24  # a smaller image is decoded at once
_PIXELS_AT_ONCE = 2**22  # that are decoded, unless a row of segments has more
_LINES_AT_ONCE = 64  # that Pillow hands over: it makes three copies of them
_MOST_PIXELS = 2**30  # of a mask that is held in memory
_MOST_SEGMENTS = 2**20
_MOST_SEGMENT_BYTES = 2**28
_WIDTH, _LENGTH, _BITS, _PLANAR, _SAMPLE_FORMAT = 256, 257, 258, 284, 339
_ROWS_PER_STRIP, _STRIP_OFFSETS, _STRIP_COUNTS = 278, 273, 279
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_LONG, _LONG8 = 4, 16  # types of a tag
# What decides how samples become pixels: compression, photometric, order of bits, samples, predictor, palette, extra samples,
# tables of JPEG, and how its colours are coded.
_KEPT = (_WIDTH, _BITS, 259, 262, 266, 277, _PLANAR, 317, 320, 338, _SAMPLE_FORMAT, 347, 529, 530, 531, 532)


@dataclass(frozen=True)
class Bands:
    """An image of `height` x `width` pixels; `rows(top, bottom)` gives (bottom - top, width, 3) uint8 of it."""

    height: int
    width: int
    rows: Callable[[int, int], NDArray[np.uint8]]


def open_bands(file: BinaryIO) -> Bands | None:
    """The image in `file`, which stays open meanwhile, if it is a large TIFF that can be read in parts; None for any other.

    It can if samples have 8 bits (others are scaled by what the whole holds) and lie together.
    Raises: ImageError if it is larger than a mask may be; `rows` raises it where the part is damaged.
    """
    directory = _directory(file)
    if directory is None:
        return None
    try:
        width, height = int(directory[_WIDTH]), int(directory[_LENGTH])
        is_tiled = _TILE_OFFSETS in directory
        offsets = directory[_TILE_OFFSETS if is_tiled else _STRIP_OFFSETS]
        counts = directory[_TILE_COUNTS if is_tiled else _STRIP_COUNTS]
        tall = int(directory[_TILE_LENGTH] if is_tiled else directory.get(_ROWS_PER_STRIP, height))
        across = -(-width // int(directory[_TILE_WIDTH])) if is_tiled else 1
        is_plain = set(directory.get(_BITS, (1,))) == {8} and directory.get(_PLANAR, 1) == 1
        is_plain &= set(directory.get(_SAMPLE_FORMAT, (1,))) == {1}
        is_whole = len(offsets) == len(counts) == across * -(-height // tall) <= _MOST_SEGMENTS
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None  # decoding the whole says what is wrong with it
    if not (is_plain and is_whole and 0 < tall < height and width * height > LARGE_PIXELS):
        return None
    if width * height > _MOST_PIXELS:
        raise ImageError("too_large", f"{width} x {height} pixels; at most {_MOST_PIXELS:,} are segmented")

    step = max(1, _PIXELS_AT_ONCE // (tall * width))  # rows of segments

    def decoded(first: int, end: int) -> PillowImage:
        """Of rows of segments."""
        part = slice(first * across, end * across)
        lines = min(end * tall, height) - first * tall
        return open_rgb(_small_tiff(file, directory, is_tiled, lines, offsets[part], counts[part]))

    def rows(top: int, bottom: int) -> NDArray[np.uint8]:
        pixels = np.empty((bottom - top, width, 3), np.uint8)
        last = -(-bottom // tall)
        for first in range(top // tall, last, step):
            image = decoded(first, min(first + step, last))
            begin = first * tall
            stop = min(begin + image.height, bottom)
            for line in range(max(begin, top), stop, _LINES_AT_ONCE):
                end = min(line + _LINES_AT_ONCE, stop)
                pixels[line - top : end - top] = np.asarray(image.crop((0, line - begin, width, end - begin)))
            del image  # before the next is decoded
        return pixels

    return Bands(height, width, rows)


def _directory(file: BinaryIO) -> ImageFileDirectory_v2 | None:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    silence_pillow()
    file.seek(0)
    head = file.read(8)
    if head.startswith((b"II+\0", b"MM\0+")):  # of files beyond 4 GB
        head += file.read(8)
    elif not head.startswith((b"II*\0", b"MM\0*")):
        return None
    try:
        directory = ImageFileDirectory_v2(head)
        file.seek(directory.next)
        directory.load(file)
    except Exception:  # decoding the whole says what is wrong with it
        return None
    return directory


def _small_tiff(
    file: BinaryIO, directory: ImageFileDirectory_v2, is_tiled: bool, height: int, offsets: Any, counts: Any
) -> bytes:
    """A TIFF of `height` rows that holds the segments at `offsets`, `counts` bytes long, and no other."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    segments = []
    for offset, count in zip(offsets, counts, strict=True):
        if not 0 <= count <= _MOST_SEGMENT_BYTES:
            raise ImageError("truncated", f"a tile or strip of {count} bytes")
        file.seek(offset)
        segments.append(file.read(count))
        if len(segments[-1]) != count:
            raise ImageError("truncated", f"a tile or strip ends {count - len(segments[-1]):,} bytes early")
    small = ImageFileDirectory_v2((b"II*\0" if directory.prefix == b"II" else b"MM\0*") + bytes(4))
    for tag in (*_KEPT, *((_TILE_WIDTH, _TILE_LENGTH) if is_tiled else (_ROWS_PER_STRIP,))):
        if tag in directory:
            small.tagtype[tag] = _LONG if directory.tagtype[tag] == _LONG8 else directory.tagtype[tag]
            small[tag] = directory[tag]
    small[_LENGTH] = height
    place, sizes = (_TILE_OFFSETS, _TILE_COUNTS) if is_tiled else (_STRIP_OFFSETS, _STRIP_COUNTS)
    lengths = [len(segment) for segment in segments]
    small.tagtype[place] = small.tagtype[sizes] = _LONG
    small[sizes] = tuple(lengths)
    small[place] = tuple([0] * len(lengths))
    begin = len(_written(small)) if is_tiled else 0  # tags take the same room whatever they say; Pillow adds it to strips
    small[place] = tuple(begin + sum(lengths[:number]) for number in range(len(lengths)))
    return _written(small) + b"".join(segments)


def _written(directory: ImageFileDirectory_v2) -> bytes:
    buffer = io.BytesIO()
    directory.save(buffer)
    return buffer.getvalue()
