"""Images of a data set with their labels, as rows to train on: found once, decoded and augmented row by row."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.images.reader import open_whole_reader
from headstart.features.manifest.adding import add_images
from headstart.features.manifest.dataset_matching import named_dataset
from headstart.features.manifest.parts import Row
from headstart.features.manifest.reading import Dataset, list_datasets, open_manifest
from headstart.features.sources.find import find_images
from headstart.features.sources.source import SourceOptions
from headstart.pipeline.enqueue import queue_lock
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable
from headstart.pipeline.workspace import Workspace

from .keys import Key
from .sets import Items

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_AS_OF = re.compile(r"(?P<name>.+)@(?P<rows>\d+)\.(?P<revision>\d+)")


@dataclass(frozen=True)
class ImageRows:
    """Rows of a data set that have a label.

    Attributes:
        dataset: where they lie.
        rows: of its manifest; codes: (n,) position of their label among `classes`.
        splits: (n,) train, val or test.
        name: by which the same rows are found again: `<data set>@<rows>.<revision>`.
    """

    dataset: Dataset
    rows: tuple[Row, ...]
    codes: NDArray[np.int64]
    splits: NDArray[np.str_]
    classes: tuple[str, ...]
    name: str

    def items(self, split: str, transform: Callable[[PillowImage], Any], says: str) -> Items:
        """The images of a split as `image` (what `transform` makes of it) and `label`.

        Args:
            transform: may draw from random, numpy.random and torch: they are seeded for each image.
            says: everything that decides what `transform` does.
        """
        places = np.flatnonzero(self.splits == split)
        read = open_whole_reader(self.dataset)

        def make(number: int, key: Key | None) -> Mapping[str, Any]:
            place = places[number]
            image = read(self.rows[place])
            if key is None:
                return {"image": transform(image), "label": self.codes[place]}
            with key.seeding():
                return {"image": transform(image), "label": self.codes[place]}

        return Items(len(places), make, self._digest(places, says))

    def _digest(self, places: NDArray[np.int64], says: str) -> str:
        sha256 = hashlib.sha256(says.encode())
        for place in places.tolist():
            image = self.rows[place].image
            # Not the digest of its bytes: extraction may note that later, and the image is the same one.
            label = self.classes[self.codes[place]]
            sha256.update(f"\0{image.path}\0{image.size} {image.mtime_ns}\0{label}".encode("utf-8", "surrogatepass"))
        return sha256.hexdigest()

    def class_weights(self) -> list[float]:
        """One a class, inverse to its training images, 1 on average over these."""
        counts = np.bincount(self.codes[self.splits == "train"], minlength=len(self.classes))
        return [float(weight) for weight in counts.sum() / (len(counts) * np.maximum(1, counts))]


def find_labelled(workspace: Workspace, data: str | None, seed: int = 0) -> ImageRows:
    """The labelled images of a data set, as they are now, or as they were if `data` says so.

    Args:
        data: a data set of the workspace by its name, None for its only one; a folder, table or HDF5 file, which then becomes
            one; or what `ImageRows.name` said.
        seed: of splits that the data does not have.

    Raises: HeadstartError if there is no such data, it has no labels, or no split to learn or to validate.
    """
    match = _AS_OF.fullmatch(data or "")
    if match is not None:
        return _labelled(workspace.manifests / match["name"], int(match["rows"]), int(match["revision"]))
    if data is not None and Path(data).exists():
        source = find_images(Path(data), SourceOptions())
        workspace.make_folder(workspace.features)
        with queue_lock(workspace):
            return _labelled(add_images(workspace, source, seed).manifest.folder, None, None)
    if data is None:
        folders = list_datasets(workspace.manifests)
        if len(folders) != 1:
            there = ", ".join(folder.name for folder in folders) or "none"
            raise HeadstartError(f"DATA is missing: name a data set of {workspace.root} ({there}), or a folder of images")
        return _labelled(folders[0], None, None)
    return _labelled(named_dataset(workspace, data), None, None)


def _labelled(folder: Path, rows: int | None, revision: int | None) -> ImageRows:
    manifest = open_manifest(folder)
    columns = manifest.read_all(revision)
    count = len(columns.path) if rows is None else rows
    kept = [row for row in np.flatnonzero(columns.live[:count]).tolist() if columns.label[row] and columns.split[row]]
    if not kept:
        raise HeadstartError(f"no image of {folder.name} has a label. Give a folder of class folders, or a table with labels")
    labels = [columns.label[row] for row in kept]
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise HeadstartError(f"all images of {folder.name} have the label '{printable(classes[0])}'. Two classes are needed")
    codes = {name: code for code, name in enumerate(classes)}
    images = tuple(columns.row(row) for row in kept)
    splits = np.array([columns.split[row] for row in kept])
    for split in ("train", "val"):
        if not (splits == split).any():
            raise HeadstartError(f"no labelled image of {folder.name} is in the split '{split}'. Give some images that split")
    name = f"{folder.name}@{count}.{columns.revision}"
    return ImageRows(manifest.dataset, images, np.array([codes[label] for label in labels]), splits, classes, name)


def names_of(values: Sequence[str]) -> list[str]:
    """For people and JSON: bytes that are no text are spelled out."""
    return [printable(value) for value in values]
