"""Files below a workspace: opened, made, renamed and removed component by component, following no link.

A path says by itself which workspace it is in, as far as this process opened one (`enter`): from that root down no component may
be a symbolic link, so nobody can lead a read or a write out of it. The root itself is what its user named, links included. Of a
path in no workspace only the last component is not followed. Where the system cannot open relative to a folder (Windows), each
component is looked at before the whole is used.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import stat as modes
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import one_line

_RELATIVE = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW") and hasattr(os, "O_DIRECTORY")
_LINKS_THEMSELVES = os.link in os.supports_follow_symlinks
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_EVERY = (
    _NOFOLLOW
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_PATH", os.O_RDONLY)
_LISTED = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_KEPT_FOLDERS = 16
_HELD_S = 1.0
_LOOKS, _LOOK_S = 50, 0.01  # for how long a file may have the name, too, under which it was written, or be open on Windows
_LINKS = {getattr(errno, name) for name in ("ELOOP", "ENOTDIR", "EEXIST", "EMLINK", "EFTYPE") if hasattr(errno, name)}


class LinkError(HeadstartError):
    """A component of a path in a workspace is a symbolic link, or no name at all."""

    def __init__(self, path: str, what: str = "is a symbolic link") -> None:
        super().__init__(
            f"{one_line(path)} {what}, and nothing in a workspace is followed out of it. Put the real file or folder there"
        )
        self.path = Path(path)


class _Folder:
    """An open folder, closed when nobody holds it any more: no other thread is left with a number that means another file."""

    __slots__ = ("descriptor", "identity")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        facts = os.fstat(descriptor)
        self.identity = facts.st_dev, facts.st_ino

    def is_at(self, path: str) -> bool:
        """One look instead of a walk: while the path leads to the folder that was reached without links, that is it."""
        try:
            facts = os.stat(path)
        except OSError:
            return False
        return (facts.st_dev, facts.st_ino) == self.identity

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


class _Place(NamedTuple):
    """Where a system call finds a file: a name below an open folder, or a whole path where that does not exist."""

    name: str
    folder: _Folder | None

    @property
    def descriptor(self) -> int | None:
        return None if self.folder is None else self.folder.descriptor


class _Reached(NamedTuple):
    """Where a walk to a folder ended: at itself, or above `missing`, the first component that was not there."""

    folder: _Folder | None
    missing: str
    until: float


_NOWHERE = _Reached(None, "", -1.0)


class Held:
    """A folder that stays open: what lies in it is asked for by its name, with one system call and no walk.

    Where its path leads is looked at once a second. Until then it is the folder that was reached without links, whatever stands
    at its path by now. Of a folder that is not there yet the nearest one above it is held.
    """

    def __init__(self, folder: Path | str) -> None:
        self._path = _text(folder)
        self._reached = _NOWHERE

    def may_have(self, name: str) -> bool:
        """False only if nothing is there under that name; True also where only a look by the whole path can tell.

        Raises: LinkError.
        """
        try:
            folder, missing, _ = self.now()
            if folder is not None:
                os.stat(missing or name, dir_fd=folder.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        if missing:
            self.forget()
        return True

    def open_file(self, name: str) -> int | None:
        """A descriptor of what lies there under that name, to read; None if there is none, or only the whole path can tell."""
        try:
            folder, missing, _ = self.now()
            return None if folder is None or missing else os.open(name, os.O_RDONLY | _EVERY, dir_fd=folder.descriptor)
        except OSError:
            return None

    def stat(self, name: str) -> os.stat_result | None:
        """Of the thing itself, a link included; None as `open_file`."""
        try:
            folder, missing, _ = self.now()
            return None if folder is None or missing else os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
        except OSError:
            return None

    def forget(self) -> None:
        """The next call looks at the path again."""
        self._reached = _NOWHERE

    def now(self) -> _Reached:
        """The open folder, or what there is of its path."""
        reached = self._reached
        if time.monotonic() < reached.until:
            return reached
        folder, missing, opened = self._path, "", None
        while _RELATIVE and opened is None:
            try:
                opened = _opened(folder)
            except (FileNotFoundError, NotADirectoryError):
                folder, _, missing = folder.rpartition(os.sep)
                if not folder:
                    raise
        self._reached = reached = _Reached(opened, missing, time.monotonic() + _HELD_S)
        return reached


# Which workspaces this process opened. A caller that had to name the root with each path could name a wrong one, or none.
_roots: set[str] = set()
_kept: OrderedDict[str, _Folder] = OrderedDict()
_lock = threading.Lock()


def enter(root: Path) -> None:
    """From now on nothing below `root` is reached through a link."""
    _roots.add(_text(root))


def is_guarded(path: Path | str) -> bool:
    """Whether it lies in a workspace that this process opened."""
    return _root_of(_text(path)) is not None


def open_file(path: Path | str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """A descriptor, as `os.open`; it never waits for the other end of a pipe and is not passed on to children.

    Raises: LinkError; OSError with the whole path.
    """
    place = _place(path)
    if not _NOFOLLOW and not flags & os.O_EXCL and os.path.islink(place.name):
        raise LinkError(os.fspath(path))
    try:
        return os.open(place.name, flags | _EVERY, mode, dir_fd=place.descriptor)
    except OSError as error:
        error.filename = os.fspath(path)
        if os.name == "nt" and error.errno == errno.EACCES and os.path.isdir(place.name):  # of which Windows says no more
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), error.filename) from None
        # A link where a new file should be is a file that exists.
        raise (error if flags & os.O_EXCL else _as_link(error, path, place)) from None
    except UnicodeEncodeError:
        raise _no_name(path) from None


def create(path: Path | str) -> FileIO:
    """A new file, open for writing, unbuffered: on network file systems close is where a quota speaks up.

    Raises: FileExistsError, also if a link stands there; LinkError; OSError.
    """
    return FileIO(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w")


def open_update(path: Path | str, may_have_names: bool = False) -> FileIO:
    """A regular file that is there, open for reading and writing, unbuffered.

    Args: may_have_names: also one that has other names, which may lie outside; `FileSystem.open_update` copies it first.

    Raises: LinkError; OSError.
    """
    return _changed_in_place(path, os.O_RDWR, "r+", may_have_names)


def open_append(path: Path | str) -> FileIO:
    """A regular file that has no other name, made if absent; what is written goes to its end. Raises: LinkError; OSError."""
    return _changed_in_place(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, "a", may_have_names=False)


def _changed_in_place(path: Path | str, flags: int, mode: str, may_have_names: bool) -> FileIO:
    file = FileIO(open_file(path, flags), mode)
    facts = os.fstat(file.fileno())
    why = "" if modes.S_ISREG(facts.st_mode) else "is no regular file"
    if not why and not may_have_names and facts.st_nlink > 1 and lasting_names(lambda: os.fstat(file.fileno())) > 1:
        why = "has another name, which may be anywhere"
    if why:
        file.close()
        raise LinkError(os.fspath(path), why)
    return file


def lasting_names(look: Callable[[], os.stat_result]) -> int:
    """How many names a file has in the end; one that appears has a temporary one beside it for a moment."""
    for _ in range(_LOOKS):
        names = look().st_nlink
        if names <= 1:
            break
        time.sleep(_LOOK_S)
    return names


def stat(path: Path | str) -> os.stat_result:
    """Of the thing itself, a link included. Raises: LinkError if it lies behind one; OSError."""
    place = _place(path)
    try:
        return os.stat(place.name, dir_fd=place.descriptor, follow_symlinks=False)
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    except UnicodeEncodeError:
        raise _no_name(path) from None


def exists(path: Path | str) -> bool:
    """Whether anything is there, be it a link that leads nowhere. Raises: LinkError if it lies behind one."""
    try:
        stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EACCES):
            return False
        raise
    return True


def is_file(path: Path | str) -> bool:
    """Whether a regular file is there, which a link is not. Raises: LinkError if it lies behind one."""
    try:
        return modes.S_ISREG(stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_folder(path: Path | str) -> bool:
    """Whether a folder is there, which a link is not. Raises: LinkError if it lies behind one."""
    try:
        return modes.S_ISDIR(stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_link(path: Path | str) -> bool:
    """Whether a link is there, wherever it leads. Raises: LinkError if it lies behind another."""
    try:
        return modes.S_ISLNK(stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def remove(path: Path | str) -> None:
    """As `os.unlink`: of a link the link itself."""
    with _said(path):
        place = _place(path)
        _when_free(lambda: os.unlink(place.name, dir_fd=place.descriptor))


def remove_folder(path: Path | str) -> None:
    """As `os.rmdir`."""
    with _said(path):
        place = _place(path)
        os.rmdir(place.name, dir_fd=place.descriptor)


def make_folder(path: Path | str) -> None:
    """As `os.mkdir`. Raises: LinkError also if a link stands there."""
    with _said(path):
        place = _place(path)
        try:
            os.mkdir(place.name, dir_fd=place.descriptor)
        except FileExistsError as error:
            raise _as_link(error, path, place) from None


def rename(old: Path | str, new: Path | str) -> None:
    """As `os.replace`: of a link the link itself; what stood at `new` is gone."""
    with _said(old):
        source, target = _place(old), _place(new)
        _when_free(lambda: os.replace(source.name, target.name, src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor))


def _when_free(change: Callable[[], None]) -> None:
    """Removes or renames; Windows refuses that of a file that anybody has open, and who only reads it has it for a moment."""
    for _ in range(_LOOKS if os.name == "nt" else 0):
        try:
            return change()
        except PermissionError:
            time.sleep(_LOOK_S)
    return change()


def link(existing: Path | str, new: Path | str) -> None:
    """Gives a file a second name, as `os.link`."""
    with _said(new):
        source, target = _place(existing), _place(new)
        if source.folder is None or not _LINKS_THEMSELVES:
            os.link(source.name, target.name, src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor)
        else:
            os.link(source.name, target.name, src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor, follow_symlinks=False)


def link_held(existing: Path, new: Path, source: Held, folder: Held) -> None:
    """As `link`, of files in two folders that are held open.

    Raises: FileNotFoundError if a folder or the file is missing; LinkError; FileExistsError; OSError.
    """
    theirs, mine = source.now(), folder.now()
    if theirs.folder is None or mine.folder is None or not _LINKS_THEMSELVES:
        link(existing, new)
        return
    try:
        if theirs.missing or mine.missing:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(new))
        descriptors = theirs.folder.descriptor, mine.folder.descriptor
        os.link(existing.name, new.name, src_dir_fd=descriptors[0], dst_dir_fd=descriptors[1], follow_symlinks=False)
    except FileNotFoundError:
        source.forget()  # gone, or another one is at its path: the next call looks
        folder.forget()
        raise


def touch(path: Path | str) -> None:
    """Sets both time stamps to now, of the file itself."""
    with _said(path):
        place = _place(path)
        if place.folder is None:
            os.utime(place.name)
        else:
            os.utime(place.name, dir_fd=place.descriptor, follow_symlinks=False)


def sync_folder(path: Path | str) -> None:
    """Makes the names in a folder survive a power cut."""
    descriptor = _listed(path)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def entries(folder: Path | str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """As `os.scandir`. What an entry says with `follow_symlinks=False` is of the entry itself; ask it no other way."""
    if not _RELATIVE or os.scandir not in os.supports_fd:
        with _said(folder), os.scandir(_text(folder)) as found:
            _place(Path(folder) / "-")
            yield found
        return
    descriptor = _listed(folder)
    try:
        with os.scandir(descriptor) as found:
            yield found
    finally:
        os.close(descriptor)


def names(folder: Path | str) -> list[str]:
    """As `os.listdir`."""
    with entries(folder) as found:
        return [entry.name for entry in found]


def matching(folder: Path, pattern: str) -> Iterator[Path]:
    """Paths below `folder` that `a/*/b_*` describes, sorted. No link is looked into; a folder that is gone is empty."""
    first, _, rest = pattern.partition("/")
    try:
        with entries(folder) as found:
            there = sorted(
                entry.name
                for entry in found
                if fnmatch.fnmatchcase(entry.name, first) and (not rest or entry.is_dir(follow_symlinks=False))
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in there:
        if rest:
            yield from matching(folder / name, rest)
        else:
            yield folder / name


def folders(folder: Path, pattern: str = "*") -> list[Path]:
    """As `matching`, of folders alone; a link to one is none."""
    return [path for path in matching(folder, pattern) if is_folder(path)]


def walk(folder: Path) -> Iterator[Path]:
    """Everything below `folder`, folders before what is in them; links are told of and not followed."""
    return (path for path, _ in _below(folder))


def remove_tree(folder: Path) -> None:
    """Removes a folder and all that is in it: of a link the link itself. What is gone meanwhile is no error. Raises: OSError."""
    for path, is_folder in [(folder, True), *_below(folder)][::-1]:
        with contextlib.suppress(FileNotFoundError):
            (remove_folder if is_folder else remove)(path)


def tree_bytes(path: Path) -> int:
    """Of a file, or of all files below a folder; of a link its own. What cannot be looked at counts as nothing."""
    total = 0
    with contextlib.suppress(OSError):
        facts = stat(path)
        if not modes.S_ISDIR(facts.st_mode):
            return facts.st_size
    waiting = [path]
    while waiting:
        here = waiting.pop()
        with contextlib.suppress(OSError), entries(here) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(here / entry.name)
                    continue
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _below(folder: Path) -> Iterator[tuple[Path, bool]]:
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with entries(here) as found:
                there = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        for name, is_dir in there:
            yield here / name, is_dir
            if is_dir:
                waiting.append(here / name)


def _text(path: Path | str) -> str:
    text = os.fspath(path)
    if "\0" in text:
        raise LinkError(text.replace("\0", "\\x00"), "is no path: it holds a NUL")
    return text


def _place(path: Path | str) -> _Place:
    text = _text(path)
    folder, _, name = text.rpartition(os.sep)
    if name in ("", ".", ".."):
        raise LinkError(text, "is no name of a file")
    if not _RELATIVE:
        _refuse_links(text)
        return _Place(text, None)
    return _Place(name, _opened(folder or (os.sep if text.startswith(os.sep) else os.curdir)))


def _root_of(folder: str) -> str | None:
    # The shortest: a workspace within a workspace is still within the outer one.
    end = 0
    while (end := folder.find(os.sep, end + 1)) > 0:
        if folder[:end] in _roots:
            return folder[:end]
    return folder if folder in _roots else None


def _no_name(path: Path | str) -> LinkError:
    return LinkError(ascii(os.fspath(path))[1:-1], "is no name of a file")


def _opened(folder: str) -> _Folder:
    """`folder`, each component below its workspace opened without following it."""
    with _lock:
        kept = _kept.get(folder)
    if kept is None:
        root = _root_of(folder)
        if root is None:
            return _Folder(os.open(folder, _FOLDER))
    else:
        if kept.is_at(folder):
            return kept
        root = _root_of(folder) or folder
    current = _walked(root, folder)
    _keep(folder, current)
    return current


def _keep(folder: str, opened: _Folder) -> None:
    with _lock:
        _kept[folder] = opened
        _kept.move_to_end(folder)
        while len(_kept) > _KEPT_FOLDERS:
            _kept.popitem(last=False)


def _walked(root: str, folder: str) -> _Folder:
    reached, current = _nearest_kept(root, folder)
    begun = reached
    for name in folder[len(begun) :].split(os.sep):
        if name in ("", "."):
            continue
        if name == "..":
            raise LinkError(folder, "leads upwards")
        try:
            following = _Folder(os.open(name, _FOLDER | _NOFOLLOW, dir_fd=current.descriptor))
        except OSError as error:
            if reached != begun:
                _keep(reached, current)  # in a group that has no folder yet, each job is looked for
            raise _as_link(error, f"{reached}{os.sep}{name}", _Place(name, current)) from None
        reached, current = f"{reached}{os.sep}{name}", following
    return current


def _nearest_kept(root: str, folder: str) -> tuple[str, _Folder]:
    """Where a walk to `folder` may begin: the nearest folder above it that was reached without links, or the workspace."""
    above = folder
    while len(above) > len(root):
        above = above.rpartition(os.sep)[0]
        with _lock:
            kept = _kept.get(above)
        if kept is not None and kept.is_at(above):
            return above, kept
    return root, _Folder(os.open(root, _FOLDER))


def _listed(folder: Path | str) -> int:
    text = _text(folder)
    with _said(folder):
        if not _RELATIVE:
            _refuse_links(text)
            return os.open(text, _LISTED)
        if _root_of(text) in (None, text):
            return os.open(text, _LISTED)
        place = _place(text)
        try:
            return os.open(place.name, _LISTED | _NOFOLLOW, dir_fd=place.descriptor)
        except OSError as error:
            raise _as_link(error, text, place) from None


def _as_link(error: OSError, path: Path | str, place: _Place) -> Exception:
    """LinkError if a link is why; systems say so in different words."""
    if error.errno in _LINKS:
        with contextlib.suppress(OSError):
            if modes.S_ISLNK(os.stat(place.name, dir_fd=place.descriptor, follow_symlinks=False).st_mode):
                return LinkError(os.fspath(path))
    return error


def _refuse_links(text: str) -> None:
    root = _root_of(text)
    if root is None:
        return
    reached = root
    for name in text[len(root) :].split(os.sep):
        if name in ("", "."):
            continue
        if name == "..":
            raise LinkError(text, "leads upwards")
        reached = f"{reached}{os.sep}{name}"
        with contextlib.suppress(OSError):
            facts = os.lstat(reached)
            # A junction of Windows is no link to S_ISLNK, and leads away all the same.
            if modes.S_ISLNK(facts.st_mode) or getattr(facts, "st_reparse_tag", False):
                raise LinkError(reached)


@contextlib.contextmanager
def _said(path: Path | str) -> Iterator[None]:
    """Errors name the whole path, not the last component that the system was asked for."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            error.filename = os.fspath(path)
            error.filename2 = None
        raise
    except UnicodeEncodeError:
        raise _no_name(path) from None
