"""Which row of a manifest an image is: an image is its bytes, wherever it lies and whatever it is called.

Where no digest is known, an image is known by its path, size and time, and a moved one by its name, size and time.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

from headstart.features.sources.image_table import table_of
from headstart.features.sources.source import MISSING, Image

from .reading import Columns

NO_ROW = -1
_ANY_NAME = "/"  # no name of a file


@dataclass(frozen=True)
class Matching:
    """Attributes:
    rows: for each image the row that it is, NO_ROW if it was never seen. No row stands twice.
    changed: images (positions) at whose path a live row has other bytes.
    """

    rows: list[int]
    changed: frozenset[int]


def match_images(images: Sequence[Image], before: Columns) -> Matching:
    """The row of each image: first those that lie where they lay, then those that moved or came back.

    Of equal copies those keep their rows that lie where they lay; the others are given out by name, then in order.
    """
    if not before.path:
        return Matching([NO_ROW] * len(images), frozenset())
    at_path, table = before.row_at, table_of(images)
    there = list(map(at_path.get, table.paths, repeat(NO_ROW)))
    if NO_ROW not in there and all(map(_is_known, table.digests, map(before.digest.__getitem__, there))):
        return Matching(there, frozenset())  # the usual case, in a tenth of the time
    rows = [NO_ROW] * len(images)
    taken = set()
    for i, image in enumerate(images):
        row = at_path.get(image.path)
        if row is not None and (image.size == MISSING or _is_same(image, before, row)):
            rows[i] = row
            taken.add(row)
    if any(row == NO_ROW for row in rows):
        _match_moved(images, before, rows, taken)
    changed = {
        i
        for i, image in enumerate(images)
        if rows[i] == NO_ROW and (row := at_path.get(image.path)) is not None and row not in taken and before.live[row]
    }
    return Matching(rows, frozenset(changed))


def sizes_and_times(images: Sequence[Image]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Size and mtime_ns of each image, int64 (n,)."""
    table = table_of(images)
    return np.array(table.sizes, np.int64), np.array(table.mtimes, np.int64)


def _is_known(digest: str, before: str) -> bool:
    return digest == before != ""


def _is_same(image: Image, before: Columns, row: int) -> bool:
    if image.digest and before.digest[row]:
        return image.digest == before.digest[row]
    return (image.size, image.mtime_ns) == (before.size[row], before.mtime_ns[row])


def _match_moved(images: Sequence[Image], before: Columns, rows: list[int], taken: set[int]) -> None:
    # The best row stands last in each list: one that counts, then one that is not retired, then the oldest.
    free = [row for row in range(len(before.path)) if row not in taken]
    free.sort(key=lambda row: (bool(before.live[row]), not before.retired[row], -row))
    by_bytes: dict[tuple[str, str], list[int]] = defaultdict(list)
    by_facts: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    for row in free:
        name = _name(before.path[row])
        if before.digest[row]:
            by_bytes[before.digest[row], name].append(row)
            by_bytes[before.digest[row], _ANY_NAME].append(row)
        elif before.size[row] != MISSING:
            by_facts[name, int(before.size[row]), int(before.mtime_ns[row])].append(row)
    lost = [i for i, row in enumerate(rows) if row == NO_ROW and images[i].size != MISSING]
    for needs_name in (True, False):
        for i in lost:
            candidates = by_bytes.get((images[i].digest, _name(images[i].path) if needs_name else _ANY_NAME), [])
            while rows[i] == NO_ROW and candidates:
                row = candidates.pop()
                if row not in taken:
                    rows[i] = row
                    taken.add(row)
    alike: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    for i in lost:
        if rows[i] == NO_ROW:
            alike[_name(images[i].path), images[i].size, images[i].mtime_ns].append(i)
    for facts, positions in alike.items():
        # Only where there is no doubt: time stamps of an unpacked archive are coarse, and two images may share all three.
        if len(positions) == 1 and len(by_facts.get(facts, ())) == 1:
            rows[positions[0]] = by_facts[facts][0]
            taken.add(rows[positions[0]])


def _name(path: str) -> str:
    return path.rpartition("/")[2]
