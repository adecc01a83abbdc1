"""What a making gave: every item of its finished jobs, checked once, then mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.arrays import DamagedArrays, NamedArrays, require_positions
from headstart.features.store.mapped_shards import map_payload
from headstart.features.store.shards import REDO
from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.kinds import known_kinds
from headstart.pipeline.markers import NotDone, read_marker
from headstart.pipeline.queue import Reader
from headstart.pipeline.workspace import Workspace, open_workspace

from .columns import ENDS, arrays_and_texts, texts
from .making import MADE_FILE, Making, read_making


class MadeItems:
    """All items that there are, in the order of their numbers.

    Attributes:
        making: what they were made by.
        index: (n,) int64, their numbers.
        digest: sha256 (hex) of making and payloads: the same for the same items.
        missing_jobs: not done yet.
    """

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        """Raises: HeadstartError if the folder holds no making, nothing is done yet, or a payload is damaged."""
        self.making: Making = read_making(folder)
        self._shards: list[NamedArrays] = []
        self.missing_jobs = 0
        relative, sha256 = workspace.relative(folder), hashlib.sha256(self.making.identity.encode())
        jobs = sorted((job for job in Reader(workspace, known_kinds()) if job.folder == relative), key=lambda job: job.start)
        for job in jobs:
            try:
                marker = read_marker(workspace, job, self.making.identity)
            except NotDone:
                self.missing_jobs += 1
                continue
            columns = map_payload(marker)
            try:
                require_positions(columns.get("index", np.empty(0)), job.start, job.stop, "index")
            except DamagedArrays as error:
                raise HeadstartError(f"{marker.payload} cannot be read ({error}). {REDO}") from None
            sha256.update(marker.sha256.encode())
            self._shards.append(columns)
        if not self._shards:
            raise HeadstartError(f"nothing of {folder} is made yet. Run: headstart work")
        self.digest = sha256.hexdigest()
        counts = [len(columns["index"]) for columns in self._shards]
        self._shard_of = np.repeat(np.arange(len(counts)), counts)
        self._place = np.concatenate([np.arange(count) for count in counts])
        self.index: NDArray[np.int64] = np.concatenate([columns["index"] for columns in self._shards])

    def __len__(self) -> int:
        return len(self.index)

    @property
    def names(self) -> list[str]:
        """Of what each item has, besides `index`."""
        return [name for name in self._shards[0] if name != "index" and not name.endswith(ENDS)]

    def take(self, name: str, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """Of these rows (positions among all items, not numbers of items), stacked. Only their pages are read."""
        shards, places = self._shard_of[rows], self._place[rows]
        return np.stack([self._shards[shard][name][place] for shard, place in zip(shards, places, strict=True)])

    def column(self, name: str) -> Any:
        """Of all items: an array, or a list of text."""
        if name + ENDS in self._shards[0]:
            return [text for columns in self._shards for text in texts(columns, name)]
        return np.concatenate([columns[name] for columns in self._shards])

    def shards(self) -> list[dict[str, Any]]:
        """What each job gave: arrays, and lists of text, by name."""
        return [arrays_and_texts(columns) for columns in self._shards]


def open_made(folder: Path | str) -> MadeItems:
    """What lies in `features/made_…`, as far as it is done. Raises as `MadeItems`."""
    place = Path(folder).absolute()
    return MadeItems(open_workspace(place.parent.parent), place)


def made_folder(workspace: Workspace, name: str | None) -> Path:
    """The making that is meant: a folder's name, the name of its file without `.py`, None for the only one there is.

    Raises: HeadstartError that lists what there is.
    """
    folders = [path.parent for path in paths.matching(workspace.features, f"made_*/{MADE_FILE}")]
    there = ", ".join(folder.name for folder in folders) or "none"
    asked = None if name is None else Path(name).name
    meant = [folder for folder in folders if asked in (None, folder.name, folder.name[len("made_") : -17])]
    if len(meant) != 1:
        what = (
            "nothing was made" if not folders else f"there are {there}; name one of them" if meant else f"there is only {there}"
        )
        raise HeadstartError(f"{name or 'what was made'}: {what}. Make it: headstart make ./mine.py")
    return meant[0]
