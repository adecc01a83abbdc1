"""The images of a source column by column: a million take a third of the memory that they take one by one."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from .source import Image

_DIGEST_BYTES = 16
_NO_DIGEST = bytes(_DIGEST_BYTES)


class Digests(Sequence[str]):
    """Digests of images, 16 bytes each instead of a text of 32 digits; what is no such text is kept as it is.

    Attributes:
        packed: the bytes of all; zeros where there is none or another text.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.packed = bytearray()
        self._others: dict[int, str] = {}
        self.extend(texts)

    def extend(self, texts: Iterable[str]) -> None:
        for place, text in enumerate(texts, len(self)):
            self.packed += _NO_DIGEST
            if text:
                self[place] = text

    @classmethod
    def none(cls, count: int) -> Digests:
        """Of images that were not read."""
        made = cls(())
        made.packed = bytearray(_DIGEST_BYTES * count)
        return made

    def __len__(self) -> int:
        return len(self.packed) // _DIGEST_BYTES

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            place = range(len(self))[place]
        packed = bytes(self.packed[_DIGEST_BYTES * place : _DIGEST_BYTES * (place + 1)])
        if packed == _NO_DIGEST:
            return self._others.get(place, "")
        return packed.hex()

    def __setitem__(self, place: int, text: str) -> None:
        packed = _packed(text)
        self.packed[_DIGEST_BYTES * place : _DIGEST_BYTES * (place + 1)] = packed
        self._others.pop(place, None)
        if text and packed == _NO_DIGEST:
            self._others[place] = text

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def are_distinct(self) -> bool:
        """Whether no two images have the same one; those without any do not count."""
        import numpy as np

        high, low = np.frombuffer(bytes(self.packed), np.uint64).reshape(-1, 2).T
        is_there = (high != 0) | (low != 0)
        high, low = high[is_there], low[is_there]
        order = np.lexsort((low, high))
        high, low = high[order], low[order]
        is_again = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
        return not is_again.any() and len(set(self._others.values())) == len(self._others)


def _packed(text: str) -> bytes:
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        return _NO_DIGEST
    return packed if len(packed) == _DIGEST_BYTES and packed.hex() == text else _NO_DIGEST


class ImageTable(Sequence[Image]):
    """Images, each made when it is asked for.

    Attributes:
        paths, labels, splits, groups, sizes, mtimes, digests: their columns; sizes and mtimes are int64.
    """

    def __init__(
        self,
        paths: list[str],
        labels: list[str],
        splits: list[str],
        groups: list[str],
        sizes: array[int],
        mtimes: array[int],
        extras: list[tuple[str, ...]] | None = None,
        digests: Digests | None = None,
    ) -> None:
        self.paths, self.labels, self.splits, self.groups = paths, labels, splits, groups
        self.sizes, self.mtimes, self._extras = sizes, mtimes, extras
        self.digests = Digests.none(len(paths)) if digests is None else digests

    @classmethod
    def of(cls, images: Iterable[Image]) -> ImageTable:
        """The table of these images."""
        table = cls([], [], [], [], array("q"), array("q"))
        extras, digests = list[tuple[str, ...]](), list[str]()
        for image in images:
            table.paths.append(image.path)
            table.labels.append(image.label)
            table.splits.append(image.split)
            table.groups.append(image.group)
            table.sizes.append(image.size)
            table.mtimes.append(image.mtime_ns)
            extras.append(image.extra)
            digests.append(image.digest)
        table._extras = extras if any(extras) else None
        table.digests = Digests(digests)
        return table

    def with_digests(self, digests: Digests) -> ImageTable:
        """The same images with these digests."""
        columns = self.paths, self.labels, self.splits, self.groups, self.sizes, self.mtimes
        return ImageTable(*columns, self._extras, digests)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> Image: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Image, ...]: ...
    def __getitem__(self, place: int | slice) -> Image | tuple[Image, ...]:
        if isinstance(place, slice):
            return tuple(self[i] for i in range(*place.indices(len(self))))
        if place < 0:
            place = range(len(self))[place]
        return Image(
            self.paths[place],
            self.labels[place],
            self.splits[place],
            self.groups[place],
            self.sizes[place],
            self.mtimes[place],
            () if self._extras is None else self._extras[place],
            self.digests[place],
        )

    def __iter__(self) -> Iterator[Image]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Image.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self):,} images>"


def table_of(images: Sequence[Image]) -> ImageTable:
    """`images` column by column."""
    return images if isinstance(images, ImageTable) else ImageTable.of(images)
