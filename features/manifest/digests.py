"""Digests of images: what they are known by. Files are read once; time and size are enough to trust a digest that is known."""

import contextlib
import csv
import hashlib
import math
import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BufferedWriter
from itertools import repeat
from pathlib import Path

import numpy as np

from headstart.features.arrays import DamagedArrays
from headstart.features.devices import cores
from headstart.features.sources.blocks import LARGEST_BYTES, images_a_block, unpacked
from headstart.features.sources.image_table import Digests, ImageTable, table_of
from headstart.features.sources.parquet import groups_of, open_parquet, read_group
from headstart.features.sources.source import MISSING, Image, Source
from headstart.features.sources.walk import join
from headstart.pipeline import paths
from headstart.pipeline.doors import reading, records
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import unescape
from headstart.pipeline.workspace import Workspace

from .content import DIGEST_BYTES, digest_of_bytes, digest_of_pixels
from .csv_lines import fields, line_of
from .image_matching import NO_ROW, sizes_and_times
from .reading import Columns

_CHUNK = 1 << 20
_LOT = 256  # files a task of the pool
_LARGEST = 2**30  # no larger image is decoded either
_JUDGED_AFTER_S = 2.0
_WORTH_S = 60.0
_KEPT_EVERY_S = 1.0


def digest_of_file(path: str, size: int, mtime_ns: int) -> str:
    """Of a regular file with that size and time; '' if it is none, cannot be read, or changes meanwhile."""
    try:
        # Asked before opening, because opening alone can act: it wakes the writer of a FIFO and rewinds a tape.
        if not stat.S_ISREG(os.stat(path).st_mode) or size > _LARGEST:  # noqa: PTH116  (Path's costs as much as the call)
            return ""
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
            length = 0
            while block := os.read(descriptor, min(size + 1, _CHUNK)):  # no more memory than it takes
                digest.update(block)
                length += len(block)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return ""
    return digest.hexdigest() if (length, after.st_size, after.st_mtime_ns) == (size, size, mtime_ns) else ""


@dataclass(frozen=True)
class Digested:
    """Attributes:
    source: with the digest of every image that is known or was read.
    read: images that were read now.
    left: images that were left to `work`.
    left_s: how long reading those would have taken.
    """

    source: Source
    read: int
    left: int = 0
    left_s: float = 0.0


def digest_images(
    workspace: Workspace,
    source: Source,
    known: Columns | None,
    when: str = "auto",
    report: Callable[[int, int], None] = lambda done, of: None,
) -> Digested:
    """Gives each image its digest: from the manifest where size and time are as there, else by reading it.

    Goes on after a kill where it was, by a journal in the workspace.

    Args:
        known: the manifest of the data set, None if there is none yet.
        when: 'now': read every one; 'later': none; 'auto': none any more once reading the rest would take over a minute.
        report: called with how many of how many to be read are done.
    """
    table = table_of(source.images)
    digests = _from_manifest(table, known)
    unread = [i for i, (digest, size) in enumerate(zip(digests, table.sizes, strict=True)) if not digest and size != MISSING]
    digested = replace(source, images=table.with_digests(digests))
    if not unread or when == "later":
        return Digested(digested, 0, len(unread))
    journal = _Journal(journal_path(workspace, source))
    if journal.knows_any:
        for i in unread:
            digests[i] = journal.get(table[i])
        unread = [i for i in unread if not digests[i]]
    begun, done = time.monotonic(), 0
    for i, digest in _read(source, unread):
        digests[i] = digest
        done += 1
        journal.add(table.paths[i], digest, table.sizes[i], table.mtimes[i])
        if done % _LOT:
            continue
        elapsed = time.monotonic() - begun
        report(done, len(unread))
        left_s = elapsed / done * (len(unread) - done)
        if when == "auto" and elapsed > _JUDGED_AFTER_S and left_s > _WORTH_S:
            journal.flush()
            return Digested(digested, done, len(unread) - done, left_s)
    if done:
        report(done, done)
    return Digested(digested, done)


def forget_journal(workspace: Workspace, source: Source) -> None:
    """Once the manifest has the digests, nothing of a reading under way is needed."""
    with contextlib.suppress(OSError):
        paths.remove(journal_path(workspace, source))


def _from_manifest(table: ImageTable, known: Columns | None) -> Digests:
    if known is None or not known.path:
        return Digests(table.digests)
    rows = list(map(known.row_at.get, table.paths, repeat(NO_ROW)))
    size, mtime_ns = sizes_and_times(table)
    row = np.array(rows, np.int64)
    is_same = (row != NO_ROW) & (known.size[row] == size) & (known.mtime_ns[row] == mtime_ns)
    there = list(map(known.digest.__getitem__, rows))
    if is_same.all() and all(there):
        return Digests(there)
    # An earlier row of that path may be what lies there again.
    other = dict(zip(zip(known.path, known.size.tolist(), known.mtime_ns.tolist(), strict=True), known.digest, strict=True))
    return Digests(
        (digest if same else "") or other.get((image.path, image.size, image.mtime_ns)) or image.digest
        for image, digest, same in zip(table, there, is_same.tolist(), strict=True)
    )


def _read(source: Source, positions: Sequence[int]) -> Iterator[tuple[int, str]]:
    """(position, digest) of these images, '' where there is none."""
    if source.layout == "hdf5":
        assert source.file is not None
        yield from _read_hdf5(source.root / source.file, source, positions)
        return
    if source.layout == "parquet":
        yield from _read_parquet(source, positions)
        return
    root, table = str(source.root), table_of(source.images)

    def of_lot(lot: Sequence[int]) -> list[str]:
        return [digest_of_file(join(root, table.paths[i]), table.sizes[i], table.mtimes[i]) for i in lot]

    lots = [positions[start : start + _LOT] for start in range(0, len(positions), _LOT)]
    # Twice as many threads as cores: where a disk answers slowly, several questions wait for it at once.
    with ThreadPoolExecutor(2 * cores(), "digest") as pool:
        try:
            for lot, digests in zip(lots, pool.map(of_lot, lots), strict=True):
                yield from zip(lot, digests, strict=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read_hdf5(path: Path, source: Source, positions: Sequence[int]) -> Iterator[tuple[int, str]]:
    import h5py

    from headstart.features.arrays import DamagedArrays, hdf5_dataset

    numbers = {int(source.images[i].path.rpartition("#")[2]): i for i in positions}
    with contextlib.suppress(OSError, KeyError, RuntimeError, ValueError, TypeError, DamagedArrays), h5py.File(path, "r") as file:
        images = hdf5_dataset(file, "images")
        image_bytes, together = math.prod(images.shape[1:]), images_a_block(images.shape, images.chunks)
        is_shared = bool(images.chunks) and images.chunks[0] > together
        step = max(1, (LARGEST_BYTES if is_shared else _CHUNK) // max(1, image_bytes * together)) * together
        for start in range(0, len(images), step):
            wanted = [number for number in range(start, min(start + step, len(images))) if number in numbers]
            if wanted:
                block = unpacked(images, start, start + step)
                for number in wanted:
                    yield numbers[number], digest_of_pixels(block[number - start])


def _read_parquet(source: Source, positions: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Group by group; images of one that is damaged get none here, and say why in `work`."""
    column = dict(source.roles)["path"]
    wanted: dict[str, dict[int, int]] = defaultdict(dict)
    for i in positions:
        name, _, row = source.images[i].path.rpartition("#")
        wanted[name][int(row)] = i
    for name, numbers in sorted(wanted.items()):
        with contextlib.suppress(OSError, ValueError, HeadstartError), open_parquet(source.root / name) as file:
            for group in groups_of(file, column):
                chosen = [number for number in range(group.start, group.stop) if number in numbers]
                with contextlib.suppress(DamagedArrays):
                    pictures = read_group(file, column, group) if chosen else []
                    for number in chosen:
                        data = pictures[number - group.start].as_py()
                        yield numbers[number], digest_of_bytes(data) if data else ""


class _Journal:
    """Digests of a reading under way, kept so that a killed one need not begin anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[tuple[str, int, int], str] = {}
        self._pending: list[tuple[str, str, int, int]] = []
        self._written_at = time.monotonic()
        self._begin = b""
        with contextlib.suppress(OSError, ValueError, csv.Error, HeadstartError):
            data = reading.read(path, reading.TABLE_BYTES)
            complete = data[: data.rfind(b"\n") + 1]
            if complete != data:  # a torn last line is left out, and what follows begins a line of its own
                self._begin = b"\n"
            # A line that is not what was written is read again, like one of an earlier version, which has no seal.
            sealed = map(records.unseal_line, complete.split(b"\n"))
            for line in fields(b"".join(line + b"\n" for line in sealed if line)):
                with contextlib.suppress(ValueError):
                    name, digest, size, mtime_ns = line
                    self._kept[unescape(name), int(size), int(mtime_ns)] = digest

    def get(self, image: Image) -> str:
        return self._kept.get((image.path, image.size, image.mtime_ns), "")

    @property
    def knows_any(self) -> bool:
        return bool(self._kept)

    def add(self, path: str, digest: str, size: int, mtime_ns: int) -> None:
        if not digest:
            return
        self._pending.append((path, digest, size, mtime_ns))
        if len(self._pending) % _LOT == 0 and time.monotonic() - self._written_at > _KEPT_EVERY_S:
            self.flush()

    def flush(self) -> None:
        with contextlib.suppress(OSError, HeadstartError):  # it only saves time
            for folder in (self._path.parent.parent, self._path.parent):
                with contextlib.suppress(FileExistsError):
                    paths.make_folder(folder)
            with BufferedWriter(paths.open_append(self._path)) as file:
                lines = (line_of(line).removesuffix(b"\n") for line in self._pending)
                file.write(self._begin + b"".join(map(records.seal_line, lines)))
            self._begin = b""
            self._pending.clear()
        self._written_at = time.monotonic()


def journal_path(workspace: Workspace, source: Source) -> Path:
    """Where the digests of a reading under way are kept."""
    place = f"{source.root}\0{source.file or ''}".encode("utf-8", "surrogatepass")
    return workspace.features / "digests" / f"{hashlib.sha256(place).hexdigest()[:16]}.csv"
