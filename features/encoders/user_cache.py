"""This user's cache folder on this machine: folders of files, each named by a digest of all that decides what is in it.

All of it is derived: whatever is wrong with it, or with the disk below it, is as if nothing were kept.
"""

import contextlib
import hashlib
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from headstart.features.devices import processor_features
from headstart.pipeline import paths
from headstart.pipeline.doors import reading
from headstart.pipeline.doors.records import Record, encode, read_record, seal
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.files import UNSYNCED

KEPT_NAME = "kept.json"
MOST_BYTES = 2 * reading.GB  # of each kind of thing
_FORMAT = 1
_PIECE_BYTES = 1 << 20


def cache_folder() -> Path | None:
    """Of this user on this machine: $HEADSTART_CACHE, none if that is empty, else where the system keeps such things.

    Raises: RuntimeError for a user without a home.
    """
    given = os.environ.get("HEADSTART_CACHE")
    if given is not None:
        return Path(given).absolute() if given else None
    home = Path.home()
    where = {"win32": os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local", "darwin": home / "Library" / "Caches"}
    return Path(where.get(sys.platform) or os.environ.get("XDG_CACHE_HOME") or home / ".cache").absolute() / "headstart"


def kept_place(cache: Path, kind: str, facts: Mapping[str, Any]) -> Path:
    """Where what these facts decide on this kind of processor is kept, or would be."""
    whole = {**facts, "processor": [platform.machine(), *sorted(processor_features())]}
    return cache / kind / hashlib.sha256(encode(whole)).hexdigest()


def read_kept(kept: Path) -> Record:
    """What `keep` said of the files there; used now. Raises: as `read_record`."""
    record = read_record(kept / KEPT_NAME, _FORMAT)
    with contextlib.suppress(OSError):
        paths.touch(kept / KEPT_NAME)  # when it was used last
    return record


def keep(kept: Path, size: int, write: Callable[[], Mapping[str, Any]]) -> None:
    """Keeps what `write` puts there, in place of what was, and of what was not used for longest.

    Args:
        size: bytes, at most `MOST_BYTES`.
        write: what it answers is to verify the files by.

    Raises: OSError, ExplainedError; nothing is there then.
    """
    kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _make_room(kept, size)
    with contextlib.suppress(FileExistsError):
        paths.make_folder(kept)
    try:
        # Last: what it names stands. Two writers at once may leave what it does not name, which is made anew.
        UNSYNCED.replace(kept / KEPT_NAME, seal({"format": _FORMAT, **write()}))
    except (OSError, ExplainedError):
        paths.remove_tree(kept)  # a full disk is not to be filled further by halves
        raise


def copied(source: Path, target: Path) -> str:
    """sha256 of what was copied."""
    sha256 = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        while piece := file.read(_PIECE_BYTES):
            sha256.update(piece)
            yield piece

    with reading.opened(source, reading.WEIGHTS_BYTES) as file:
        UNSYNCED.replace_by_pieces(target, pieces())
    return sha256.hexdigest()


def _make_room(kept: Path, size: int) -> None:
    """Removes what was not used for longest, so that `size` bytes more are not too many."""
    left = MOST_BYTES - size
    for other in sorted(paths.folders(kept.parent), key=_used, reverse=True):
        if other == kept:  # is replaced
            continue
        left -= paths.tree_bytes(other)
        if left < 0:
            paths.remove_tree(other)


def _used(kept: Path) -> float:
    with contextlib.suppress(OSError):
        return paths.stat(kept / KEPT_NAME).st_mtime
    return 0.0
