"""Atomic, durable writes: a published file is complete when it appears and is never overwritten by accident.

Source of the order of steps: Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014.
"""

import contextlib
import errno
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from . import paths
from .errors import HeadstartError, as_try_later
from .liveness import process_token

TEMPORARY_PREFIX = ".tmp-"
_COPIED_AT_ONCE = 1 << 20
_counter = itertools.count()


def _temporary_name(folder: Path) -> Path:
    # Names its writer, so that `verify` can tell a write under way from what a dead process left behind.
    return folder / f"{TEMPORARY_PREFIX}{_token_of_writer(os.getpid())}-{next(_counter)}"


@functools.lru_cache(maxsize=1)
def _token_of_writer(pid: int) -> str:
    return process_token(pid)  # a process begins once, and a fork of it has another number


def is_abandoned(temporary: Path) -> bool | None:
    """Whether the writer of a temporary file is dead; None if that cannot be known on this machine."""
    return _is_of_the_dead(temporary.name.removeprefix(TEMPORARY_PREFIX))


def _is_of_the_dead(token: str) -> bool | None:
    parts = token.split("-")
    if len(parts) != 4 or not parts[1].isdecimal() or parts[0] != process_token(os.getpid()).split("-")[0]:
        return None
    return process_token(int(parts[1])) != "-".join(parts[:3])


@contextlib.contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A folder below the system's place for temporary ones, until the context ends.

    What a killed process of this user on this machine left there for the same purpose is removed first.
    """
    import tempfile  # half a millisecond that only few need

    place, prefix = Path(tempfile.gettempdir()), f"headstart-{purpose}-"
    for left in paths.folders(place, f"{prefix}*"):
        # Of this user alone: in a folder that all may write to, anybody may have made one of that name.
        with contextlib.suppress(OSError):
            if _is_own(left) and _is_of_the_dead(left.name.removeprefix(prefix)):
                paths.remove_tree(left)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{_token_of_writer(os.getpid())}-") as folder:
        yield Path(folder)


def _is_own(path: Path) -> bool:
    # On Windows each user has a place of their own for temporary files.
    return sys.platform == "win32" or paths.stat(path).st_uid == os.geteuid()


@contextlib.contextmanager
def environment_faults(doing: str) -> Iterator[None]:
    """Turns a full disk, a vanished mount and their like into TryLaterError; a missing or existing file passes as it is."""
    try:
        yield
    except PermissionError as error:
        raise HeadstartError(f"{doing}: Permission denied. Give this user access to it, or choose another folder") from error
    except OSError as error:
        later = as_try_later(error, doing)
        if later is None:
            raise
        raise later from error


@dataclass(frozen=True)
class FileSystem:
    """What the file system under a workspace can do, probed once when the workspace is made."""

    hard_links: bool = True
    fsync: bool = True

    def sync_folder(self, folder: Path) -> None:
        """Makes the names in `folder` survive a power cut."""
        if not self.fsync or os.name == "nt":  # Windows cannot open a folder for this and journals names itself
            return
        paths.sync_folder(folder)

    def make_folder(self, folder: Path, below: Path | None = None) -> None:
        """Creates `folder` and its missing parents, each durable before a file is published inside.

        Args:
            below: makes the names of all folders under this one durable, also of those that are there: whoever made them
                may have been killed before they were.
        """

        def is_unsure(path: Path) -> bool:
            return path != below if below is not None else not paths.is_folder(path)

        for path in reversed(list(itertools.takewhile(is_unsure, (folder, *folder.parents)))):
            with contextlib.suppress(FileExistsError):
                paths.make_folder(path)
            self.sync_folder(path.parent)

    def publish(self, path: Path, data: bytes) -> bool:
        """Creates `path` with `data`, complete and durable, unless it exists.

        Returns: False if `path` existed; it is then untouched.
        Raises: TryLaterError if the disk is full or gone; nothing is left behind.
        """
        with self._written_beside(path, [data]) as temporary:
            published = self._appear(temporary, path)
            self.sync_folder(path.parent)
            return published

    def publish_by_pieces(self, folder: Path, pieces: Iterable[bytes], name: Callable[[], str]) -> Path:
        """As `publish`, of bytes that need not be in memory at once; `name` in `folder` is asked for after the last.

        Returns: its path.
        """
        with self._written_beside(folder / "a new file", pieces) as temporary:
            path = folder / name()
            self._appear(temporary, path)
            self.sync_folder(folder)
            return path

    def replace(self, path: Path, data: bytes) -> None:
        """Puts `data` at `path`, complete and durable, whether it existed or not. Raises as `publish`."""
        self.replace_by_pieces(path, [data])

    def open_update(self, path: Path) -> FileIO:
        """A file that is there, open for reading and writing; one that has other names is copied first, so that it alone changes.

        Whoever calls it holds the lock of those that change it. Raises: LinkError; OSError; as `publish`.
        """
        file = paths.open_update(path, may_have_names=True)
        if os.fstat(file.fileno()).st_nlink == 1:
            return file

        def pieces() -> Iterator[bytes]:
            yield from iter(lambda: file.read(_COPIED_AT_ONCE), b"")
            file.close()  # before the copy takes its place: Windows replaces no file that is open

        with file:
            self.replace_by_pieces(path, pieces())
        return paths.open_update(path)

    def replace_by_pieces(self, path: Path, pieces: Iterable[bytes]) -> None:
        """As `replace`, of bytes that need not be in memory at once; nothing is there if getting them raises."""
        with self._written_beside(path, pieces) as temporary:
            paths.rename(temporary, path)
            self.sync_folder(path.parent)

    def _appear(self, temporary: Path, path: Path) -> bool:
        try:
            if self.hard_links:
                hard_link(temporary, path)
                return True
            # Without links there is no portable atomic "rename unless it exists"; two writers that pass this check
            # at the same moment both published something valid, and the later one stays.
            if paths.exists(path):
                return False
            paths.rename(temporary, path)
            return True
        except FileExistsError:
            return False

    @contextlib.contextmanager
    def _written_beside(self, path: Path, pieces: Iterable[bytes]) -> Iterator[Path]:
        with environment_faults(f"cannot write {path}"):
            temporary = _temporary_name(path.parent)
            try:
                with paths.create(temporary) as file:
                    for piece in pieces:
                        view = memoryview(piece)
                        while view:
                            view = view[file.write(view) :]
                    if self.fsync:
                        os.fsync(file.fileno())
                yield temporary
            finally:
                with contextlib.suppress(OSError):
                    paths.remove(temporary)


UNSYNCED = FileSystem(hard_links=False, fsync=False)  # for what is temporary, or made anew where a power cut took it


def hard_link(existing: Path, path: Path, folders: tuple[paths.Held, paths.Held] | None = None) -> None:
    """Gives a file a second name.

    Args: folders: of the two, where they are held open.

    Raises: FileExistsError, FileNotFoundError; HeadstartError on a file system that cannot, although it could when the
    workspace was made: the workspace was moved.
    """
    try:
        if folders is None:
            paths.link(existing, path)
        else:
            paths.link_held(existing, path, *folders)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        raise HeadstartError(
            f"cannot link {path}: {error.strerror}, although this workspace was made where hard links work. If it was moved, "
            "delete workspace.json: the next enqueue writes one that fits this file system, and keeps everything"
        ) from error


def probe(folder: Path) -> FileSystem:
    """Tries links and fsync in `folder` instead of believing what the file system is called."""
    temporary, other = _temporary_name(folder), _temporary_name(folder)
    try:
        with paths.create(temporary) as file:
            file.write(b"probe")
        return FileSystem(hard_links=_can(lambda: paths.link(temporary, other)), fsync=_can(lambda: _sync(temporary)))
    finally:
        for path in (temporary, other):
            with contextlib.suppress(FileNotFoundError):
                paths.remove(path)


def _sync(path: Path) -> None:
    with paths.open_update(path, may_have_names=True) as file:
        os.fsync(file.fileno())


def _can(action: Callable[[], object]) -> bool:
    try:
        action()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EIO, errno.EROFS):
            raise
        return False
    return True
