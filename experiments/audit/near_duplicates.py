"""Images that show one picture twice: features propose pairs, pixels decide.

A cosine of features alone also says "one picture" of two photos of one kind of thing; the small decoded images do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.pictures import Pictures
from headstart.features.images.reader import Pixels

from .neighbours import Neighbours

# What two pictures must agree in at least, in what is large, in what is fine, and in the sum of both. Of 875 planted copies of
# CIFAR-10 that are not exact 99.8 % do, and of 48 natural ones 46; photos of two hands before one wall come to 0.962 and 0.898.
# Neither alone leaves a margin: at 0.92 in what is fine 14 of the natural copies would be lost.
COARSE, FINE, TOGETHER = 0.95, 0.9, 1.875
LEAST_COSINE = 0.5  # of a pair that is looked at: below it only byte for byte copies were ever one picture
EDGE = 32  # pixels of the pictures that are compared
_SMOOTHINGS = 6  # what they take away is what is fine
_FLAT = 1.0  # root mean square, of 255, below which a picture has nothing to be compared
_PAIRS_AT_ONCE = 2048
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Copy:
    """Two images that show one picture.

    Attributes:
        first, second: places, first < second.
        cosine: of their features; NaN for a pair that features did not propose.
        likeness: correlation of the two small pictures, 1 for exact copies.
        how: 'exact' (byte for byte), 'mirrored', or 'alike'.
    """

    first: int
    second: int
    cosine: float
    likeness: float
    how: str


@dataclass(frozen=True)
class Copies:
    """Attributes:
    pairs: the most alike first.
    unread: images of proposed pairs that could not be read again, so that nobody knows.
    """

    pairs: tuple[Copy, ...]
    unread: int


def find_copies(neighbours: Neighbours, digests: Sequence[str], positions: NDArray[np.int64], pictures: Pictures) -> Copies:
    """Pairs among the rows at `positions` whose bytes are equal, or whose small pictures agree, mirrored ones included.

    Args:
        neighbours: of these rows. digests: of their bytes, '' where they are not known.
    """
    pairs = {pair: Copy(*pair, float("nan"), 1.0, "exact") for pair in _equal_bytes(digests)}
    proposed = [pair for pair in _proposed(neighbours) if pair[:2] not in pairs]
    looked_at = np.array(sorted({place for first, second, _ in proposed for place in (first, second)}), np.int64)
    pixels = pictures.take_readable(positions[looked_at], EDGE) if len(looked_at) else []
    of_place = {int(place): number for number, place in enumerate(looked_at)}
    known = np.array([picture is not None for picture in pixels], np.bool_)
    prints = _prints([np.zeros((EDGE, EDGE, 3), np.uint8) if picture is None else picture for picture in pixels])
    for start in range(0, len(proposed), _PAIRS_AT_ONCE):
        block = proposed[start : start + _PAIRS_AT_ONCE]
        one = np.array([of_place[first] for first, _, _ in block])
        two = np.array([of_place[second] for _, second, _ in block])
        likeness, is_mirrored, agrees = _agreement(prints, one, two)
        for number in np.flatnonzero(agrees & known[one] & known[two]).tolist():
            first, second, cosine = block[number]
            how = "mirrored" if is_mirrored[number] else "alike"
            pairs[first, second] = Copy(first, second, cosine, float(likeness[number]), how)
    ordered = sorted(pairs.values(), key=lambda pair: (pair.how != "exact", -pair.likeness, pair.first, pair.second))
    return Copies(tuple(ordered), int((~known).sum()))


def agree(one: Pixels, two: Pixels) -> bool:
    """Whether two pictures (EDGE, EDGE, 3) show the same, whatever their brightness and contrast, mirrored or not."""
    _, _, agrees = _agreement(_prints([one, two]), np.array([0]), np.array([1]))
    return bool(agrees[0])


def _equal_bytes(digests: Sequence[str]) -> list[tuple[int, int]]:
    """Each copy with the first of its bytes: n copies are n - 1 pairs."""
    first: dict[str, int] = {}
    return [(first[digest], place) for place, digest in enumerate(digests) if digest and first.setdefault(digest, place) != place]


def _proposed(neighbours: Neighbours) -> list[tuple[int, int, float]]:
    ranked = neighbours.cosine >= LEAST_COSINE
    rows, ranks = np.nonzero(ranked)
    others = neighbours.place[rows, ranks]
    cosines = {
        (int(min(row, other)), int(max(row, other))): float(cosine)
        for row, other, cosine in zip(rows, others, neighbours.cosine[rows, ranks], strict=True)
    }
    return [(*pair, cosine) for pair, cosine in sorted(cosines.items())]


@dataclass(frozen=True)
class _Prints:
    """What is left of pictures without brightness and contrast: float32 rows of length 1, or 0 if flat.

    Attributes:
        coarse: (n, 3 * EDGE * EDGE), each channel without its mean; fine: (n, EDGE * EDGE), grey, because JPEG keeps little of
            fine colour, without all that is larger than a few pixels.
    """

    coarse: _Floats
    fine: _Floats


def _prints(pixels: Sequence[Pixels]) -> _Prints:
    if not pixels:
        return _Prints(*(np.empty((0, channels * EDGE * EDGE), np.float32) for channels in (3, 1)))
    blocks: list[tuple[_Floats, _Floats]] = []
    for start in range(0, len(pixels), _PAIRS_AT_ONCE):
        smooth = _smoothed(np.asarray(pixels[start : start + _PAIRS_AT_ONCE], np.float32))
        grey = np.asarray(smooth @ _GREY, np.float32)[..., None]
        blurred = grey
        for _ in range(_SMOOTHINGS):
            blurred = _smoothed(blurred)
        blocks.append((_unit(smooth - smooth.mean(axis=(1, 2), keepdims=True)), _unit(grey - blurred, least=0.2)))
    return _Prints(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _agreement(
    prints: _Prints, one: NDArray[np.int64], two: NDArray[np.int64]
) -> tuple[_Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each pair: how alike, whether mirrored, and whether that is one picture."""
    mirror, grey_mirror = (np.arange(c * EDGE * EDGE).reshape(EDGE, EDGE, c)[:, ::-1].ravel() for c in (3, 1))
    coarse = np.stack([_products(prints.coarse[one], prints.coarse[two][:, order]) for order in (slice(None), mirror)])
    fine = np.stack([_products(prints.fine[one], prints.fine[two][:, order]) for order in (slice(None), grey_mirror)])
    agrees = (coarse >= COARSE) & (fine >= FINE) & (coarse + fine >= TOGETHER)
    better = np.where(agrees, coarse, -1.0).argmax(axis=0)
    chosen = np.arange(len(one))
    return coarse[better, chosen], better == 1, agrees[better, chosen]


def _products(one: _Floats, two: _Floats) -> _Floats:
    return np.asarray(np.einsum("nd,nd->n", one, two))


def _smoothed(images: _Floats) -> _Floats:
    """(n, h, w, c) with a binomial of three pixels, along rows and columns; edges repeat."""
    for axis in (1, 2):
        padded = np.pad(images, [(1, 1) if other == axis else (0, 0) for other in range(4)], mode="edge")
        before, same, after = (np.take(padded, range(start, start + images.shape[axis]), axis=axis) for start in range(3))
        images = np.asarray(0.25 * before + 0.5 * same + 0.25 * after, np.float32)
    return images


def _unit(images: _Floats, least: float = _FLAT) -> _Floats:
    rows = images.reshape(len(images), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    is_flat = lengths < least * np.sqrt(rows.shape[1])
    return np.asarray(np.where(is_flat, 0.0, rows / np.maximum(lengths, 1e-6)), np.float32)
