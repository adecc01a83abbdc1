"""States of a disk: which a power cut may leave behind, told apart, read from folders and written into them."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from .disk import Disk, State, Torn, Write
from .recording import IGNORED, Operation


def choices(disk: Disk, draw: random.Random, count: int) -> Iterator[tuple[int, dict[int, int]]]:
    """What a power cut may keep now, each with how telling it is: 0 is nothing, 1 systematic, 2 one of `count` random ones."""
    pending = disk.pending()
    numbers = [number for _, number, _ in pending]
    writes = [number for _, number, change in pending if isinstance(change, Write)]
    everything = dict.fromkeys(numbers, Torn.WHOLE)
    yield 0, {}
    yield 1, everything
    yield 1, {number: Torn.WHOLE for number in numbers if number not in writes}
    for number in numbers:
        yield 1, {number: Torn.WHOLE}
        yield 1, {**everything, number: Torn.LOST}
    for number in writes:
        yield 1, {**everything, number: Torn.HALF}
        yield 1, {**everything, number: Torn.ZEROS}
    for _ in range(count):
        likely = draw.random()
        hows = (Torn.WHOLE, Torn.WHOLE, Torn.HALF, Torn.ZEROS)
        yield 2, {number: draw.choice(hows) if number in writes else Torn.WHOLE for number in numbers if draw.random() < likely}


def digest(state: State) -> bytes:
    """Tells states apart."""
    total = hashlib.blake2b(digest_size=16)
    for path, data in sorted(state.items()):
        total.update(f"{path}\0{'/' if data is None else len(data)}\0".encode() + (data or b""))
    return total.digest()


def materialize(state: State, root: Path) -> None:
    """Writes a state as files."""
    for path, data in sorted(state.items()):
        if data is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(data)


def snapshot(root: Path) -> State:
    """Every file and folder below `root`, as `materialize` takes it."""
    paths = sorted(path for path in root.rglob("*") if not path.name.endswith(IGNORED))
    return {path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes() for path in paths}


def replay(root: str, operations: Sequence[Operation], before: State | None = None) -> Iterator[tuple[int, Disk]]:
    """The disk after each number of operations, from none to all; the same object each time."""
    disk = Disk(root, before)
    yield 0, disk
    for number, operation in enumerate(operations, start=1):
        disk.apply(operation)
        yield number, disk
