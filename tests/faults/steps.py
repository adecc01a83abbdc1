"""Every call to the file system below a folder, counted and labelled, so that a fault can stand before each."""

import builtins
import io
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headstart.pipeline import paths

_CALLS = ("link", "open", "rename", "replace", "unlink", "mkdir", "utime", "listdir", "scandir", "stat", "fsync")
# The doors ask the system for a name below an open folder; what they were asked for is a whole path.
_DOORS = {
    "link": "link",
    "link_held": "link",
    "open_file": "open",
    "rename": "rename",
    "remove": "unlink",
    "make_folder": "mkdir",
    "touch": "utime",
    "entries": "scandir",
    "stat": "stat",
    "sync_folder": "fsync",
}
_ROLES = {"/.tmp-": "temporary", "/done/": "marker", "/shards/": "payload", "/claims/": "claim", "/workers/": "worker file"}

Step = Callable[[str], None]


def watch(root: Path, step: Step) -> None:
    """From now on and for good, `step(label)` runs before each call on a path below `root` or on a descriptor.

    For a process of its own. A first write is cut in two, so that a fault can also stand in the middle of it.
    """
    prefix = str(root)
    for name in _CALLS:
        setattr(os, name, _watched(getattr(os, name), name, prefix, step))
    for name, call in _DOORS.items():
        setattr(paths, name, _watched(getattr(paths, name), call, prefix, step))
    opened = _watched_open(io.open, prefix, step)
    paths.create = lambda path: opened(path, "xb", 0)
    paths.open_update = lambda path, may_have_names=False: opened(path, "r+b", 0)
    builtins.open = io.open = _watched_open(io.open, prefix, step)


def counted(at: int, act: Callable[[str], None]) -> Step:
    """A step that calls `act` before the `at`-th call, counted from 1 over all threads."""
    calls = itertools.count(1)

    def step(label: str) -> None:
        if next(calls) == at:
            act(label)

    return step


def _watched(original: Callable[..., Any], name: str, prefix: str, step: Step) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if not arguments or isinstance(arguments[0], int):
            step(name)
        elif str(arguments[0]).startswith(prefix):
            # Of two paths the second says what is about to appear.
            is_pair = len(arguments) > 1 and isinstance(arguments[1], (str, os.PathLike))
            step(f"{name} {_role(str(arguments[1 if is_pair else 0]))}")
        return original(*arguments, **options)

    return call


def _watched_open(original: Callable[..., Any], prefix: str, step: Step) -> Callable[..., Any]:
    class Unbuffered(io.FileIO):
        is_begun = False

        def write(self, data: Any) -> int:
            step(f"write {_role(str(self.name))}")
            half = len(data) // 2
            if self.is_begun or not half:
                return super().write(data)
            self.is_begun = True
            return super().write(memoryview(data)[:half])

        def truncate(self, size: int | None = None) -> int:
            step(f"truncate {_role(str(self.name))}")
            return super().truncate(size)

        def close(self) -> None:
            if not self.closed:
                step(f"close {_role(str(self.name))}")
            super().close()

    def call(file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
        if isinstance(file, int) or not str(file).startswith(prefix):
            return original(file, mode, buffering, *arguments, **options)
        step(f"open {_role(str(file))}")
        if buffering == 0:
            return Unbuffered(file, mode)
        return original(file, mode, buffering, *arguments, **options)

    return call


def _role(path: str) -> str:
    return next((role for part, role in _ROLES.items() if part in path), path.rsplit("/", 1)[-1])
