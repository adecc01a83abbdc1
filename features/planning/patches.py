"""Cuts the images of a data set into patches, writes them down as a version, and queues jobs for them."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from headstart.features.encoders.resolve import EncoderRequest
from headstart.features.encoders.spec import EncoderSpec, read_encoder
from headstart.features.images.decode import ImageError, path_inside
from headstart.features.images.masks import mask_files
from headstart.features.images.windows import size_of_image, window_starts, windows_of
from headstart.features.manifest.image_matching import match_images
from headstart.features.manifest.patch_versions import PatchSetting, PatchVersion, forget_version, list_versions, next_number
from headstart.features.manifest.patches import PATCHES_KIND, UNREAD, PatchLine, Window, jobs_of, publish_patches, read_patches
from headstart.features.manifest.reading import Columns, Dataset, Manifest, read_columns
from headstart.features.sources.source import Source
from headstart.pipeline.enqueue import Work, append_jobs, planned_jobs, restorable_jobs
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import known_kinds
from headstart.pipeline.queue import Reader
from headstart.pipeline.retire import REMOVED, withdraw
from headstart.pipeline.text import plural, printable, verb
from headstart.pipeline.workspace import Workspace

from .disk import disk_words, require_room

STRIDES = (8, 16, 32)
_SHOWN = 3
_NOTHING_TO_CUT = "--patches: DATA has no image that can be read and cut. Give some that open"


@dataclass(frozen=True)
class PatchRequest:
    """What a user says of patches.

    Attributes:
        size: edge in pixels of the image.
        overlap: of neighbours, in pixels; the last patch of a row or column is shifted to end with the image.
        masks: where their masks lie, a folder or a column of the table, see `images.masks.mask_files`; '': not said.
    """

    size: int
    overlap: int = 0
    masks: str = ""


def encoder_for(request: EncoderRequest, patches: PatchRequest) -> EncoderRequest:
    """`request` for pixels as they are in the image. Raises: HeadstartError if what it says cannot be had of patches."""
    window_starts(1, patches.size, patches.overlap)
    for flag, is_asked in (
        ("--fast-decode", request.fast_decode),
        ("--device-decode", request.device_decode),
        ("--exif-rotate", request.exif_rotate),
    ):
        if is_asked:
            raise HeadstartError(f"{flag} changes an image before a patch is cut out of it. Leave it out, or --patches")
    size = request.image_size
    if size is not None and size not in (patches.size, (patches.size, patches.size)):
        raise HeadstartError(f"--image-size is that of a patch, {patches.size}. Leave it out, or --patches")
    maps = request.maps if request.maps or request.spatial is not None else STRIDES
    return replace(request, image_size=patches.size, maps=maps)


def encoder_before(workspace: Workspace, dataset: Path, patches: PatchRequest) -> list[EncoderSpec]:
    """The encoder that patches of that data set, cut in the same way, are for already: of several the newest, or none."""
    for version in reversed(list_versions(workspace)):
        setting = version.setting
        if (setting.dataset, setting.size, setting.overlap) == (dataset.name, patches.size, patches.overlap):
            try:
                return [read_encoder(workspace.features / setting.encoder)]
            except HeadstartError:
                continue
    return []


def require_files(source: Source) -> None:
    """Raises: HeadstartError if its images are no files of their own."""
    if source.layout in ("hdf5", "parquet"):
        holder = "an HDF5" if source.layout == "hdf5" else "a Parquet"
        raise HeadstartError(
            f"--patches: images of {holder} file are not cut into patches. Enqueue a folder or table of image files"
        )


@dataclass(frozen=True)
class QueuedPatches:
    """Attributes:
    folder: of the results of the version that was made now, else of the last one with this setting.
    restored, fresh: jobs whose rows the queue had lost, and new ones.
    disk_bytes: that features of the new patches will take, at most.
    """

    folder: Path
    restored: tuple[Job, ...]
    fresh: tuple[Job, ...]
    disk_bytes: int


def queue_patches(
    workspace: Workspace,
    manifest: Manifest,
    spec: EncoderSpec,
    patches: PatchRequest,
    job_size: int,
    report: Callable[[str], None],
) -> QueuedPatches:
    """Queues a job for every `job_size` patches of images that have none in this way yet; inside `queue_lock`.

    Raises: HeadstartError if masks are not where they are said to be, a version is damaged, or the disk is too small.
    """
    columns = manifest.read_all()
    setting, versions = _versions(workspace, manifest.folder, spec, patches)
    restored = tuple(restorable_jobs(workspace, _read(workspace)))
    _append(workspace, restored)
    before = _queued_before(workspace, versions, restored)
    for version, jobs in before.overtaken:
        withdraw(workspace, jobs, REMOVED, f"patches {version.name}")
        forget_version(version)
    _append(workspace, before.lost)
    live = [row for row in columns.live.nonzero()[0].tolist() if row not in before.covered]
    lines = _lines(_of_manifest(manifest.dataset, columns, live), setting, report, before.unread)
    if not versions and not _cut(lines):
        raise HeadstartError(_NOTHING_TO_CUT)
    if not lines:
        return QueuedPatches(versions[-1].folder, restored, tuple(before.lost), 0)
    masks_root = "" if setting.masks in {"", *columns.extra} else str(Path(setting.masks).absolute())
    planned = _next_version(workspace.root, setting, lines, masks_root)
    disk_bytes = require_room(planned.folder, spec, len(lines), job_size, "patches")
    fresh = _published(workspace, planned, lines, job_size)[1]
    report(disk_words(spec, disk_bytes))
    report(_words(planned, lines))
    return QueuedPatches(planned.folder, restored, (*before.lost, *fresh), disk_bytes)


def _next_version(root: Path, setting: PatchSetting, lines: Sequence[PatchLine], masks_root: str = "") -> PatchVersion:
    """As it will be called; nothing of it is written down."""
    number = next_number(root)
    return PatchVersion(number, setting, len(lines), "", root / f"features/patches_v{number:03d}", masks_root)


def _published(
    workspace: Workspace, planned: PatchVersion, lines: Sequence[PatchLine], job_size: int
) -> tuple[PatchVersion, list[Job]]:
    """The version, written down, and its jobs, queued; inside `queue_lock`."""
    work = Work(PATCHES_KIND, workspace.relative(planned.folder), planned.source, len(lines), job_size)
    _, fresh = planned_jobs(workspace, [work], known_kinds(), lambda reader: [])
    # Before the queue: a worker that finds a job finds its patches. Killed in between, the same again queues those jobs.
    version = publish_patches(workspace, planned.setting, planned.number, lines, fresh, planned.masks_root)
    _append(workspace, fresh)
    return version, fresh


def count_patches(source: Source, patches: PatchRequest) -> int:
    """That the images of `source` are cut into; their headers are read. Raises: HeadstartError if none can be."""
    require_files(source)
    setting = PatchSetting("", "", "", patches.size, patches.overlap)
    return len(_some(_of_source(source, range(len(source.images))), setting))


def queue_trial(
    workspace: Workspace, manifest: Manifest, spec: EncoderSpec, patches: PatchRequest, job_size: int, jobs: int
) -> PatchVersion:
    """Queues so many jobs of patches of these images, the first ones again if there are fewer; inside `queue_lock`."""
    columns = manifest.read_all()
    setting, _ = _versions(workspace, manifest.folder, spec, patches)
    lines = _some(_of_manifest(manifest.dataset, columns, range(len(columns.path))), setting)
    chosen = [lines[place % len(lines)] for place in range(jobs * job_size)]
    return _published(workspace, _next_version(workspace.root, setting, chosen), chosen, job_size)[0]


def _some(images: _Images, setting: PatchSetting) -> list[PatchLine]:
    lines = _cut(_lines(images, setting, lambda note: None))
    if not lines:
        raise HeadstartError(_NOTHING_TO_CUT)
    return lines


@dataclass(frozen=True)
class PatchesPreview:
    """What `queue_patches` would do.

    Attributes:
        version: that it would make, such as v001; '' for none, where there is no patch to add.
        patches: that it would list, of how many `images`.
        jobs: that it would queue.
        disk_bytes: that features of these patches will take, at most; 0 if there is no encoder.
    """

    version: str
    patches: int
    images: int
    jobs: int
    disk_bytes: int


def preview_patches(
    root: Path,
    there: tuple[Workspace, Path] | None,
    source: Source,
    spec: EncoderSpec | None,
    patches: PatchRequest,
    job_size: int,
    report: Callable[[str], None],
) -> PatchesPreview:
    """What `queue_patches` would do with the images of `source`, at most; it reads their headers, and writes nothing.

    Args:
        root: of the workspace, which need not be there.
        there: the workspace, and in it the folder of the data set; None if either is new.
        spec: None if the encoder cannot be had; then nothing is said of disk.

    Raises: as `queue_patches`.
    """
    setting, versions = PatchSetting("", "", "", patches.size, patches.overlap, patches.masks), list[PatchVersion]()
    lost, places, unread = list[Job](), [*range(len(source.images))], set[int]()
    if there is not None and spec is not None:
        workspace, dataset = there
        setting, versions = _versions(workspace, dataset, spec, patches)
        before = _queued_before(workspace, versions, restorable_jobs(workspace, _read(workspace)))
        rows = match_images(source.images, read_columns(dataset)).rows
        lost, unread = before.lost, {place for place in places if rows[place] in before.unread}
        places = [place for place in places if rows[place] not in before.covered]
    lines = _lines(_of_source(source, places), setting, report, unread)
    if not versions and not _cut(lines):
        raise HeadstartError(_NOTHING_TO_CUT)
    if not lines:
        report(f"patches {versions[-1].name}: none to add")
        return PatchesPreview("", 0, 0, len(lost), 0)
    planned = _next_version(root, setting, lines)
    disk_bytes = 0
    if spec is not None:
        disk_bytes = require_room(planned.folder, spec, len(lines), job_size, "patches")
        report(disk_words(spec, disk_bytes))
    report(_words(planned, lines))
    jobs = len(lost) - (-len(lines) // job_size)
    cut = _cut(lines)
    return PatchesPreview(planned.name, len(cut), len({line.parent for line in cut}), jobs, disk_bytes)


def _words(version: PatchVersion, lines: Sequence[PatchLine]) -> str:
    cut = _cut(lines)
    return f"patches {version.name}: {len(cut):,} of {plural(len({line.parent for line in cut}), 'image')}, {version.source}"


def _cut(lines: Sequence[PatchLine]) -> list[PatchLine]:
    """Those that are patches, not images that could not be read."""
    return [line for line in lines if line.size != UNREAD]


def _versions(
    workspace: Workspace, dataset: Path, spec: EncoderSpec, patches: PatchRequest
) -> tuple[PatchSetting, list[PatchVersion]]:
    """What is asked for, and the versions that there are of it."""
    setting = PatchSetting(dataset.name, spec.folder_name, spec.fingerprint, patches.size, patches.overlap, patches.masks)
    # Strict: patches of a version that is passed over would be cut, and computed, once more without a word.
    versions = [one for one in list_versions(workspace, is_strict=True) if _is_of(one.setting, setting)]
    if not patches.masks and versions:  # as it was said before
        setting = replace(setting, masks=versions[-1].setting.masks)
    return setting, versions


def _append(workspace: Workspace, jobs: Sequence[Job]) -> None:
    if jobs:
        append_jobs(workspace, list(jobs))


def _is_of(one: PatchSetting, asked: PatchSetting) -> bool:
    return one == (asked if asked.masks else replace(asked, masks=one.masks))


def _read(workspace: Workspace) -> Reader:
    reader = Reader(workspace, known_kinds())
    for _ in reader:
        pass
    return reader


class _QueuedBefore(NamedTuple):
    """Attributes:
    covered: rows of images that have patches.
    unread: rows of images that are listed as ones that could not be read.
    lost: jobs of these that were never queued: who wrote them down was killed.
    overtaken: versions whose numbers others took meanwhile. What the queue has of one, if it was killed while it wrote there,
        is nobody's.
    """

    covered: set[int]
    unread: set[int]
    lost: list[Job]
    overtaken: list[tuple[PatchVersion, list[Job]]]


def _queued_before(workspace: Workspace, versions: Sequence[PatchVersion], restored: Sequence[Job]) -> _QueuedBefore:
    """Args: restored: jobs whose rows the queue had lost, or lacks still."""
    reader = Reader(workspace, known_kinds())
    there = {job.number: job for job in reader}
    there |= {job.number: job for job, _ in reader.withdrawn}
    there |= {job.number: job for job in (*reader.foreign, *restored)}
    before = _QueuedBefore(set(), set(), [], [])
    for version in versions:
        lines = read_patches(workspace, version)
        jobs = list(jobs_of(version, lines, workspace))
        absent = [job for job in jobs if job.number not in there]
        if any(there.get(job.number, job) != job for job in jobs):
            before.overtaken.append((version, [job for job in jobs if there.get(job.number) == job]))
            continue
        before.covered.update(lines.parent[~lines.is_unread].tolist())
        before.unread.update(lines.parent[lines.is_unread].tolist())
        before.lost.extend(absent)
    return before


class _Images(NamedTuple):
    """What is to be cut; `rows` are its rows of a manifest, or places in a source."""

    root: Path
    allow_symlinks: bool
    rows: Sequence[int]
    paths: list[str]
    splits: list[str]
    extra: dict[str, list[str]]


def _of_manifest(dataset: Dataset, columns: Columns, rows: Sequence[int]) -> _Images:
    chosen, splits = [columns.path[row] for row in rows], [columns.split[row] for row in rows]
    extra = {name: [values[row] for row in rows] for name, values in columns.extra.items()}
    return _Images(Path(dataset.root), dataset.allow_symlinks, rows, chosen, splits, extra)


def _of_source(source: Source, places: Sequence[int]) -> _Images:
    images = [source.images[place] for place in places]
    extra = {name: [image.extra[k] for image in images] for k, name in enumerate(source.columns)}
    chosen, splits = [image.path for image in images], [image.split for image in images]
    return _Images(source.root, source.allow_symlinks, places, chosen, splits, extra)


def _lines(images: _Images, setting: PatchSetting, report: Callable[[str], None], listed: Container[int] = ()) -> list[PatchLine]:
    """The patches of these images; what is to be said of those that are small, or have none, is said.

    Of an image that cannot be read there is a line without pixels, so that its job records why, unless it is `listed` already.
    """
    masks = _masks(images, setting.masks, report)
    lines: list[PatchLine] = []
    unread: list[str] = []
    small: list[str] = []
    for row, path, split, mask in zip(images.rows, images.paths, images.splits, masks, strict=True):
        try:
            height, width = size_of_image(images.root, path, images.allow_symlinks)
        except ImageError as error:
            unread.append(f"{printable(path)} ({error.reason})")
            if row not in listed:
                lines.append(PatchLine(path, Window(0, 0, *UNREAD), mask, split, row, UNREAD))
            continue
        if min(height, width) < setting.size:
            small.append(f"{printable(path)} ({width} x {height})")
        lines += [
            PatchLine(path, window, mask, split, row, (height, width))
            for window in windows_of(height, width, setting.size, setting.overlap)
        ]
    if unread:
        report(
            f"note: no patches are cut out of {plural(len(unread), 'image')} that cannot be read, such as "
            f"{'; '.join(unread[:_SHOWN])}. After work, status --failed lists {'it' if len(unread) == 1 else 'them'}"
        )
    if small:
        report(
            f"note: {plural(len(small), 'image')} {verb(len(small), 'are')} smaller than a patch of {setting.size}, such as "
            f"{'; '.join(small[:_SHOWN])}: what is beyond the edge is as the edge, and no mask counts there"
        )
    return lines


def _masks(images: _Images, place: str, report: Callable[[str], None]) -> list[str]:
    """The mask's path of each image as it is written down: from the root of the data if it lies there; '' for none.

    Those that will not be read are said.
    """
    if not place:
        return [""] * len(images.rows)
    root = images.root
    files = mask_files(images.paths, images.extra, root, place)
    outside: list[str] = []
    for path, file in zip(images.paths, files, strict=True):
        try:
            path_inside(file.root, file.path, images.allow_symlinks)
        except ImageError as error:
            outside.append(f"{printable(path)} ({printable(file.path)}: {error.reason})")
    if outside:
        report(
            f"note: of {plural(len(outside), 'image')} the mask leads out of its folder and will not be read, such as "
            f"{'; '.join(outside[:_SHOWN])}"
        )
    if place in images.extra:
        return [file.path for file in files]
    whole = [file.root / file.path for file in files]
    return [str(file.relative_to(root) if file.is_relative_to(root) else file) for file in whole]
