"""Reads feature maps of finished jobs back, mapped where they lie, so that they may be larger than memory."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.arrays import offset_in
from headstart.features.encoders.map_compression import Projection
from headstart.features.encoders.spec import EncoderSpec, projection_of, read_encoder
from headstart.features.manifest.parts import part_of
from headstart.features.manifest.reading import Columns, Dataset, open_manifest
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.markers import Marker
from headstart.pipeline.workspace import open_workspace

from . import shards
from .load import finished_markers

_MAPPED = 64  # files at once: each costs a descriptor, and a data set may have thousands


@dataclass(frozen=True)
class FeatureMaps:
    """Maps of the images of one data set that have some; item i of each attribute is the same image.

    Attributes:
        spec: the encoder.
        name: of the data set's folder.
        dataset: where the images lie; `columns` is its manifest.
        index: (n,) int64, ascending: row of the image in the manifest.
        waiting: images of the data set whose job is not done yet.
        failed: images that have no map although their job is done.
        digest: sha256 (hex) of all that decides `index` and the maps.
    """

    spec: EncoderSpec
    name: str
    dataset: Dataset
    columns: Columns
    index: NDArray[np.int64]
    waiting: int
    failed: int
    digest: str
    _files: tuple[tuple[Path, int, int], ...] = field(repr=False)
    _places: NDArray[np.int64] = field(repr=False)
    _projection: Projection | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of each map."""
        assert self.spec.kept_map is not None
        return self.spec.kept_map[1]

    def read(self, items: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float16]:
        """(m, channels, height, width) of these m items, in their order; nothing but their bytes is read."""
        assert self.spec.kept_map is not None
        kind, shape = self.spec.kept_map
        maps = np.empty((len(items), *shape), kind)
        for i, item in enumerate(items):
            number, row = self._places[item]
            path, offset, rows = self._files[number]
            maps[i] = _mapped(path, offset, kind, (rows, *shape))[row]
        return maps if self._projection is None else self._projection.restored(maps)


def open_maps(
    encoder_folder: str | Path, dataset: str | None = None, rows: int | None = None, revision: int | None = None
) -> FeatureMaps:
    """The maps that finished jobs of `features/encoder_…` have, each byte compared with what was committed.

    Args:
        dataset: name of the data set, a folder of `features/manifests/`; None: the only one that has maps of this encoder.
        rows, revision: the data set as it was when it had so many rows, at that revision; None: as it is.

    Raises: HeadstartError if the encoder keeps no maps, nothing is done yet, a shard is damaged, or the data set is not clear.
    """
    folder = Path(encoder_folder).absolute()
    workspace = open_workspace(folder.parent.parent)
    spec = read_encoder(folder)
    if spec.spatial is None:
        raise HeadstartError(f"{folder.name} keeps no feature maps. Enqueue the images again with --maps 8,16,32 (or --spatial)")
    markers = list(finished_markers(workspace, folder))
    chosen = _dataset_of(markers, folder, dataset)
    manifest = open_manifest(workspace.manifests / chosen)
    columns = manifest.read_all(revision)
    live = np.flatnonzero(columns.live[:rows])
    seen, files = set(), list[tuple[Path, int, int]]()
    place_of: dict[int, tuple[int, int]] = {}
    digest = hashlib.sha256(json.dumps([spec.fingerprint, chosen]).encode())
    for marker in markers:
        first = _first_row(marker)
        covered = np.arange(first + marker.job.start, first + marker.job.stop)
        if _name_of(marker) != chosen or not np.isin(covered, live, assume_unique=True).any():
            continue
        seen.update(covered.tolist())
        index, offset = _checked(marker, spec)
        digest.update(marker.sha256.encode())
        for row, number in enumerate(index.tolist()):
            place_of[number] = len(files), row
        files.append((marker.payload, offset, len(index)))
    kept = [row for row in live.tolist() if row in place_of]
    if not kept:
        raise HeadstartError(f"{folder.name} has no maps of {chosen} yet. Make some: headstart work")
    waiting = sum(row not in seen for row in live.tolist())
    index = np.array(kept, np.int64)
    digest.update(index.tobytes())
    return FeatureMaps(
        spec=spec,
        name=chosen,
        dataset=manifest.dataset,
        columns=columns,
        index=index,
        waiting=waiting,
        failed=len(live) - len(kept) - waiting,
        digest=digest.hexdigest(),
        _files=tuple(files),
        _places=np.array([place_of[row] for row in kept], np.int64),
        _projection=projection_of(folder, spec),
    )


def _dataset_of(markers: list[Marker], folder: Path, asked: str | None) -> str:
    names = sorted({_name_of(marker) for marker in markers})
    if not names:
        raise HeadstartError(f"{folder.name} has no maps yet. Make some: headstart work")
    if asked is None and len(names) > 1:
        raise HeadstartError(f"{folder.name} has maps of {', '.join(names)}. Name one of them")
    if asked is not None and asked not in names:
        raise HeadstartError(
            f"{folder.name} has no maps of {asked}; it has some of {', '.join(names)}. Make them: headstart work"
        )
    return asked or names[0]


def _name_of(marker: Marker) -> str:
    return Path(marker.job.source).parent.name


def _first_row(marker: Marker) -> int:
    source = Path(marker.job.source)
    return part_of(source.parent, source.name).first_row


def _checked(marker: Marker, spec: EncoderSpec) -> tuple[NDArray[np.int64], int]:
    """Rows (n,) whose maps a shard holds, and the byte at which the maps begin."""
    assert spec.kept_map is not None
    kind, shape = spec.kept_map
    data = shards.read_bytes(marker.payload_here())
    arrays = shards.unpack_finished(marker, data, spec.embed_dim)
    maps, index = arrays.get("spatial"), arrays["index"]
    if maps is None or maps.dtype != kind or maps.shape != (len(index), *shape):
        said = "no maps" if maps is None else f"maps of {maps.dtype} {maps.shape}"
        raise HeadstartError(
            f"{marker.payload} holds {said}, expected {kind} {(len(index), *shape)}. Redo it: headstart verify --deep --repair"
        )
    return index.copy(), offset_in(data, maps)


@lru_cache(_MAPPED)
def _mapped(path: Path, offset: int, kind: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        with environment_faults(f"cannot read {path}"), reading.opened(path) as file:
            # A ValueError, if the file is shorter than that: a mapping beyond its end would kill the process on the first read.
            return np.memmap(file, kind, "r", offset, shape)
    except (OSError, ValueError, reading.UnreadableError) as error:
        raise HeadstartError(f"{path} cannot be read ({error}). Redo it: headstart verify --deep --repair") from None
