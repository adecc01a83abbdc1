"""Activations before the last blocks of an encoder, of each image and its mirror image: where they lie, and reading them.

`features/activations_<16 hex>/`: made by jobs of kind `activations`, read by the fine-tuning of those blocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.manifest.reading import open_manifest
from headstart.features.store.mapped_shards import map_finished
from headstart.pipeline.doors.records import DamagedError, read_record, seal
from headstart.pipeline.enqueue import Work
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import known_kinds
from headstart.pipeline.markers import NotDone, read_marker
from headstart.pipeline.queue import Reader
from headstart.pipeline.workspace import Workspace

ACTIVATIONS_KIND = "activations"
FORMAT = 1
SPEC_FILE = "activations.json"
IMAGES_A_JOB = 64


@dataclass(frozen=True)
class ActivationSpec:
    """Attributes:
    encoder: folder, relative to the workspace; fingerprint: of it.
    blocks: that come after; front: names of the modules before them.
    copies: 1: the image; 2: and its mirror image.
    """

    encoder: str
    fingerprint: str
    blocks: int
    front: tuple[str, ...]
    copies: int

    @property
    def digest(self) -> str:
        """sha256 (hex) of all that decides the numbers."""
        facts = [FORMAT, self.fingerprint, list(self.front), self.copies]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def folder(self, workspace: Workspace) -> Path:
        return workspace.features / f"activations_{self.digest[:16]}"


def read_spec(folder: Path) -> ActivationSpec:
    """Raises: HeadstartError if it is missing or damaged."""
    path = folder / SPEC_FILE
    hint = "The same headstart train command writes it again"
    try:
        facts = read_record(path, FORMAT, hint)
    except OSError as error:
        raise HeadstartError(f"{path} cannot be read ({error.strerror}). {hint}") from None
    spec = ActivationSpec(
        facts.text("encoder", r"features/(?!\.)[^/\\\x00-\x1f]{1,255}"),
        facts.text("fingerprint"),
        facts.integer("blocks"),
        tuple(facts.texts("front")),
        facts.integer("copies", 1, 2),
    )
    if spec.digest != facts.text("digest"):
        raise DamagedError(path, "it was changed", hint)
    return spec


def works_for(workspace: Workspace, spec: ActivationSpec, datasets: Mapping[str, Any] | tuple[str, ...]) -> list[Work]:
    """What has to be queued for all images of these data sets (relative to the workspace); writes the folder's description."""
    folder = spec.folder(workspace)
    workspace.make_folder(folder)
    record = {**vars(spec), "front": list(spec.front), "format": FORMAT, "digest": spec.digest}
    workspace.files.replace(folder / SPEC_FILE, seal(record))
    return [
        Work(ACTIVATIONS_KIND, workspace.relative(folder), f"{dataset}/{part.name}", part.rows, IMAGES_A_JOB)
        for dataset in datasets
        for part in open_manifest(workspace.root / dataset).parts
    ]


class Activations:
    """All that there are of one spec, mapped: one copy of an image is float16 of the map's shape."""

    def __init__(self, workspace: Workspace, spec: ActivationSpec) -> None:
        self._shards: list[NDArray[np.float16]] = []
        self._place: dict[tuple[str, int], tuple[int, int]] = {}
        self.missing_jobs = 0
        for job in _jobs(workspace, spec):
            try:
                marker = read_marker(workspace, job, spec.digest)
            except NotDone:
                self.missing_jobs += 1
                continue
            dataset = job.source.rpartition("/")[0]
            arrays = map_finished(marker, "activations")
            self._place |= {(dataset, row): (len(self._shards), place) for place, row in enumerate(arrays["index"].tolist())}
            self._shards.append(arrays["activations"])

    def has(self, dataset: str, row: int) -> bool:
        return (dataset, row) in self._place

    def take(self, dataset: str, row: int, copy: int) -> NDArray[np.float16]:
        """(c, h, w)."""
        shard, place = self._place[dataset, row]
        activations: NDArray[np.float16] = self._shards[shard][place, copy]
        return activations


def _jobs(workspace: Workspace, spec: ActivationSpec) -> Iterator[Job]:
    folder = workspace.relative(spec.folder(workspace))
    return (job for job in Reader(workspace, known_kinds()) if job.folder == folder)
