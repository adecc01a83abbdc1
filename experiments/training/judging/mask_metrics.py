"""How good masks are: IoU, pixel accuracy, boundary F1 and confusion, each as sums over images, from which intervals come."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .metrics import Metric, Table, from_sums, mean

_TOLERANCE = 0.0075  # of the diagonal
_BITS = 64


def confusion(truth: NDArray[np.uint8], said: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """(classes, classes) pixels by true and said class; true values of `classes` or more (void) count nowhere."""
    known = truth < classes
    pairs = truth[known].astype(np.int64) * classes + said[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def boundary_f1(truth: NDArray[np.uint8], said: NDArray[np.uint8], classes: int, tolerance: int | None = None) -> float:
    """Mean over the classes that have a boundary in either mask of the F1 of boundary pixels; NaN if none has one.

    A boundary pixel of a class has a neighbour (4) of another class. It is right if the other mask has one of that class within
    `tolerance` pixels along both axes; None: 0.75 % of the diagonal. Void neither is nor makes a boundary.

    Csurka, Larlus & Perronnin, BMVC 2013; they measure distance as a disc, here it is a square.
    """
    if tolerance is None:
        tolerance = max(1, math.ceil(_TOLERANCE * math.hypot(*truth.shape)))
    known = truth < classes
    scores = []
    for first in range(0, classes, _BITS):  # a bit a class: all classes of 64 in one pass over the pixels
        count = min(_BITS, classes - first)
        wanted, claimed = (_boundaries(mask, known, first, count) for mask in (truth, said))
        near = [_bits(mask & _grown(other, tolerance), count) for mask, other in ((claimed, wanted), (wanted, claimed))]
        total = [_bits(mask, count) for mask in (claimed, wanted)]
        has_one = (total[0] > 0) | (total[1] > 0)
        precision, recall = (hit / np.maximum(1, of) for hit, of in zip(near, total, strict=True))
        f1 = 2 * precision * recall / np.maximum(1e-12, precision + recall)
        scores.extend(f1[has_one].tolist())
    return float(np.mean(scores)) if scores else math.nan


def _boundaries(mask: NDArray[np.uint8], known: NDArray[np.bool_], first: int, count: int) -> NDArray[np.uint64]:
    inside = known & (mask >= first) & (mask < first + count)
    flags = np.where(inside, np.uint64(1) << (mask.astype(np.int64) - first).clip(0, _BITS - 1).astype(np.uint64), np.uint64(0))
    result = np.zeros(mask.shape, np.uint64)
    for axis in (0, 1):
        ahead, behind = [slice(None)] * 2, [slice(None)] * 2
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        a, b = tuple(ahead), tuple(behind)
        differs = (mask[a] != mask[b]) & known[a] & known[b]
        result[a] |= np.where(differs, flags[a], np.uint64(0))
        result[b] |= np.where(differs, flags[b], np.uint64(0))
    return result


def _grown(flags: NDArray[np.uint64], reach: int) -> NDArray[np.uint64]:
    """Each pixel has the flags of all within `reach` along both axes."""
    grown = flags
    for axis in (0, 1):
        before = grown
        grown = before.copy()
        for shift in range(1, min(reach, before.shape[axis] - 1) + 1):
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            grown[tuple(ahead)] |= before[tuple(behind)]
            grown[tuple(behind)] |= before[tuple(ahead)]
    return grown


def _bits(flags: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    there = flags[flags != 0]
    return np.array([int((there >> np.uint64(bit) & np.uint64(1)).sum()) for bit in range(count)], np.int64)


def segmentation(
    confusions: NDArray[np.int64], boundaries: Sequence[float], names: Sequence[str], judged_by: str = "miou"
) -> Iterator[Metric | Table]:
    """Numbers of a split; those of the classes follow those of all.

    Args:
        confusions: (n, k, k), of each image.
        boundaries: (n,) boundary F1 of each image, NaN for none.
    """
    count = len(names)
    hits = np.diagonal(confusions, axis1=1, axis2=2).astype(np.float64)
    true, claimed = (confusions.sum(axis=axis).astype(np.float64) for axis in (2, 1))
    yield from_sums("miou", np.concatenate([hits, true + claimed - hits], axis=1), _mean_iou, judged_by=judged_by == "miou")
    yield from_sums("pixel_accuracy", np.stack([hits.sum(1), true.sum(1)], axis=1), _ratio)
    edges = np.asarray(boundaries, np.float64)
    if np.isfinite(edges).any():
        yield mean("boundary_f1", np.nan_to_num(edges), np.isfinite(edges))
    for code, name in enumerate(names):
        yield from_sums(f"iou_{name}", np.stack([hits[:, code], (true + claimed - hits)[:, code]], axis=1), _ratio)
    total = confusions.sum(axis=0)
    images = (true > 0).sum(axis=0)
    rows = {}
    for code in range(count):
        hit, of, said = int(total[code, code]), int(total[code].sum()), int(total[:, code].sum())
        rows[names[code]] = {
            "precision": hit / said if said else 0.0,
            "recall": hit / of if of else 0.0,
            "f1": 2 * hit / (of + said) if of + said else 0.0,
            "iou": hit / (of + said - hit) if of + said else 0.0,
            "images": int(images[code]),
        }
    yield Table("per_class", rows)
    yield Table("confusion_matrix", total.tolist())


def _ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def _mean_iou(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the classes that are true or said somewhere."""
    hits, union = np.split(sums, 2, axis=-1)
    there = union > 0
    return np.asarray(np.divide(hits, union, out=np.zeros_like(hits), where=there).sum(-1) / np.maximum(1, there.sum(-1)))


def class_colours(count: int) -> NDArray[np.uint8]:
    """(count, 3) RGB, the colours of PASCAL VOC from its first class on (black, its background, is none)."""
    codes = np.arange(1, count + 1)
    channels = [sum((codes >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
    return np.stack(channels, -1).astype(np.uint8)
