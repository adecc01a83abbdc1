"""What a piece of code does to the files below one folder, call by call, in order: what a power cut is made from."""

import builtins
import contextlib
import io
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from headstart.pipeline import paths

IGNORED = (".lock",)  # says nothing that outlives its holder


@dataclass(frozen=True)
class Operation:
    """One call.

    Attributes:
        call: open, write, truncate, sync, link, rename, unlink, mkdir, or promise: from here on a user counts on `path`.
        path, other: what it is about; for link and rename from `path` to `other`.
        handle: what an open file or folder is called in later calls.
        offset: where a write begins, or the size that a truncation leaves.
        flags: of open.
    """

    call: str
    path: str = ""
    other: str = ""
    handle: int = 0
    offset: int = 0
    data: bytes = b""
    flags: int = 0


class Recorder:
    """Lists the operations below `root` while it is active; each is listed in the moment in which it is done.

    Args:
        after: called after each operation with all so far; it may end the process.
    """

    def __init__(self, root: Path, after: Callable[[list[Operation]], None] = lambda operations: None) -> None:
        self.operations: list[Operation] = []
        self._after = after
        self._root = str(root)
        self._lock = threading.RLock()
        self._handles: dict[int, int] = {}
        self._numbers = itertools.count(os.getpid() * 1_000_000)  # unlike those of another process

    def promise(self, what: str) -> None:
        with self._lock:
            self._add("promise", what)

    def is_recorded(self, path: object) -> bool:
        if not isinstance(path, str | os.PathLike):
            return False
        text = os.fspath(path)
        return isinstance(text, str) and text.startswith(self._root) and not text.endswith(IGNORED)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        patches = [mock.patch.object(os, name, getattr(self, f"_{name}")(getattr(os, name))) for name in _CALLS]
        # The doors ask the system for a name below an open folder; what they were asked for is a whole path.
        patches += [
            mock.patch.object(paths, name, getattr(self, f"_{call}")(getattr(paths, name))) for name, call in _DOORS.items()
        ]
        patches += [
            mock.patch.object(paths, name, self._file(name, mode)) for name, mode in (("create", "x"), ("open_update", "r+"))
        ]
        opened = self._opened(io.open)
        patches += [mock.patch.object(io, "open", opened), mock.patch.object(builtins, "open", opened)]
        with contextlib.ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            yield

    def _add(self, call: str, *paths: object, **facts: object) -> None:
        self.operations.append(Operation(call, *(os.fspath(path) for path in paths), **facts))  # type: ignore[arg-type]
        self._after(self.operations)

    def _paths(self, call: str):
        def wrap(original):
            def recorded(*paths, **options):
                with self._lock:
                    result = original(*paths, **options)
                    named = [path for path in paths if isinstance(path, str | os.PathLike)]
                    if named and self.is_recorded(named[-1]):
                        self._add(call, *named)
                    return result

            return recorded

        return wrap

    def _link(self, original):
        return self._paths("link")(original)

    def _rename(self, original):
        return self._paths("rename")(original)

    _replace = _rename

    def _unlink(self, original):
        return self._paths("unlink")(original)

    _remove = _unlink

    def _mkdir(self, original):
        return self._paths("mkdir")(original)

    def _open(self, original):
        def recorded(path, flags=os.O_RDONLY, *rest, **options):
            with self._lock:
                descriptor = original(path, flags, *rest, **options)
                self._handles.pop(descriptor, None)  # whoever had that number before closed it, a file object unheard
                # Neither what a door asks for nor the folder that it asks in: what the door itself was asked for is noted.
                if self.is_recorded(path) and "dir_fd" not in options and not flags & os.O_DIRECTORY:
                    self.note_open(descriptor, os.fspath(path), flags)
                return descriptor

        return recorded

    def note_open(self, descriptor: int, path: str, flags: int) -> None:
        self._handles[descriptor] = next(self._numbers)
        self._add("open", path, handle=self._handles[descriptor], flags=flags)

    def note_write(self, descriptor: int, offset: int, data: bytes) -> None:
        if descriptor in self._handles:
            self._add("write", handle=self._handles[descriptor], offset=offset, data=data)

    def _write(self, original):
        def recorded(descriptor, data):
            with self._lock:
                offset = os.lseek(descriptor, 0, os.SEEK_CUR) if descriptor in self._handles else 0
                written = original(descriptor, data)
                self.note_write(descriptor, offset, bytes(data)[:written])
                return written

        return recorded

    def _fsync(self, original):
        def recorded(descriptor):
            with self._lock:
                original(descriptor)
                if descriptor in self._handles:
                    self._add("sync", handle=self._handles[descriptor])

        return recorded

    def _close(self, original):
        def recorded(descriptor):
            with self._lock:
                self._handles.pop(descriptor, None)
                original(descriptor)

        return recorded

    def _sync_folder(self, original):
        def recorded(path):
            with self._lock:
                original(path)
                if self.is_recorded(path):
                    handle = next(self._numbers)
                    self._add("open", path, handle=handle, flags=os.O_RDONLY)
                    self._add("sync", handle=handle)

        return recorded

    def _file(self, name, mode):
        original = getattr(paths, name)

        def recorded(path, *rest, **options):
            return _RecordedFile(self, os.fspath(path), mode) if self.is_recorded(path) else original(path, *rest, **options)

        return recorded

    def _opened(self, original):
        def recorded(file, mode="r", buffering=-1, *rest, **options):
            if not self.is_recorded(file) or not set(mode) & set("wax+"):
                return original(file, mode, buffering, *rest, **options)
            raw = _RecordedFile(self, os.fspath(file), mode)
            if buffering == 0:
                return raw
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *rest, **options)

        return recorded


class _RecordedFile(io.FileIO):
    """A file opened for writing, whose writes go through the kernel without passing `os.write`."""

    def __init__(self, recorder: Recorder, path: str, mode: str) -> None:
        self._recorder = recorder
        with recorder._lock:
            super().__init__(path, mode.replace("b", "").replace("t", ""))
            flags = (os.O_TRUNC if "w" in mode else 0) | (os.O_CREAT if set(mode) & set("wax") else 0)
            recorder.note_open(self.fileno(), path, flags)

    def write(self, data) -> int:
        with self._recorder._lock:
            if "a" in self.mode:
                self.seek(0, os.SEEK_END)
            offset = self.tell()
            written = super().write(data)
            self._recorder.note_write(self.fileno(), offset, bytes(data)[:written])
            return written

    def truncate(self, size=None) -> int:
        with self._recorder._lock:
            size = super().truncate(size)
            self._recorder._add("truncate", handle=self._recorder._handles[self.fileno()], offset=size)
            return size

    def close(self) -> None:
        with self._recorder._lock:
            if not self.closed:
                self._recorder._handles.pop(self.fileno(), None)
            super().close()


_DOORS = {
    "open_file": "open",
    "link": "link",
    "link_held": "link",
    "rename": "rename",
    "remove": "unlink",
    "make_folder": "mkdir",
    "sync_folder": "sync_folder",
}
_CALLS = ("link", "rename", "replace", "unlink", "remove", "mkdir", "open", "write", "fsync", "close")
