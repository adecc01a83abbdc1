"""What the footer of a Parquet file says of its row groups, looked at in a child process.

pyarrow ends the process (`terminate called`) where a footer contradicts itself: the calls that look at a column chunk cannot
raise. Reading does raise, so the rest happens in this process, which asks pyarrow for nothing that stands here.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.pipeline.child import Child, ChildEnded
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

_LOOK_S = 60.0  # with the start of a Python, on a machine that is busy
_LOOK_BYTES = 2 << 30
_KEPT = 64


@dataclass(frozen=True)
class GroupFooter:
    """A row group as the footer has it.

    Attributes:
        rows: how many there are.
        sizes: column (a part of a struct is `column.part`) to the bytes that it takes unpacked.
        empty: columns all of whose values are missing.
    """

    rows: int
    sizes: Mapping[str, int]
    empty: frozenset[str]


@dataclass(frozen=True)
class Footer:
    """Attributes: rows: of the whole file; groups: in the order of their rows."""

    rows: int
    groups: tuple[GroupFooter, ...]


def read_footer(path: Path) -> Footer:
    """What the file says of itself; nothing of it is checked against its pages.

    Raises: pyarrow.ArrowInvalid if it is no Parquet file; OSError; HeadstartError if nothing survives looking at it.
    """
    facts = path.stat()
    stamp = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return _looker(os.getpid()).look(os.path.abspath(path), stamp)  # noqa: PTH100  (resolve() would follow links)


@functools.cache
def _looker(process: int) -> "_Looker":
    # By process: a fork has neither the child nor the thread that listens to it.
    return _Looker()


class _Looker:
    """One child, which is kept for the next file. Many threads may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._known: dict[tuple[Any, ...], Footer] = {}

    def look(self, path: str, stamp: tuple[int, ...]) -> Footer:
        with self._lock:
            if (path, stamp) not in self._known:
                if len(self._known) >= _KEPT:
                    self._known.pop(next(iter(self._known)))
                self._known[path, stamp] = self._asked(path)
            return self._known[path, stamp]

    def _asked(self, path: str) -> Footer:
        # A child that was kept may have ended for reasons of its own, so that a new one judges.
        with contextlib.suppress(ChildEnded):
            if self._child is not None:
                return self._ask(self._child, path)
        self._child = Child("headstart.features.sources.parquet_child", is_quiet=True)
        try:
            return self._ask(self._child, path)
        except ChildEnded as end:
            self._child = None
            raise HeadstartError(
                f"{printable(path)} cannot be read as Parquet: looking at its footer {end}. Write it again, or convert it to CSV."
            ) from None

    def _ask(self, child: Child, path: str) -> Footer:
        import pyarrow as pa  # while the child does the same

        try:
            answer, _ = child.ask({"path": path}, _LOOK_S, _LOOK_BYTES, lambda: None)
        except BaseException:
            child.close()
            raise
        if "error" in answer:
            raise pa.ArrowInvalid(answer["error"]) if answer["errno"] is None else OSError(answer["errno"], answer["error"], path)
        columns = answer["columns"]
        return Footer(answer["rows"], tuple(_group(columns, *group) for group in answer["groups"]))


def _group(columns: list[str], rows: int, sizes: list[int], empty: list[int]) -> GroupFooter:
    total: dict[str, int] = {}
    for column, size in zip(columns, sizes, strict=True):  # a name may stand there twice
        total[column] = total.get(column, 0) + max(0, size)
    return GroupFooter(rows, total, frozenset(columns[number] for number in empty))
