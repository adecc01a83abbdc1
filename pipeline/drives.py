"""What the drive under a folder is called, and which promise it cannot keep.

What a drive can do is tried and not believed (`files.probe`); what other machines see of it cannot be tried from one of them.
"""

from __future__ import annotations

import re
from pathlib import Path

from .claims import live_workers
from .liveness import this_machine
from .text import printable
from .workspace import Workspace

_UNKNOWN = "a disk of unknown kind"
_NETWORKED = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "ceph"})
# FUSE brings disks, layers over disks and networks that keep their machines in step. What else it brings shows them changes late.
_DISKS = ("ntfs-3g", "exfat", "fuse-overlayfs", "unionfs", "mergerfs", "bindfs", "encfs", "gocryptfs", "cryfs")
_IN_STEP = ("ceph", "glusterfs", "juicefs", "vmhgfs-fuse")
_FUSE_IN_STEP = frozenset({"fuseblk", *(f"fuse.{name}" for name in (*_DISKS, *_IN_STEP))})
# Folders that a program copies between machines; to the system they are part of an ordinary disk.
_COPIED = re.compile(
    r"(OneDrive|Dropbox|Google ?Drive|My ?Drive|iCloud ?Drive|CloudStorage|Mobile Documents)([ -].*)?", re.IGNORECASE
)


def kind_of_drive(folder: Path) -> str:
    """What the system calls the file system under `folder`, which need not be there."""
    import psutil

    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    whole = folder.resolve()
    return next((str(mounts[str(place)]) for place in (whole, *whole.parents) if str(place) in mounts), _UNKNOWN)


def is_networked(kind: str) -> bool:
    """Whether each look goes over a network, of which nothing is known that breaks a promise."""
    return kind in _NETWORKED


def seen_late(folder: Path, kind: str) -> str:
    """Why other machines see what is written in `folder` seconds later, as cloud drives do it; '' if nothing says so.

    Args: kind: of the drive under it, see `kind_of_drive`.
    """
    if kind.startswith(("fuse", "macfuse", "osxfuse")) and kind not in _FUSE_IN_STEP:
        return kind
    copied = [part for part in folder.resolve().parts if _COPIED.fullmatch(part)]
    return f"{copied[-1]!r}, a folder that is copied between machines" if copied else ""


def caution(workspace: Workspace) -> str:
    """One line on what work in this workspace cannot rely on, '' for nothing."""
    why = seen_late(workspace.root, kind_of_drive(workspace.root))
    if not why:
        return ""
    others = sorted({owner.host for owner in live_workers(workspace) if owner.machine != this_machine()})
    at_work = f" At work here now: {printable(', '.join(others))}." if others else ""
    return (
        f"{printable(str(workspace.root))} lies on {why}: other machines see changes late.{at_work} Let one machine at a time "
        "enqueue and work: two would do the same jobs, and rows that one enqueues may be lost until it enqueues again"
    )
