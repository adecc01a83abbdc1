"""Parts of a result that took long, kept until the whole is there: `part_<name>.<sha16>.npy`, an array of float64 each."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.features.arrays import DamagedArrays, unpack_npy
from headstart.pipeline import paths
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import FileSystem, environment_faults

_DIGITS = 16
_Array = NDArray[np.float64]


class Parts(Protocol):
    """Where parts go, by name; whoever goes on after a kill gets back what the dead one kept."""

    def load(self, name: str) -> _Array | None: ...

    def keep(self, name: str, part: _Array) -> None: ...


class NoParts:
    """Keeps nothing."""

    def load(self, name: str) -> _Array | None:
        return None

    def keep(self, name: str, part: _Array) -> None:
        """Forgets it."""


@dataclass(frozen=True)
class KeptParts:
    """In a folder of one training: what other rows or options would give is never among them.

    Attributes:
        folder: made when the first part is kept.
        on_kept: called after each.
    """

    folder: Path
    files: FileSystem
    on_kept: Callable[[], None] = lambda: None

    def load(self, name: str) -> _Array | None:
        """None if it is not there, or its bytes are not those that were written."""
        for path in paths.matching(self.folder, f"part_{name}.*.npy"):
            with contextlib.suppress(OSError, HeadstartError, DamagedArrays):
                data = reading.read(path, reading.HEAD_BYTES)
                if path.name == f"part_{name}.{_digest(data)}.npy":
                    return unpack_npy(data).copy(order="K")
        return None

    def keep(self, name: str, part: _Array) -> None:
        """Raises: TryLaterError if the disk is full."""
        buffer = io.BytesIO()
        np.save(buffer, part, allow_pickle=False)
        with environment_faults(f"cannot write {self.folder}"):
            self.files.make_folder(self.folder)
        self.files.replace(self.folder / f"part_{name}.{_digest(buffer.getvalue())}.npy", buffer.getvalue())
        self.on_kept()

    def clear(self) -> None:
        """Once the whole is there."""
        for path in paths.matching(self.folder, "part_*.npy"):
            with contextlib.suppress(OSError):
                paths.remove(path)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]
