"""Keeps a copy of a workspace in another folder, in few large files that are never changed: for a disk that is slow or far away.

A pack says what it holds, who wrote it and after which other one; its name carries the digest of its bytes. Who is killed leaves
a temporary file and whole packs. What comes back by itself (caches, claims, the database) is not copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

from . import paths
from .doors import locks, reading, records
from .errors import HeadstartError
from .files import TEMPORARY_PREFIX, FileSystem, environment_faults, is_abandoned, probe
from .workspace import SUMMARIES, WORKSPACE_FILE, Workspace, has_workspace, open_workspace

FORMAT = 1
PACK_BYTES = 256 << 20  # of files in one pack; a larger file has one of its own
STATE_FILE = ".sync.json"  # in the workspace: which packs it has seen
_MAGIC = b"headstart pack 1 "
_HEAD_BYTES = 64
_INDEX_BYTES = 1 << 28
_LONGEST_NAME, _DEEPEST = 1000, 32
_STEP = 1 << 20
_LOCK_S = 5.0
_DERIVED_FOLDERS = frozenset({"cache", "claims", "anytime", SUMMARIES})
_DERIVED_FILES = frozenset({"status_cache.json", STATE_FILE})  # the first is of earlier versions


@dataclass(frozen=True)
class PackedFile:
    size: int
    sha256: str


@dataclass(frozen=True)
class Pack:
    """Attributes:
    after: name of the pack before it, '' for the first.
    by: of the copy of the workspace that wrote it: random, kept in its state file.
    files: by path in the workspace, in the order of their bytes; removed: paths that are gone since the pack before.
    begin: where the bytes of the first file stand.
    """

    path: Path
    number: int
    workspace: str
    by: str
    after: str
    files: dict[str, PackedFile]
    removed: tuple[str, ...]
    begin: int


@dataclass
class Synced:
    """What one call did: files copied into DIR, or out of it where there was no workspace."""

    packs: int = 0
    files: int = 0
    size_bytes: int = 0
    removed: int = 0
    is_restored: bool = False
    packs_there: list[str] = field(default_factory=list)


def synchronize_folder(root: Path, folder: Path) -> Synced:
    """Copies what is new in the workspace at `root` into `folder`; where there is no workspace yet, brings it back from there.

    Killed anywhere and called again, it goes on; what is in `folder` is whole at every moment.

    Raises: HeadstartError if there is neither a workspace nor a pack, `folder` is of another workspace, holds packs that this
        workspace has not seen, or a pack is damaged; TryLaterError if a disk is full or gone, or another sync is under way.
    """
    packs = read_packs(folder)
    if not has_workspace(root):
        if not packs:
            raise HeadstartError(f"there is no workspace at {root} and no pack in {folder}. Make one: headstart enqueue DATA")
        return _restore(root, folder, packs)
    workspace = open_workspace(root)
    with locks.held_or_later(root / ".sync.lock", _LOCK_S, f"another sync of {root} is under way"):
        return _copy(workspace, folder, packs)


def read_packs(folder: Path) -> list[Pack]:
    """In their order; their contents are not looked at. Raises: HeadstartError if one is cut off or one before it is missing."""
    packs = sorted((_read_pack(path) for path in paths.matching(folder, "pack_*.pack")), key=lambda pack: pack.number)
    before = ""
    for number, pack in enumerate(packs, 1):
        if pack.number != number or pack.after != before:
            raise HeadstartError(f"{folder} lacks the pack before {pack.path.name}. Restore it, or sync into an empty folder")
        before = pack.path.name
    return packs


def _read_pack(path: Path) -> Pack:
    with environment_faults(f"cannot read {path}"), reading.opened_given(path) as file:
        head = file.read(_HEAD_BYTES)
        words = head.removeprefix(_MAGIC)
        if not head.startswith(_MAGIC) or not words.isascii() or not words.strip().isdigit() or int(words) > _INDEX_BYTES:
            raise records.DamagedError(path, "it does not begin as a pack")
        facts = records.parse_record(file.read(int(words)), path, FORMAT)
        begin, size = file.tell(), os.fstat(file.fileno()).st_size
    files = {}
    for one in facts.records("files"):
        name = one.text("path")
        if not _is_safe(name):
            one.refuse("path", name)
        files[name] = PackedFile(one.integer("size"), one.text("sha256", "[0-9a-f]{64}"))
    if begin + sum(entry.size for entry in files.values()) != size:
        raise records.DamagedError(path, f"it has {size:,} bytes, other than it says")
    number = facts.integer("number", least=1)
    removed = tuple(facts.texts("removed"))
    return Pack(path, number, facts.text("workspace"), facts.text("by"), facts.text("after"), files, removed, begin)


def _is_safe(name: str) -> bool:
    """Whether a path stays below the folder that it is put together with, and not so deep that making it takes minutes."""
    parts = name.split("/")
    if len(name) > _LONGEST_NAME or len(parts) > _DEEPEST:
        return False
    return "\\" not in name and "\0" not in name and not any(part in ("", ".", "..") or ":" in part for part in parts)


def _copy(workspace: Workspace, folder: Path, packs: list[Pack]) -> Synced:
    state = _state(workspace)
    if packs and packs[0].workspace != workspace.id:
        raise HeadstartError(f"{folder} has the packs of another workspace. Choose another folder")
    unseen = [pack for pack in packs if pack.path.name not in state["seen"] and pack.by != state["by"]]
    if unseen:
        raise HeadstartError(
            f"{folder} has {unseen[0].path.name}, which another copy of this workspace wrote. Bring that back into a new folder: "
            f"headstart sync {folder} -w NEW"
        )
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
    disk = probe(folder)
    _sweep(folder)
    known = latest(packs)
    present: set[str] = set()
    done = Synced()
    chunk: dict[str, PackedFile] = {}

    def flush(removed: Sequence[str]) -> None:
        after = packs[-1].path.name if packs else ""
        facts = {"workspace": workspace.id, "by": state["by"], "after": after, "number": len(packs) + 1}
        pack = _write_pack(workspace.root, folder, disk, chunk, removed, facts)
        packs.append(pack)
        done.packs += 1
        done.files += len(pack.files)
        done.size_bytes += sum(entry.size for entry in pack.files.values())
        chunk.clear()

    for name in _names(workspace):
        present.add(name)
        entry = _changed(workspace.root, name, known.get(name))
        if entry is None:
            continue
        if chunk and sum(one.size for one in chunk.values()) + entry.size > PACK_BYTES:
            flush([])
        chunk[name] = entry
    removed = sorted(known.keys() - present)
    if chunk or removed:
        flush(removed)
    done.removed = len(removed)
    done.packs_there = [pack.path.name for pack in packs]
    _keep_state(workspace, {**state, "seen": done.packs_there})
    return done


def latest(packs: Sequence[Pack]) -> dict[str, PackedFile]:
    """Every file as the last pack that speaks of it has it."""
    known: dict[str, PackedFile] = {}
    for pack in packs:
        for name in pack.removed:
            known.pop(name, None)
        known |= pack.files
    return known


def _names(workspace: Workspace) -> Iterator[str]:
    """Paths below the workspace that are worth a copy. Markers come before payloads: a marker never lacks its payload there."""
    names = []
    for path in paths.walk(workspace.root):
        relative = path.relative_to(workspace.root)
        if _is_derived(relative) or paths.is_link(path) or not paths.is_file(path):
            continue
        names.append(relative.as_posix())
    yield from sorted(names, key=lambda name: (not name.endswith(".done"), name))


def _is_derived(relative: Path) -> bool:
    parts, name = relative.parts, relative.name
    if (
        name.startswith(TEMPORARY_PREFIX)
        or name.endswith(".lock")
        or name in _DERIVED_FILES
        or parts[0] in ("workers", "launches", ".removed")
    ):
        return True
    return bool(_DERIVED_FOLDERS.intersection(parts[2:-1])) or name.startswith("experiments.db")


def _changed(root: Path, name: str, known: PackedFile | None) -> PackedFile | None:
    """What stands at `name` now; None if that is known already, or gone meanwhile."""
    path = root / name
    try:
        size = paths.stat(path).st_size
        if known is not None and known.size == size and "/shards/" in name and known.sha256[:16] in path.name:
            return None  # its name says its digest, and nobody writes other bytes under it
        with reading.opened(path, reading.WEIGHTS_BYTES) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    entry = PackedFile(size, sha256)
    return None if entry == known else entry


def _write_pack(
    root: Path, folder: Path, disk: FileSystem, chunk: Mapping[str, PackedFile], removed: Sequence[str], facts: Mapping[str, Any]
) -> Pack:
    """Writes beside, reads back and compares, then publishes under a name with the digest."""
    listed = [{"path": name, "size": entry.size, "sha256": entry.sha256} for name, entry in chunk.items()]
    index = records.encode({"format": FORMAT, **facts, "files": listed, "removed": list(removed)}, indent=None)
    head = _MAGIC + str(len(index)).encode()
    temporary = folder / f"{TEMPORARY_PREFIX}{_own_token()}-{facts['number']}"
    digest = hashlib.sha256()
    with environment_faults(f"cannot write into {folder}"):
        with contextlib.suppress(FileNotFoundError):
            paths.remove(temporary)
        with paths.create(temporary) as file:
            for part in _parts(root, chunk, head.ljust(_HEAD_BYTES - 1) + b"\n" + index):
                digest.update(part)
                view = memoryview(part)
                while view:
                    view = view[file.write(view) :]
            if disk.fsync:
                os.fsync(file.fileno())
        with reading.opened_given(temporary) as written:
            if hashlib.file_digest(written, "sha256").digest() != digest.digest():
                raise HeadstartError(f"{folder} gave back other bytes than were written. Check that disk, then sync again")
        path = folder / f"pack_{facts['number']:06d}.{digest.hexdigest()[:16]}.pack"
        paths.rename(temporary, path)
        disk.sync_folder(folder)
    return _read_pack(path)


def _own_token() -> str:
    from .liveness import process_token

    return process_token(os.getpid())


def _parts(root: Path, chunk: Mapping[str, PackedFile], begin: bytes) -> Iterator[bytes]:
    yield begin
    for name, entry in chunk.items():
        left, digest = entry.size, hashlib.sha256()
        with reading.opened(root / name) as file:
            while left and (part := file.read(min(_STEP, left))):
                digest.update(part)
                left -= len(part)
                yield part
        if left or digest.hexdigest() != entry.sha256:
            raise HeadstartError(f"{root / name} changed while it was copied. Sync again, best while nobody works")


def _sweep(folder: Path) -> None:
    """Removes what a sync that was killed left of a pack."""
    for path in paths.matching(folder, f"{TEMPORARY_PREFIX}*"):
        if is_abandoned(path):
            with contextlib.suppress(FileNotFoundError):
                paths.remove(path)


def _restore(root: Path, folder: Path, packs: Sequence[Pack]) -> Synced:
    """The file that makes a folder a workspace comes last, so that a restore that was killed is begun again."""
    known = latest(packs)
    if WORKSPACE_FILE not in known:
        raise HeadstartError(f"the packs in {folder} lack {WORKSPACE_FILE}. Sync the workspace once more into them")
    if root.is_dir() and not _is_partial(root, known):
        raise HeadstartError(f"{root} is not empty and no workspace. Choose another folder with -w DIR")
    root.mkdir(parents=True, exist_ok=True)
    paths.enter(root)
    disk = probe(root)
    done = Synced(is_restored=True, packs_there=[pack.path.name for pack in packs])
    last: bytes | None = None
    for pack in packs:
        with environment_faults(f"cannot read {pack.path}"), reading.opened_given(pack.path) as file:
            _require_digest(pack, file)
            file.seek(pack.begin)
            for name, entry in pack.files.items():
                if known.get(name) != entry:
                    file.seek(entry.size, os.SEEK_CUR)
                    continue  # a later pack has it, or says that it is gone
                pieces = _pieces(pack, file, name, entry)
                if name != WORKSPACE_FILE:
                    _bring_back(disk, root, name, entry, pieces)
                elif entry.size > reading.SMALL_BYTES:
                    raise records.DamagedError(pack.path, f"{name} has {entry.size:,} bytes")
                else:
                    last = b"".join(pieces)
                done.files += 1
                done.size_bytes += entry.size
    assert last is not None
    facts = {"format": FORMAT, "by": os.urandom(8).hex(), "seen": done.packs_there}
    disk.replace(root / STATE_FILE, records.encode(facts))
    path = root / WORKSPACE_FILE
    noted, able = dict(records.parse_record(last, path, FORMAT)), {"hard_links": disk.hard_links, "fsync": disk.fsync}
    disk.replace(path, last if noted.get("file_system") == able else records.encode({**noted, "file_system": able}))
    done.packs = len(packs)
    return done


def _is_partial(root: Path, known: Mapping[str, PackedFile]) -> bool:
    """Whether nothing lies there but what a restore puts there."""
    for path in paths.walk(root):
        name = path.relative_to(root).as_posix()
        if path.name.startswith(TEMPORARY_PREFIX) or name == STATE_FILE or paths.is_folder(path) or name in known:
            continue
        return False
    return True


def _require_digest(pack: Pack, file: BufferedReader) -> None:
    if hashlib.file_digest(file, "sha256").hexdigest()[:16] != pack.path.name.split(".")[1]:
        raise records.DamagedError(pack.path, "it has other bytes than its name says", "Restore it from a copy")


def _pieces(pack: Pack, file: BufferedReader, name: str, entry: PackedFile) -> Iterator[bytes]:
    """The bytes of a file in a pack, piece by piece: no file is too large for memory. Raises: DamagedError behind the last."""
    left, digest = entry.size, hashlib.sha256()
    while left and (piece := file.read(min(_STEP, left))):
        digest.update(piece)
        left -= len(piece)
        yield piece
    if left or digest.hexdigest() != entry.sha256:
        raise records.DamagedError(pack.path, f"{name} has other bytes than were written")


def _bring_back(disk: FileSystem, root: Path, name: str, entry: PackedFile, pieces: Iterator[bytes]) -> None:
    path = root / name
    with environment_faults(f"cannot write {path}"):
        try:
            if paths.stat(path).st_size == entry.size:
                with reading.opened(path) as there:
                    is_there = hashlib.file_digest(there, "sha256").hexdigest() == entry.sha256
                if is_there:
                    for _ in pieces:
                        pass
                    return
        except FileNotFoundError:
            disk.make_folder(path.parent, below=root)
        disk.replace_by_pieces(path, pieces)


def _state(workspace: Workspace) -> dict[str, Any]:
    path = workspace.root / STATE_FILE
    try:
        facts = records.read_record(path, FORMAT, "Delete that one file and sync into an empty folder")
        return {"format": FORMAT, "by": facts.text("by"), "seen": facts.texts("seen")}
    except FileNotFoundError:
        state = {"format": FORMAT, "by": os.urandom(8).hex(), "seen": []}
        _keep_state(workspace, state)  # before the first pack: whoever is killed knows its own packs again
        return state


def _keep_state(workspace: Workspace, state: Mapping[str, Any]) -> None:
    workspace.files.replace(workspace.root / STATE_FILE, records.seal(state))
