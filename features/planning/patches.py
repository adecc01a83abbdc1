"""Cuts the images of a data set into patches, writes them down as a version, and queues jobs for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headstart.features.encoders.resolve import EncoderRequest
from headstart.features.encoders.spec import EncoderSpec, read_encoder
from headstart.features.images.decode import ImageError, path_inside
from headstart.features.images.masks import mask_files
from headstart.features.images.windows import size_of_image, window_starts, windows_of
from headstart.features.manifest.patch_versions import PatchSetting, PatchVersion, forget_version, list_versions, next_number
from headstart.features.manifest.patches import PATCHES_KIND, PatchLine, jobs_of, publish_patches, read_patches
from headstart.features.manifest.reading import Columns, Dataset, Manifest
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
    setting = PatchSetting(manifest.folder.name, spec.folder_name, spec.fingerprint, patches.size, patches.overlap, patches.masks)
    columns = manifest.read_all()
    # Strict: patches of a version that is passed over would be cut, and computed, once more without a word.
    versions = [one for one in list_versions(workspace, is_strict=True) if _is_of(one.setting, setting)]
    if not patches.masks and versions:  # as it was said before
        setting = replace(setting, masks=versions[-1].setting.masks)
    restored = tuple(restorable_jobs(workspace, _read(workspace)))
    _append(workspace, restored)
    covered, lost = _queued_before(workspace, versions)
    _append(workspace, lost)
    live = [row for row in columns.live.nonzero()[0].tolist() if row not in covered]
    lines, notes = _lines(manifest.dataset, columns, live, setting)
    masks_root = "" if setting.masks in {"", *columns.extra} else str(Path(setting.masks).absolute())
    for note in notes:
        report(note)
    if not lines:
        if not versions:
            raise HeadstartError(f"{manifest.folder.name} has no image that can be cut into patches; see the note above")
        return QueuedPatches(versions[-1].folder, restored, tuple(lost), 0)
    number = next_number(workspace)
    folder = workspace.features / f"patches_v{number:03d}"
    disk_bytes = require_room(folder, spec, len(lines), job_size)
    source = PatchVersion(number, setting, len(lines), "", folder).source
    work = Work(PATCHES_KIND, workspace.relative(folder), source, len(lines), job_size)
    _, fresh = planned_jobs(workspace, [work], known_kinds(), lambda reader: [])
    # Before the queue: a worker that finds a job finds its patches. Killed in between, the same again queues those jobs.
    version = publish_patches(workspace, setting, number, lines, fresh, masks_root)
    _append(workspace, fresh)
    report(disk_words(spec, disk_bytes))
    report(f"patches {version.name}: {len(lines):,} of {plural(len({line.parent for line in lines}), 'image')}, {version.source}")
    return QueuedPatches(folder, restored, (*lost, *fresh), disk_bytes)


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


def _queued_before(workspace: Workspace, versions: Sequence[PatchVersion]) -> tuple[set[int], list[Job]]:
    """Rows of images that have patches, and jobs of these that were never queued: who wrote them down was killed."""
    reader = Reader(workspace, known_kinds())
    there = {job.number: job for job in reader}
    there |= {job.number: job for job, _ in reader.withdrawn}
    there |= {job.number: job for job in reader.foreign}
    covered, lost = set[int](), list[Job]()
    for version in versions:
        lines = read_patches(workspace, version)
        jobs = list(jobs_of(version, lines, workspace))
        absent = [job for job in jobs if job.number not in there]
        if any(there.get(job.number, job) != job for job in jobs):
            # Others took its numbers meanwhile; what the queue has of it, if it was killed while it wrote there, is nobody's.
            withdraw(workspace, [job for job in jobs if there.get(job.number) == job], REMOVED, f"patches {version.name}")
            forget_version(version)
            continue
        covered.update(lines.parent.tolist())
        lost += absent
    return covered, lost


def _lines(dataset: Dataset, columns: Columns, rows: Sequence[int], setting: PatchSetting) -> tuple[list[PatchLine], list[str]]:
    """The patches of these images, and what is to be said of those that are small, or have none."""
    masks, notes = _masks(dataset, columns, rows, setting.masks)
    lines: list[PatchLine] = []
    unread: list[str] = []
    small: list[str] = []
    for row, mask in zip(rows, masks, strict=True):
        path = columns.path[row]
        try:
            height, width = size_of_image(Path(dataset.root), path, dataset.allow_symlinks)
        except ImageError as error:
            unread.append(f"{printable(path)} ({error.reason})")
            continue
        if min(height, width) < setting.size:
            small.append(f"{printable(path)} ({width} x {height})")
        lines += [
            PatchLine(path, window, mask, columns.split[row], row, (height, width))
            for window in windows_of(height, width, setting.size, setting.overlap)
        ]
    if unread:
        notes.append(
            f"note: no patches are cut out of {plural(len(unread), 'image')} that cannot be read, such as "
            f"{'; '.join(unread[:_SHOWN])}"
        )
    if small:
        notes.append(
            f"note: {plural(len(small), 'image')} {verb(len(small), 'are')} smaller than a patch of {setting.size}, such as "
            f"{'; '.join(small[:_SHOWN])}: what is beyond the edge is as the edge, and no mask counts there"
        )
    return lines, notes


def _masks(dataset: Dataset, columns: Columns, rows: Sequence[int], place: str) -> tuple[list[str], list[str]]:
    """The mask's path of each image as it is written down: from the root of the data if it lies there; '' for none.

    And a note on those that will not be read.
    """
    if not place:
        return [""] * len(rows), []
    root = Path(dataset.root)
    extra = {name: [values[row] for row in rows] for name, values in columns.extra.items()}
    files = mask_files([columns.path[row] for row in rows], extra, root, place)
    outside: list[str] = []
    for row, file in zip(rows, files, strict=True):
        try:
            path_inside(file.root, file.path, dataset.allow_symlinks)
        except ImageError as error:
            outside.append(f"{printable(columns.path[row])} ({printable(file.path)}: {error.reason})")
    notes = []
    if outside:
        notes.append(
            f"note: of {plural(len(outside), 'image')} the mask leads out of its folder and will not be read, such as "
            f"{'; '.join(outside[:_SHOWN])}"
        )
    if place in extra:
        return [file.path for file in files], notes
    whole = [file.root / file.path for file in files]
    return [str(file.relative_to(root) if file.is_relative_to(root) else file) for file in whole], notes
