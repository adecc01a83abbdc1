"""Reads images that lie in Parquet files, by row groups: one is unpacked once and kept while its images are read."""

from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from headstart.features.arrays import DamagedArrays
from headstart.features.manifest.content import digest_of_bytes
from headstart.features.manifest.parts import Row
from headstart.features.manifest.reading import Dataset
from headstart.features.sources.blocks import Blocks
from headstart.features.sources.parquet import RowGroup, groups_of, open_parquet, read_group
from headstart.pipeline.errors import HeadstartError, SourceGoneError
from headstart.pipeline.text import reason_of

from .decode import ImageError, path_inside, raise_if_environment


class PictureReader:
    """A function from a row named `file.parquet#i` to the bytes of its image. Many threads may call it at once.

    It raises ImageError; SourceGoneError if the disk of the data is the problem.
    """

    def __init__(self, dataset: Dataset, note: Callable[[Row, str], None] | None) -> None:
        self._dataset = dataset
        self._column = dataset.roles["path"]
        self._note = note
        self._groups: dict[tuple[str, int, int], list[RowGroup]] = {}  # by path, size and time of a file
        self._opening = Lock()
        self._blocks: Blocks[tuple[str, RowGroup], list[Any] | DamagedArrays] = Blocks(self._block, lambda key: key[1].size)

    def __call__(self, row: Row) -> bytes:
        name, _, number = row.image.path.rpartition("#")
        name = self._dataset.file or name
        try:
            path = path_inside(Path(self._dataset.root), name, self._dataset.allow_symlinks)
            facts = Path(path).stat()
            is_touched = (facts.st_size, facts.st_mtime_ns) != (row.image.size, row.image.mtime_ns)
            if is_touched and not row.image.digest:
                raise ImageError("changed", f"{name} has changed since it was enqueued; enqueue it again")
            data = self._picture(path, facts.st_size, facts.st_mtime_ns, int(number))
        except FileNotFoundError:
            if not Path(self._dataset.root).is_dir() or self._dataset.file:
                raise SourceGoneError(
                    f"{Path(self._dataset.root) / name} is gone. Is its disk mounted? Then run the same command again."
                ) from None
            raise ImageError("missing", f"there is no file {name} any more") from None
        except (OSError, ValueError, KeyError, DamagedArrays, HeadstartError) as error:
            if isinstance(error, OSError):
                raise_if_environment(error, f"cannot read {name}")
            raise ImageError("unreadable", f"{name}: {reason_of(error)}") from None
        digest = digest_of_bytes(data) if is_touched or not row.image.digest else row.image.digest
        if is_touched and digest != row.image.digest:
            raise ImageError("changed", f"an image of {name} changed since it was enqueued; enqueue it again")
        if self._note is not None and not row.image.digest:
            self._note(row, digest)
        return data

    def _picture(self, path: str, size: int, mtime_ns: int, number: int) -> bytes:
        with self._opening:
            if (path, size, mtime_ns) not in self._groups:
                with open_parquet(Path(path)) as file:
                    self._groups[path, size, mtime_ns] = groups_of(file, self._column)
        groups = self._groups[path, size, mtime_ns]
        place = bisect_right(groups, number, key=lambda group: group.stop)
        if place == len(groups):
            raise ImageError("changed", "its row is no longer there; enqueue it again")
        group = groups[place]
        block = self._blocks[path, group]
        if isinstance(block, DamagedArrays):
            raise DamagedArrays(str(block))
        data: bytes | None = block[number - group.start].as_py()
        if data is None:
            raise ImageError("missing", "its row holds no picture")
        return data

    def _block(self, key: tuple[str, RowGroup]) -> list[Any] | DamagedArrays:
        """What is damaged is kept as such, so that it is not unpacked again for each of its rows."""
        path, group = key
        try:
            with open_parquet(Path(path)) as file:
                return read_group(file, self._column, group)
        except DamagedArrays as error:
            return error
