"""A FUSE that behaves like a mounted cloud drive: no hard links, no fsync, others' files seen late, errors that come and go.

python -m tests.drives.cloud_drive MOUNTPOINT [--late-s 3] [--spell-every-s 20]

Each folder at the top of the mount is what one machine sees of the same drive. It sees its own changes at once, those of others
up to `late_s` later. A file that was written is seen by others when it was closed; one that was renamed is gone under its old
name, gone under its new one, and there again, each at a moment of its own. Of two machines that change one file the later wins
altogether. Times are whole seconds. In a spell, one call in four ends with EIO or ESTALE. `JUDGE` sees everything at once and
no errors. Everything is kept in memory. Needs fusepy and libfuse2; which process calls, and who owns a file, decides nothing.
"""

import argparse
import errno
import os
import random
import stat
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from fuse import FUSE, FuseOSError, Operations

from .machines import JUDGE, MACHINES

_SPELL_S = 0.2
_FAULTS = 0.25
_NEVER = float("inf")
_FOLDER = stat.S_IFDIR | 0o777
_FILE = stat.S_IFREG | 0o666


class Node:
    """A file's bytes or a folder, whatever its name."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.changed = int(time.time())
        self.data = bytearray()
        self.writers = 0

    def copy(self) -> "Node":
        copied = Node(self.mode)
        copied.changed, copied.data = self.changed, bytearray(self.data)
        return copied


@dataclass
class Version:
    """What stands at a path since somebody changed it, None for nothing, and from when others see that."""

    by: str
    seen_at: float
    node: Node | None


@dataclass
class Handle:
    machine: str
    path: str
    node: Node
    has_written: bool = False


@dataclass
class _Tree:
    """Versions of each path, newest last, and the names that a folder ever had."""

    versions: dict[str, list[Version]] = field(default_factory=lambda: defaultdict(list))
    names: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


class CloudDrive(Operations):  # type: ignore[misc]
    use_ns = True

    def __init__(self, late_s: float, spell_every_s: float, seed: int) -> None:
        self._late_s = late_s
        self._spell_every_s = spell_every_s
        self._chance = random.Random(seed)
        self._guard = threading.RLock()
        self._tree = _Tree()
        self._handles: dict[int, Handle] = {}
        self._machines = (JUDGE, *MACHINES)
        self._last_handle = 0
        self._tree.versions["/"].append(Version(JUDGE, 0.0, Node(_FOLDER)))

    def __call__(self, op: str, path: str | None, *arguments: Any) -> Any:
        with self._guard:
            return super().__call__(op, path, *arguments)

    # What a machine sees

    def _seen(self, machine: str, path: str) -> Node | None:
        now = time.monotonic()
        for version in reversed(self._tree.versions.get(path, ())):
            if machine in (version.by, JUDGE) or version.seen_at <= now:
                return version.node
        return None

    def _split(self, path: str) -> tuple[str, str]:
        """The machine, and the path on the drive; a spell may end the call here."""
        _, machine, *rest = path.split("/")
        if machine not in self._machines:
            raise FuseOSError(errno.ENOENT)
        in_spell = self._spell_every_s and time.monotonic() % self._spell_every_s < _SPELL_S
        if machine != JUDGE and in_spell and self._chance.random() < _FAULTS:
            raise FuseOSError(self._chance.choice((errno.EIO, errno.ESTALE)))
        return machine, "/" + "/".join(rest)

    def _there(self, path: str) -> tuple[str, str, Node]:
        machine, place = self._split(path)
        node = self._seen(machine, place)
        if node is None:
            raise FuseOSError(errno.ENOENT)
        return machine, place, node

    def _late(self) -> float:
        return time.monotonic() + self._chance.uniform(0.3, 1) * self._late_s

    def _put(self, machine: str, place: str, node: Node | None, seen_at: float | None = None) -> None:
        versions = self._tree.versions[place]
        versions.append(Version(machine, self._late() if seen_at is None else seen_at, node))
        parent, name = os.path.split(place)
        self._tree.names[parent].add(name)
        now = time.monotonic()
        for position in range(len(versions) - 1, 0, -1):
            if versions[position].seen_at <= now:  # everybody sees it or a newer one
                del versions[:position]
                break

    def _children(self, machine: str, place: str) -> list[str]:
        names = sorted(self._tree.names.get(place, ()))
        return [name for name in names if self._seen(machine, str(PurePosixPath(place, name))) is not None]

    # Calls

    def getattr(self, path: str, handle: int | None = None) -> dict[str, int]:
        if path == "/":
            node = Node(_FOLDER)
        elif handle is not None and handle in self._handles:
            self._split(path)
            node = self._handles[handle].node
        else:
            node = self._there(path)[2]
        changed = node.changed * 10**9
        return {
            "st_mode": node.mode,
            "st_nlink": 2 if stat.S_ISDIR(node.mode) else 1,
            "st_size": len(node.data),
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
            "st_mtime": changed,
            "st_ctime": changed,
            "st_atime": changed,
        }

    def readdir(self, path: str, handle: int) -> list[str]:
        if path == "/":
            return [".", "..", *self._machines]
        machine, place, _ = self._there(path)
        return [".", "..", *self._children(machine, place)]

    def mkdir(self, path: str, mode: int) -> None:
        machine, place = self._split(path)
        if self._seen(machine, place) is not None:
            raise FuseOSError(errno.EEXIST)
        self._put(machine, place, Node(_FOLDER))

    def create(self, path: str, mode: int, info: Any = None) -> int:
        machine, place = self._split(path)
        node = Node(_FILE)
        self._put(machine, place, node, _NEVER)
        handle = self._handle(machine, place, node)
        self._begin_to_write(handle)
        return handle

    def open(self, path: str, flags: int) -> int:
        machine, place, node = self._there(path)
        return self._handle(machine, place, node)

    def _handle(self, machine: str, place: str, node: Node) -> int:
        self._last_handle += 1
        self._handles[self._last_handle] = Handle(machine, place, node)
        return self._last_handle

    def _begin_to_write(self, number: int) -> Node:
        handle = self._handles[number]
        if not handle.has_written:
            handle.has_written = True
            handle.node.writers += 1
            if handle.node.writers == 1:
                self._hold_back(handle.machine, handle.path, handle.node)
        handle.node.changed = int(time.time())
        return handle.node

    def _hold_back(self, machine: str, place: str, node: Node) -> None:
        """Others go on to see what was there before this machine began to write into it."""
        versions = self._tree.versions[place]
        if any(version.node is node and version.by == machine and version.seen_at == _NEVER for version in versions):
            return
        if not any(version.node is node for version in versions):
            return  # removed meanwhile
        kept = node.copy()
        for version in versions:
            if version.node is node:
                version.node = kept
        self._put(machine, place, node, _NEVER)

    def _let_go(self, node: Node, place: str) -> None:
        """From now on others get to see what was written, wherever it lies by now."""
        there = [version for version in self._tree.versions[place] if version.node is node]
        for versions in [there] if there else self._tree.versions.values():
            for version in versions:
                if version.node is node and version.seen_at == _NEVER:
                    version.seen_at = self._late()

    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        self._split(path)
        return bytes(self._handles[handle].node.data[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, handle: int) -> int:
        self._split(path)
        node = self._begin_to_write(handle)
        if len(node.data) < offset:
            node.data.extend(bytes(offset - len(node.data)))
        node.data[offset : offset + len(data)] = data
        return len(data)

    def truncate(self, path: str, length: int, handle: int | None = None) -> None:
        machine, place, node = self._there(path)
        number = handle if handle in self._handles else self._handle(machine, place, node)
        node = self._begin_to_write(number)
        del node.data[length:]
        node.data.extend(bytes(length - len(node.data)))
        if number != handle:
            self._close(number)

    def release(self, path: str, handle: int) -> None:
        self._close(handle)

    def _close(self, number: int) -> None:
        handle = self._handles.pop(number)
        if handle.has_written:
            handle.node.writers -= 1
            if not handle.node.writers:
                self._let_go(handle.node, handle.path)

    def unlink(self, path: str) -> None:
        machine, place, _ = self._there(path)
        self._put(machine, place, None)

    def rmdir(self, path: str) -> None:
        machine, place, _ = self._there(path)
        if self._children(machine, place):
            raise FuseOSError(errno.ENOTEMPTY)
        self._put(machine, place, None)

    def rename(self, old: str, new: str) -> None:
        machine, place, node = self._there(old)
        target = self._split(new)[1]
        if stat.S_ISDIR(node.mode):
            if self._children(machine, target):
                raise FuseOSError(errno.ENOTEMPTY)
            for name in self._children(machine, place):
                self._moved(machine, f"{place}/{name}", f"{target}/{name}")
        self._moved(machine, place, target)

    def _moved(self, machine: str, place: str, target: str) -> None:
        node = self._seen(machine, place)
        if node is None:
            return
        if stat.S_ISDIR(node.mode):
            for name in self._children(machine, place):
                self._moved(machine, f"{place}/{name}", f"{target}/{name}")
        self._put(machine, place, None)
        gone, there = sorted((self._late(), self._late()))
        if self._seen(machine, target) is not None:
            self._put(machine, target, None, gone)
        self._put(machine, target, node, _NEVER if node.writers else there)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        machine, place, node = self._there(path)
        changed = int(time.time()) if times is None else times[1] // 10**9
        if stat.S_ISDIR(node.mode):
            node.changed = changed
            return
        self._hold_back(machine, place, node)
        node.changed = changed
        if not node.writers:
            self._let_go(node, place)

    def chmod(self, path: str, mode: int) -> None:
        self._there(path)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self._there(path)

    def statfs(self, path: str) -> dict[str, int]:
        blocks = 1 << 24
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": blocks, "f_bfree": blocks, "f_bavail": blocks, "f_namemax": 255}

    def _refuse(self, *arguments: Any) -> None:
        raise FuseOSError(errno.EOPNOTSUPP)

    link = symlink = fsync = fsyncdir = _refuse


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mountpoint")
    parser.add_argument("--late-s", type=float, default=3.0)
    parser.add_argument("--spell-every-s", type=float, default=20.0, help="0 for no errors")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    drive = CloudDrive(arguments.late_s, arguments.spell_every_s, arguments.seed)
    # The kernel keeps nothing: what a machine sees changes by itself.
    kept = {f"{what}_timeout": 0 for what in ("attr", "entry", "negative")}
    FUSE(drive, arguments.mountpoint, foreground=True, fsname="cloud", subtype="cloud_drive", big_writes=True, **kept)


if __name__ == "__main__":
    main()
