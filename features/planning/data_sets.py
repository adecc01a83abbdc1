"""The data sets of a workspace for people: what is in each, where it lies, which encoders it has, and moving it."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headstart.features.manifest.dataset_matching import is_there, move_dataset, named_dataset, place_of
from headstart.features.manifest.patch_versions import PatchVersion, list_versions
from headstart.features.manifest.patches import read_patches
from headstart.features.manifest.reading import Manifest, list_datasets, open_manifest
from headstart.pipeline.enqueue import queue_lock
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace, as_workspace

from .enqueue import encoders_of


@dataclass(frozen=True)
class PatchSet:
    """A version of patches of a data set, as it was written down.

    Attributes:
        version: such as v001.
        size, overlap: in pixels of the image.
        patches: how many there are, of how many `images`; None for images if its list cannot be read.
        masks: where masks lie, as it was given; '' for nowhere.
        encoder: folder of it.
    """

    version: str
    size: int
    overlap: int
    patches: int
    images: int | None
    masks: str
    encoder: str


@dataclass(frozen=True)
class DatasetSummary:
    """One data set.

    Attributes:
        name: of its folder in `features/manifests`.
        place: where its images lie; is_there: whether a few of them still do.
        layout, roles: how it is read.
        images: that count; retired: rows that no longer do, by their `reasons`.
        without_digest: of the images; copies: those with the bytes of another.
        classes: labels but the empty one; splits: images of each.
        encoders: folders of those that jobs of it are of, whole images.
        patch_sets: what it was cut into, by version.
    """

    name: str
    place: str
    is_there: bool
    layout: str
    roles: dict[str, str]
    images: int
    retired: int
    reasons: dict[str, int]
    without_digest: int
    copies: int
    classes: int
    splits: dict[str, int]
    encoders: list[str]
    patch_sets: list[PatchSet]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def list_data(workspace: Workspace | Path | str | None = None) -> list[DatasetSummary]:
    """Every data set by name: what `headstart data list` lists.

    Args: workspace: a folder; None is the one that every command would take, see `find_root`.
    """
    opened = as_workspace(workspace)
    return [_data_set(opened, folder) for folder in list_datasets(opened.manifests)]


def show_data(name: str, workspace: Workspace | Path | str | None = None) -> DatasetSummary:
    """The data set whose name contains `name`, or that lies at `name`. Raises: HeadstartError if none or several are that."""
    opened = as_workspace(workspace)
    return _data_set(opened, named_dataset(opened, name))


def move_data(name: str, place: Path | str, workspace: Workspace | Path | str | None = None) -> Manifest:
    """Says that the data set `name` (as in `show_data`) lies at `place` now; one caller at a time. Raises as `move_dataset`."""
    opened = as_workspace(workspace)
    with queue_lock(opened):
        return move_dataset(opened, named_dataset(opened, name), Path(place))


def _data_set(workspace: Workspace, folder: Path) -> DatasetSummary:
    manifest = open_manifest(folder)
    columns = manifest.read_all()
    live = columns.live.nonzero()[0].tolist()
    digests = [columns.digest[row] for row in live if columns.digest[row]]
    reasons = Counter(reason for reason in columns.retired if reason)
    splits = Counter(columns.split[row] for row in live)
    return DatasetSummary(
        name=folder.name,
        place=place_of(manifest.dataset),
        is_there=is_there(manifest.dataset, columns),
        layout=manifest.dataset.layout,
        roles=dict(manifest.dataset.roles),
        images=len(live),
        retired=sum(reasons.values()),
        reasons=dict(reasons),
        without_digest=len(live) - len(digests),
        copies=len(digests) - len(set(digests)),
        classes=len({columns.label[row] for row in live} - {""}),
        splits=dict(sorted(splits.items())),
        encoders=[spec.folder_name for spec in encoders_of(workspace, folder)],
        patch_sets=[_patch_set(workspace, one) for one in list_versions(workspace) if one.setting.dataset == folder.name],
    )


def _patch_set(workspace: Workspace, version: PatchVersion) -> PatchSet:
    setting, patches, images = version.setting, version.patches, None
    with contextlib.suppress(HeadstartError):  # `work` and `verify` say what is wrong with it; the others are still listed
        lines = read_patches(workspace, version)
        cut = lines.parent[~lines.is_unread]
        patches, images = len(cut), len(set(cut.tolist()))
    return PatchSet(version.name, setting.size, setting.overlap, patches, images, setting.masks, setting.encoder)
