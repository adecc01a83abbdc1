"""Reads feature maps of finished jobs back, mapped where they lie, so that they may be larger than memory."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.arrays import offset_in
from headstart.features.encoders.folder import require_fingerprint
from headstart.features.encoders.map_compression import Projection
from headstart.features.encoders.spec import EncoderSpec, projection_of, read_encoder, require_squares
from headstart.features.images.masks import MaskFile, patch_mask_files
from headstart.features.images.windows import require_windows
from headstart.features.manifest.parts import part_of
from headstart.features.manifest.patch_versions import PatchVersion, list_versions
from headstart.features.manifest.patches import Patches, jobs_of, read_patches
from headstart.features.manifest.reading import Columns, Dataset, open_manifest
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.markers import Marker, NotDone, read_marker
from headstart.pipeline.text import printable
from headstart.pipeline.workspace import Workspace, open_workspace

from . import shards
from .load import finished_markers

_MAPPED = 64  # files at once: each costs a descriptor, and a data set may have thousands


@dataclass(frozen=True)
class Cut:
    """How maps are of patches; item i of each attribute is the patch of item i of the maps.

    Attributes:
        version: name of the newest version of patches that they are of.
        size, overlap: edge of a patch and of its overlap with the next, in pixels.
        windows: (n, 4) int64: x, y, width and height in the image.
        sizes: (n, 2) int64: (height, width) of the image.
        masks: where the image's mask lies.
        is_whole: (n,) bool: whether all patches of the image have a map.
    """

    version: str
    size: int
    overlap: int
    windows: NDArray[np.int64]
    sizes: NDArray[np.int64]
    masks: list[MaskFile]
    is_whole: NDArray[np.bool_]


@dataclass(frozen=True)
class FeatureMaps:
    """Maps of the images of one data set that have some; item i of each attribute is the same image.

    Of patches (`cut`) an item is a patch: those of an image follow each other, row by row of them.

    Attributes:
        spec: the encoder.
        name: of the data set's folder.
        dataset: where the images lie; `columns` is its manifest.
        index: (n,) int64, ascending: row of the image in the manifest.
        waiting: images of the data set (or patches of them) whose job is not done yet.
        failed: those that have no map although their job is done.
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
    cut: Cut | None = None

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


def open_patch_maps(
    workspace: Workspace,
    version: str = "",
    dataset: str | None = None,
    encoder: str | None = None,
    rows: int | None = None,
    revision: int | None = None,
) -> FeatureMaps:
    """The maps of patches that finished jobs have: of a version and of all others with its setting, for images that came later.

    Args:
        version: such as v001; '': the only setting that there are patches of, among those that fit the other arguments.
        dataset, encoder: names of their folders; None: any.
        rows, revision: as of `open_maps`.

    Raises: HeadstartError if there are none, several are meant, nothing is done yet, or a shard is damaged.
    """
    versions = _versions_meant(workspace, version, dataset, encoder)
    setting = versions[-1].setting
    folder = workspace.features / setting.encoder
    require_fingerprint(folder, setting.fingerprint)
    spec = read_encoder(folder)
    if spec.spatial is None:
        raise HeadstartError(f"{folder.name} keeps no feature maps. Enqueue the images again with --patches and --maps 8,16,32")
    require_squares(spec, setting.size, f"patches {versions[-1].name}")
    manifest = open_manifest(workspace.manifests / setting.dataset)
    columns = manifest.read_all(revision)
    live = columns.live.copy()
    live[len(live) if rows is None else rows :] = False
    files = list[tuple[Path, int, int]]()
    # Row of the image, lines and their masks, patch, place of its map.
    kept = list[tuple[int, tuple[Patches, list[MaskFile]], int, tuple[int, int]]]()
    wanted: Counter[int] = Counter()
    unread = set[int]()
    waiting = 0
    digest = hashlib.sha256(json.dumps([spec.fingerprint, setting.dataset]).encode())
    for one in versions:
        lines = read_patches(workspace, one)
        columns.live_at(lines.parent, setting.dataset)  # that there are such rows at all
        require_windows(one, lines, wanted)
        masks = patch_mask_files(lines.masks, Path(manifest.dataset.root), one.masks_root)
        unread.update(lines.parent[live[lines.parent] & lines.is_unread].tolist())
        counts = live[lines.parent] & ~lines.is_unread
        wanted.update(lines.parent[counts].tolist())
        for job in jobs_of(one, lines, workspace):
            here = counts[job.start : job.stop]
            if not here.any():
                continue
            try:
                marker = read_marker(workspace, job, one.fingerprint)
            except NotDone:
                waiting += int(here.sum())
                continue
            index, offset = _checked(marker, spec, 0)
            digest.update(f"{one.name} {marker.sha256}".encode())
            kept += [
                (int(lines.parent[patch]), (lines, masks), patch, (len(files), place))
                for place, patch in enumerate(index.tolist())
                if counts[patch]
            ]
            files.append((marker.payload, offset, len(index)))
    if not kept:
        raise HeadstartError(f"{versions[-1].name} ({setting.name}) has no maps yet. Make some: headstart work")
    kept.sort(key=lambda item: (item[0], item[2]))
    index = np.array([row for row, *_ in kept], np.int64)
    there = Counter(index.tolist())
    digest.update(index.tobytes())
    return FeatureMaps(
        spec=spec,
        name=setting.dataset,
        dataset=manifest.dataset,
        columns=columns,
        index=index,
        waiting=waiting,
        failed=sum(wanted.values()) - len(kept) - waiting + len(unread - wanted.keys()),
        digest=digest.hexdigest(),
        _files=tuple(files),
        _places=np.array([place for *_, place in kept], np.int64),
        _projection=projection_of(folder, spec),
        cut=Cut(
            version=versions[-1].name,
            size=setting.size,
            overlap=setting.overlap,
            windows=np.array([lines.windows[patch] for _, (lines, _), patch, _ in kept], np.int64),
            sizes=np.array([lines.sizes[patch] for _, (lines, _), patch, _ in kept], np.int64),
            masks=[masks[patch] for _, (_, masks), patch, _ in kept],
            is_whole=np.array([there[row] == wanted[row] for row in index.tolist()], np.bool_),
        ),
    )


def _versions_meant(workspace: Workspace, version: str, dataset: str | None, encoder: str | None) -> list[PatchVersion]:
    """All of one setting, ascending."""
    there = list_versions(workspace, is_strict=True)
    fitting = [
        one
        for one in there
        if dataset in (None, one.setting.dataset) and encoder in (None, one.setting.encoder) and version in ("", one.name)
    ]
    shown = "; ".join(
        f"{one.name}: {one.setting.name}, {one.setting.dataset}, {one.setting.encoder}, masks {one.setting.masks or 'nowhere'}"
        for one in there
    )
    if not fitting:
        said = f"there are {printable(shown)}" if there else "make some: headstart enqueue DATA --patches 256 --overlap 64"
        raise HeadstartError(f"no such patches{f' as {printable(version)}' if version else ''} in {workspace.root}; {said}")
    if len({one.setting for one in fitting}) > 1:
        raise HeadstartError(f"patches of several settings are meant ({printable(shown)}). Choose some: --patches v001")
    return [one for one in there if one.setting == fitting[0].setting]


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


def _checked(marker: Marker, spec: EncoderSpec, first_row: int | None = None) -> tuple[NDArray[np.int64], int]:
    """Rows (n,) whose maps a shard holds, and the byte at which the maps begin. Args: first_row: see `require_rows_of`."""
    assert spec.kept_map is not None
    kind, shape = spec.kept_map
    data = shards.read_bytes(marker.payload_here())
    arrays = shards.unpack_finished(marker, data, spec.embed_dim, first_row)
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
