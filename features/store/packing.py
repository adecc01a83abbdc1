"""Packs one encoder's finished features in large mapped parts, brought up to date with the markers when opened.

Derived: every file in it may be deleted and comes back. What it holds is decided by the markers alone.
"""

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.features.encoders.folder import SPEC_NAME, encoder_folders
from headstart.features.encoders.spec import EncoderSpec, read_encoder
from headstart.features.manifest.patch_versions import list_versions
from headstart.pipeline import paths
from headstart.pipeline.doors import records
from headstart.pipeline.doors.locks import held_or_later
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.markers import Marker
from headstart.pipeline.workspace import Workspace, has_workspace, open_workspace

from . import shards
from .cache_part import CachePart, DamagedPart, PackedShard, is_whole, open_part, serialize_part
from .cached_features import CachedFeatures, ManifestColumns, rows_of
from .load import finished_markers

PART_BYTES = 64 << 20  # of features: packing holds one part in memory, twice
_SMALL_PARTS = 8
_LOCK_TIMEOUT_S = 600.0
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
_CHECKED = ".checked"  # stamps of parts whose bytes were compared with their names
_Key = tuple[str, str]


def open_cache(encoder_folder: str | Path, part_bytes: int = PART_BYTES) -> CachedFeatures:
    """Everything done so far in `features/encoder_…`, packed and mapped; what is new since the last call is added.

    Works while extraction runs, and where nothing may be written as long as everything is packed. Each shard is checked
    against its marker, the zip's CRCs and its exact members when it is packed.

    Args:
        part_bytes: of features in one part; existing parts stay as they are.

    Raises: HeadstartError if nothing is done yet, a shard is damaged, or the cache is of another encoder;
        TryLaterError if the disk is full, or a damaged part cannot be removed.
    """
    folder = Path(encoder_folder).absolute()
    workspace = open_workspace(folder.parent.parent)
    spec = read_encoder(folder)
    markers = {_key(marker.job.job_id, marker.sha256): marker for marker in finished_markers(workspace, folder)}
    if not any(marker.ok for marker in markers.values()):
        if any(one.setting.encoder == folder.name for one in list_versions(workspace)):
            raise HeadstartError(
                f"{folder} has features of patches, none of whole images. Learn on patches: headstart train segment; or enqueue "
                "the images without --patches"
            )
        raise HeadstartError(f"{folder} has no features yet. Make some: headstart work")
    try:
        with _locked(workspace, folder):
            return _mapped(workspace, folder, spec, _packed(workspace, folder, spec, markers, part_bytes))
    except (HeadstartError, TryLaterError) as error:
        whole = _packed_before(workspace, folder, spec, set(markers)) if _is_of_reading_only(error) else None
        if whole is None:
            raise
        return _mapped(workspace, folder, spec, whole)


def _mapped(workspace: Workspace, folder: Path, spec: EncoderSpec, parts: list[CachePart]) -> CachedFeatures:
    manifests = ManifestColumns(workspace.root)
    return CachedFeatures(
        workspace, folder, rows_of(spec.fingerprint, parts, manifests.newest), tuple(parts), manifests=manifests
    )


def load_cached_features(folder: str | Path) -> CachedFeatures:
    """`open_cache` for notebooks: takes an encoder folder, or any place in a workspace with one encoder.

    Given a manifest (its folder in `features/manifests/`, or a file in it), only the images of that data set.

    Raises: HeadstartError as `open_cache`, or if the workspace has no encoder or several.
    """
    from .cached_features import of_dataset

    place = Path(folder).absolute()
    if (place / SPEC_NAME).exists():
        return open_cache(place)
    root = next((parent for parent in (place, *place.parents) if has_workspace(parent)), None)
    if root is None:
        raise HeadstartError(f"{place} is in no workspace. Give the folder of an encoder: workspace/features/encoder_...")
    workspace = open_workspace(root)
    encoders = encoder_folders(workspace)
    if len(encoders) != 1:
        names = ", ".join(path.name for path in encoders) or "none"
        raise HeadstartError(f"{root} has these encoders: {names}. Give the folder of one that has features")
    cached = open_cache(encoders[0])
    inside = place.relative_to(workspace.manifests).parts if place.is_relative_to(workspace.manifests) else ()
    return of_dataset(cached, workspace.relative(workspace.manifests / inside[0])) if inside else cached


def _key(job_id: str, sha256: str) -> _Key:
    # Not the digest alone: two jobs whose images all failed have the same bytes.
    return job_id, sha256


def _is_of_reading_only(error: Exception) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _NOT_WRITABLE


def _packed_before(workspace: Workspace, folder: Path, spec: EncoderSpec, wanted: set[_Key]) -> list[CachePart] | None:
    """The parts as they are there, if they hold all that is wanted; nothing is written."""
    kept: list[CachePart] = []
    held: set[_Key] = set()
    for path in paths.matching(workspace.cache(folder), "part_*.h5"):
        with contextlib.suppress(FileNotFoundError, DamagedPart):
            part = open_checked(workspace, path)
            keys = {_key(shard.job_id, shard.sha256) for shard in part.shards}
            if part.fingerprint == spec.fingerprint and keys <= wanted and not keys & held:
                kept.append(part)
                held |= keys
    return _in_order(kept) if held == wanted else None


def _in_order(parts: list[CachePart]) -> list[CachePart]:
    """Of their jobs, not of their names: who opens them again must see the rows in the order of who packed them."""
    return sorted(parts, key=lambda part: [_key(shard.job_id, shard.sha256) for shard in part.shards])


def _packed(
    workspace: Workspace, folder: Path, spec: EncoderSpec, markers: dict[_Key, Marker], part_bytes: int
) -> list[CachePart]:
    home = workspace.cache(folder)
    kept, stale = _usable_parts(workspace, home, spec.fingerprint, set(markers), part_bytes)
    held = {_key(shard.job_id, shard.sha256) for part in kept for shard in part.shards}
    missing = [marker for key, marker in sorted(markers.items()) if key not in held]
    for block in _blocks(missing, spec.embed_dim * 2, part_bytes):
        name, data = _part_of(spec, block)
        workspace.files.publish(home / name, data)
        kept.append(open_checked(workspace, home / name))
    for path in stale - {part.path for part in kept}:
        # Only now: until its rows stand in another part. Who has it mapped keeps it.
        with contextlib.suppress(OSError):
            paths.remove(path)
    return _in_order(kept)


def open_checked(workspace: Workspace, path: Path) -> CachePart:
    """The part at `path`, all its bytes as they were packed: looked at again whenever its stamp has changed.

    Raises: DamagedPart; FileNotFoundError.
    """
    facts = paths.stat(path)
    stamp = [facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    notes = path.with_name(_CHECKED)
    try:
        checked = dict(records.read_record(notes, None))
    except (OSError, HeadstartError):
        checked = {}
    if checked.get(path.name) != stamp:
        if not is_whole(path):
            raise DamagedPart("it has other bytes than its name says")
        there = set(paths.names(path.parent))
        checked = {name: value for name, value in checked.items() if name in there} | {path.name: stamp}
        with contextlib.suppress(OSError, HeadstartError, TryLaterError):  # derived: who cannot write it looks again
            replace(workspace.files, fsync=False).replace(notes, records.encode(checked))
    return open_part(path)


def _usable_parts(
    workspace: Workspace, home: Path, fingerprint: str, wanted: set[_Key], part_bytes: int
) -> tuple[list[CachePart], set[Path]]:
    kept: list[CachePart] = []
    stale: set[Path] = set()
    held: set[_Key] = set()
    for path in paths.matching(home, "part_*.h5"):
        try:
            part = open_checked(workspace, path)
        except FileNotFoundError:
            continue
        except DamagedPart:
            try:
                paths.remove(path)  # now: the good bytes have the same name
            except FileNotFoundError:
                pass
            except PermissionError as error:  # also of what is mapped on Windows
                raise TryLaterError(
                    f"{path} is damaged and cannot be removed: a process has it open, or this user may not. End that process, or "
                    "remove the file, then try again"
                ) from error
            continue
        if part.fingerprint != fingerprint:
            raise HeadstartError(
                f"{path} is of another encoder ({part.fingerprint[:8]}, expected {fingerprint[:8]}). "
                f"Nothing but copied features is in it: delete the folder {home} and run the same command again."
            )
        keys = {_key(shard.job_id, shard.sha256) for shard in part.shards}
        if keys <= wanted and not keys & held:
            kept.append(part)
            held |= keys
        else:
            stale.add(path)
    small = [part for part in kept if part.features.nbytes < part_bytes // 4]
    if len(small) > _SMALL_PARTS:  # one a call while extraction runs: without this, a thousand files would gather
        kept = [part for part in kept if part.features.nbytes >= part_bytes // 4]
        stale |= {part.path for part in small}
    return kept, stale


def _blocks(markers: list[Marker], row_bytes: int, part_bytes: int) -> Iterator[list[Marker]]:
    block: list[Marker] = []
    size = 0
    for marker in markers:
        if block and size + marker.ok * row_bytes > part_bytes:
            yield block
            block, size = [], 0
        block.append(marker)
        size += marker.ok * row_bytes
    if block:
        yield block


def _part_of(spec: EncoderSpec, markers: list[Marker]) -> tuple[str, bytes]:
    arrays = [shards.read_finished(marker, spec.embed_dim) for marker in markers]
    listing = [
        PackedShard(marker.job.job_id, marker.job.source, marker.sha256, len(array["index"]))
        for marker, array in zip(markers, arrays, strict=True)
    ]
    features: NDArray[np.float16] = np.concatenate([array["global_pool"] for array in arrays])
    return serialize_part(spec.fingerprint, listing, features, np.concatenate([array["index"] for array in arrays]))


@contextlib.contextmanager
def _locked(workspace: Workspace, folder: Path) -> Iterator[None]:
    home = workspace.cache(folder)
    with environment_faults(f"cannot write {home}"):
        workspace.files.make_folder(home)
    with held_or_later(home / ".lock", _LOCK_TIMEOUT_S, f"another process packs {home}"):
        yield
