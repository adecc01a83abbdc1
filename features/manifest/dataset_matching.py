"""The data sets of a workspace: which one a place is, where it moved from, and moving it by hand."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from headstart.features.sources.source import MISSING, Source, SourceOptions
from headstart.features.sources.walk import facts_of, join
from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable
from headstart.pipeline.workspace import Workspace

from .reading import DATASET_FILE, Columns, Dataset, Manifest, list_datasets, open_manifest

_SAMPLE = 64  # files looked at to know whether a data set still lies where it lay
_OVERLAP = 0.5  # part of a data set's images that must be at a new place before it counts as moved there


def dataset_of(workspace: Workspace, source: Source) -> Path:
    """The folder of the data set that `source` is: one that lies there, one that lay elsewhere and moved, or a new one.

    It moved if none of its files is where it was and at least half of its images are in `source`.
    """
    there = dataset_at(workspace, source.root, source.file, source)
    if there is not None:
        return there
    lost = _lost_folder(workspace, source)
    if lost is not None:
        return lost
    moved = _moved_from(workspace, source)
    return moved if moved is not None else _new_folder(workspace, source)


def dataset_at(workspace: Workspace, root: Path, file: str | None, source: Source | None = None) -> Path | None:
    """The data set that lies in `root` (a folder, or a file in it), as far as the workspace knows.

    Args:
        source: how the place is read now; where a workspace of format 1 has several for one place, the one read so is meant.
    """
    here = [manifest for manifest in _readable(workspace) if (manifest.dataset.root, manifest.dataset.file) == (str(root), file)]
    if source is not None:
        same = [m for m in here if (m.dataset.layout, m.dataset.roles) == (source.layout, dict(source.roles))]
        here = same or here
    return here[0].folder if here else None


def remembered_options(workspace: Workspace, data: Path, options: SourceOptions) -> SourceOptions:
    """`options`, and what was said of the data set that lies at `data` before wherever they say nothing."""
    whole = data.absolute()
    root, file = (whole.resolve(), None) if whole.is_dir() else (whole.parent.resolve(), whole.name)
    folder = dataset_at(workspace, root, file)
    return options if folder is None else options_as_before(open_manifest(folder).dataset, options)


def options_as_before(before: Dataset, options: SourceOptions) -> SourceOptions:
    """`options`, and what was said of this data set before wherever they say nothing."""
    is_folder = before.file is None and options.layout == "auto" and before.said_layout != "auto"
    return replace(
        options,
        layout=cast(Literal["auto", "classes", "flat"], before.said_layout) if is_folder else options.layout,
        allow_symlinks=options.allow_symlinks or before.allow_symlinks,
        keep_case=options.keep_case or before.keep_case,
        remembered=tuple(before.roles.items()),
    )


def is_there(dataset: Dataset, columns: Columns) -> bool:
    """Whether at least one of a few of its images lies where the data set says, of the size that it knows."""
    if dataset.file is not None and not (Path(dataset.root) / dataset.file).exists():
        return False
    if dataset.layout == "hdf5" or (dataset.layout == "parquet" and dataset.file is not None):
        return True
    rows = [row for row in columns.live.nonzero()[0].tolist() if columns.size[row] != MISSING]
    sample = rows[:: max(1, len(rows) // _SAMPLE)]
    paths = {row: columns.path[row] if dataset.layout != "parquet" else columns.path[row].rpartition("#")[0] for row in sample}
    return any(facts_of(join(dataset.root, paths[row]))[0] == columns.size[row] for row in sample)


def named_dataset(workspace: Workspace, name: str) -> Path:
    """The data set whose name contains `name`, or that lies at the path `name`.

    Raises: HeadstartError that lists what there is if none or several are meant.
    """
    folders = list_datasets(workspace.manifests)
    exact = [folder for folder in folders if folder.name == name] or [
        folder
        for folder in folders
        if folder.name.rpartition("-")[0] == name  # `t` is `t-1a2b3c4d`, not `two-5e6f7a8b`
    ]
    place = os.path.realpath(name)
    lying = [manifest.folder for manifest in _readable(workspace) if place == place_of(manifest.dataset)]
    chosen = exact or lying or [folder for folder in folders if name and name in folder.name]
    if len(chosen) == 1:
        return chosen[0]
    what = "no data set is" if not chosen else f"{len(chosen)} data sets are"
    there = ", ".join(folder.name for folder in (chosen or folders)) or "none"
    raise HeadstartError(f"{what} called '{printable(name)}' in {workspace.root}; it has: {there}. Give one of these names")


def place_of(dataset: Dataset) -> str:
    """Where it lies: a folder, or the file that names or holds its images."""
    return join(dataset.root, dataset.file) if dataset.file else dataset.root


def move_dataset(workspace: Workspace, folder: Path, place: Path) -> Manifest:
    """Says that the data set lies at `place` now: a folder, or the file where it is one. Nothing is read but a few sizes.

    Raises: HeadstartError if nothing of it is there, or another data set lies there.
    """
    manifest = open_manifest(folder)
    shown = printable(str(place))
    whole = Path(os.path.realpath(place))
    is_file = manifest.dataset.file is not None
    if not (whole.is_file() if is_file else whole.is_dir()):
        raise HeadstartError(f"{shown} is no {'file' if is_file else 'folder'}, and {folder.name} is one. Give the one it is now")
    root, file = (whole.parent, whole.name) if is_file else (whole, None)
    other = dataset_at(workspace, root, file)
    if other is not None and other != folder:
        raise HeadstartError(f"{other.name} lies at {shown} already. See where each lies: headstart data list")
    moved = replace(manifest.dataset, root=str(root), file=file)
    columns = manifest.read_all()
    if not is_there(moved, columns):
        raise HeadstartError(f"none of a few images of {folder.name} is at {shown}. Give the place that holds them now")
    workspace.files.replace(folder / DATASET_FILE, moved.encode())
    return open_manifest(folder)


def _readable(workspace: Workspace) -> Iterator[Manifest]:
    for folder in list_datasets(workspace.manifests):
        with contextlib.suppress(HeadstartError):  # one that is damaged must not hide the others
            yield open_manifest(folder)


def _moved_from(workspace: Workspace, source: Source) -> Path | None:
    others = list(_readable(workspace))
    if not others:
        return None
    by_bytes = {image.digest for image in source.images if image.digest}
    by_facts = {(image.path, image.size, image.mtime_ns) for image in source.images}
    best: tuple[int, Path] | None = None
    for manifest in others:
        if (manifest.dataset.file is None, _kind(manifest.dataset.layout)) != (source.file is None, _kind(source.layout)):
            continue
        with contextlib.suppress(HeadstartError):
            columns = manifest.read_all()
            live = columns.live.nonzero()[0].tolist()
            shared = sum(
                columns.digest[row] in by_bytes
                if columns.digest[row]
                else (columns.path[row], columns.size[row], columns.mtime_ns[row]) in by_facts
                for row in live
            )
            if shared and shared >= _OVERLAP * len(live) and not is_there(manifest.dataset, columns):
                best = max(best or (0, manifest.folder), (shared, manifest.folder))
    return best[1] if best is not None else None


def _kind(layout: str) -> str:
    """What holds the images: files of their own, or a file of that layout."""
    return layout if layout in ("hdf5", "parquet") else "files"


def _lost_folder(workspace: Workspace, source: Source) -> Path | None:
    """A folder of that name whose `dataset.json` is gone or damaged: it is put right, or says so."""
    for name in (_name(source), _name(source, source.layout, *(word for role in source.roles for word in role))):
        folder = workspace.manifests / name
        if not paths.is_folder(folder):
            continue
        try:
            open_manifest(folder)
        except HeadstartError:
            return folder
    return None


def _new_folder(workspace: Workspace, source: Source) -> Path:
    folder, number = workspace.manifests / _name(source), 0
    while paths.exists(folder):  # of a data set that lay here once and moved
        number += 1
        folder = workspace.manifests / _name(source, str(number))
    return folder


def _name(source: Source, *more: str) -> str:
    name = Path(source.file).stem if source.file else source.root.name
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "data"
    facts: Sequence[str] = (str(source.root), source.file or "", *more)
    digest = hashlib.sha256("\0".join(facts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{slug}-{digest[:8]}"
