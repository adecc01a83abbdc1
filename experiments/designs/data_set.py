"""Designs that `headstart make examples/designs/designs.py` made, or another file with these columns, reduced for a training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.making.made_items import MadeItems, made_folder
from headstart.experiments.training.data.batch import Batch
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.data.sets import Rows, Splits
from headstart.experiments.training.options import RecipeOptions, option
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, verb
from headstart.pipeline.workspace import Workspace

from .description import CHANNELS, COLOURS, DESIGN_FORMATS, GOALS, Description, read_description

DESIGN_EDGE = 256
_SPLIT_OF = ("test", "val", *["train"] * 8)  # by the last digit of a design's number, whatever else was made
_MOST_BYTES = 768 * 2**20  # of reduced designs that stay in memory


@dataclass(frozen=True)
class DesignOptions(RecipeOptions):
    """Which designs a recipe learns from, and how large."""

    made: str | None = option(None, "what headstart make made of designs, by the name of its folder or file; none: the only one")
    image_size: int = option(32, "pixels of an edge that designs are reduced to", at_least=16, at_most=256)


class Designs:
    """Rows of one split.

    image (b, 3, s, s) and structure (b, 4, s, s) uint8, see `reduced`; goal, format (b,) int64, places in lists of them;
    tone (b,) and scores (b, 4) float32; number (b,) int64, of the design.
    """

    is_ready = True  # mapped: another process would read what this one reads

    def __init__(self, made: MadeItems, rows: Rows, descriptions: list[Description], size: int) -> None:
        self._made, self._rows, self._size = made, rows, size
        self._goal = np.array([GOALS.index(one.goal) for one in descriptions])
        self._format = np.array([DESIGN_FORMATS.index(one.format) for one in descriptions])
        self._tone = np.array([one.tone for one in descriptions], np.float32)
        self._scores = np.array([one.scores for one in descriptions], np.float32)
        shape = (len(rows), 3 + len(CHANNELS), size, size)
        # Pages of it are taken only when they are written to.
        self._kept = np.empty(shape, np.uint8) if np.prod(shape) <= _MOST_BYTES else None
        self._is_kept = np.zeros(len(rows), bool)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self._made.digest} {self._size}\0".encode() + self._rows.tobytes()).hexdigest()

    def batch(self, rows: Rows, key: Key | None) -> Batch:
        import torch

        planes = self._planes(rows)
        columns = {"image": planes[:, :3], "structure": planes[:, 3:], "goal": self._goal[rows], "format": self._format[rows]}
        columns |= {"tone": self._tone[rows], "scores": self._scores[rows], "number": self._made.index[self._rows[rows]]}
        return Batch({name: torch.from_numpy(column) for name, column in columns.items()})

    def _planes(self, rows: Rows) -> NDArray[np.uint8]:
        if self._kept is None:
            return self._read(rows)
        missing = rows[~self._is_kept[rows]]
        if len(missing):
            self._kept[missing] = self._read(missing)
            self._is_kept[missing] = True
        return self._kept[rows]

    def _read(self, rows: Rows) -> NDArray[np.uint8]:
        places = self._rows[rows]
        structure = self._made.take("structure", places)
        if structure[:, 2].max(initial=0) >= len(COLOURS):
            raise HeadstartError(f"a structure has colour id {structure[:, 2].max()}, expected 0 to {len(COLOURS) - 1}")
        return reduced(self._made.take("image", places), structure, self._size)


def reduced(image: NDArray[np.uint8], structure: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(n, 7, size, size): RGB as means over squares of pixels, masks where they have at least half of a square, the colour id in
    the middle of a square, hierarchy as a mean. Args: image: (n, 256, 256, 3); structure: (n, 4, 256, 256)."""
    whole, fold = np.concatenate([np.moveaxis(image, 3, 1), structure], axis=1), DESIGN_EDGE // size
    whole[:, 3:5] = whole[:, 3:5] > 0
    if fold == 1:
        return whole
    sums = whole.astype(np.uint16)
    for _ in range(fold.bit_length() - 1):  # two by two: ten times as fast as a sum over axes
        sums = sums[..., ::2, :] + sums[..., 1::2, :]
        sums = sums[..., ::2] + sums[..., 1::2]
    planes = ((sums.astype(np.uint32) + fold * fold // 2) // (fold * fold)).astype(np.uint8)  # of a mask: 1 from a half on
    planes[:, 5] = structure[:, 2, fold // 2 :: fold, fold // 2 :: fold]
    return planes


@dataclass(frozen=True)
class FoundDesigns:
    """All that were made, and the name under which a training keeps them."""

    made: MadeItems
    name: str
    descriptions: list[Description]

    def splits(self, size: int, about: dict[str, Any] | None = None) -> Splits:
        """In train, val and test by the last digit of a design's number: the same in every training, whatever it learns.

        Raises: HeadstartError if there are too few designs, or the size is no part of theirs.
        """
        require_size(size, 1)
        parts = {}
        for name in ("train", "val", "test"):
            rows = np.flatnonzero([_SPLIT_OF[number % len(_SPLIT_OF)] == name for number in self.made.index.tolist()])
            if not len(rows):
                raise HeadstartError(f"no design of {self.name} is left for {name}. Make more: --count 1000")
            parts[name] = Designs(self.made, rows, [self.descriptions[row] for row in rows], size)
        facts = {"image_size": size, "colours": list(COLOURS), "goals": list(GOALS), "formats": list(DESIGN_FORMATS)}
        return Splits(parts["train"], parts["val"], parts["test"], facts | (about or {}), settled={"made": self.name})


def require_size(size: int, multiple: int) -> None:
    """Raises: HeadstartError if designs cannot be reduced to that size, or a network cannot halve it as often as it wants to."""
    known = [edge for edge in (16, 32, 64, 128, 256) if edge % multiple == 0]
    if size not in known:
        raise HeadstartError(f"--image-size {size} does not fit, expected one of {', '.join(map(str, known))}")


def find_designs(workspace: Workspace, name: str | None) -> FoundDesigns:
    """What was made. Args: name: of the folder, or of the file that it was made by; None: the only making there is.

    Raises: HeadstartError if it is not finished, or these are no designs.
    """
    folder = made_folder(workspace, name)
    made = MadeItems(workspace, folder)
    if made.missing_jobs:
        raise HeadstartError(
            f"{plural(made.missing_jobs, 'job')} of {folder.name} {verb(made.missing_jobs, 'are')} "
            "not done. First: headstart work"
        )
    shapes = {"image": (DESIGN_EDGE, DESIGN_EDGE, 3), "structure": (len(CHANNELS), DESIGN_EDGE, DESIGN_EDGE)}
    for column, shape in shapes.items():
        if column not in made.names:
            raise HeadstartError(f"{folder.name} has no {column}. Make designs: headstart make examples/designs/designs.py")
        one = made.take(column, [0])[0]
        if (one.dtype, one.shape) != (np.uint8, shape):
            raise HeadstartError(f"{column} of {folder.name} is {one.dtype} of shape {one.shape}, expected uint8 {shape}")
    metadata = made.column("metadata") if "metadata" in made.names else None
    if not isinstance(metadata, list):
        raise HeadstartError(f"{folder.name} has no metadata as text. Make designs: headstart make examples/designs/designs.py")
    where = zip(made.index.tolist(), metadata, strict=True)
    return FoundDesigns(made, folder.name, [read_description(text, f"design {number}") for number, text in where])
