"""Lists the images below a folder: fast, with any name that the file system allows, and without ever leaving the folder."""

import itertools
import operator
import os
import stat
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, overload

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.text import printable

from .source import MISSING

# What is decoded, by Pillow's names, and the extensions that are taken for it: one list for `enqueue` and `work`, so that nothing
# is listed that is never decoded. Safe raster formats only: EPS would start Ghostscript. JPEG includes MPO. The first five load
# without Pillow's slow init(); AVIF is missing from some builds, so it is asked late; TGA has no magic number: asked last.
IMAGE_FORMATS = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "mpo"),
    "PNG": ("png", "apng"),
    "BMP": ("bmp", "dib"),
    "GIF": ("gif",),
    "PPM": ("pbm", "pgm", "ppm", "pnm"),
    "WEBP": ("webp",),
    "TIFF": ("tif", "tiff"),
    "JPEG2000": ("jp2", "j2k", "j2c", "jpx"),
    "ICO": (),  # decoded where it hides behind another name; as such it is an icon of a web page, not a photo
    "QOI": ("qoi",),
    "PCX": ("pcx",),
    "AVIF": ("avif", "avifs"),
    "TGA": ("tga",),
}
EXTENSIONS = frozenset(extension for extensions in IMAGE_FORMATS.values() for extension in extensions)
_CLUTTER = frozenset(
    {"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "lost+found", "FOUND.000", "System Volume Information"}
    | {"$RECYCLE.BIN", "$Recycle.Bin", "#recycle", "@Recycle", "#snapshot", "@Recently-Snapshot"}  # what was thrown away or kept
)
HIDDEN = "hidden"
_NAME = operator.attrgetter("name")


class ListedFile(NamedTuple):
    """Something with an image's name; `path` is relative to the root."""

    path: str
    size: int
    mtime_ns: int


class ListedFiles(Sequence[ListedFile]):
    """Files column by column, each made when it is asked for: a million take a third of the memory.

    Attributes:
        paths, sizes, mtimes: their columns; sizes and mtimes are int64.
    """

    def __init__(self, files: Iterable[ListedFile] = ()) -> None:
        self.paths: list[str] = []
        self.sizes, self.mtimes = array("q"), array("q")
        for file in files:
            self.append(*file)

    def append(self, path: str, size: int, mtime_ns: int) -> None:
        self.paths.append(path)
        self.sizes.append(size)
        self.mtimes.append(mtime_ns)

    def sort(self) -> None:
        """By path."""
        if all(map(operator.le, self.paths, itertools.islice(self.paths, 1, None))):
            return
        order = sorted(range(len(self.paths)), key=self.paths.__getitem__)
        self.paths = [self.paths[i] for i in order]
        self.sizes, self.mtimes = (array("q", (column[i] for i in order)) for column in (self.sizes, self.mtimes))

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> ListedFile: ...
    @overload
    def __getitem__(self, place: slice) -> list[ListedFile]: ...
    def __getitem__(self, place: int | slice) -> ListedFile | list[ListedFile]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        return ListedFile(self.paths[place], self.sizes[place], self.mtimes[place])

    def __iter__(self) -> Iterator[ListedFile]:
        return map(ListedFile, self.paths, self.sizes, self.mtimes)


@dataclass
class Walk:
    """What lies below a folder.

    Attributes:
        files: image-like entries, sorted by path.
        ignored: how many others, by extension; HIDDEN for dot files and the litter of operating systems.
        outside: links that leave the root, as 'link -> target'; they were not followed.
        repeated: links to folders that were not followed, because they lead back up or were followed before.
        folders: how many folders were listed, the root included.
        followed: targets of the links to folders that were followed.
        unreadable: folders that may not be listed, relative to the root.
    """

    files: ListedFiles = field(default_factory=ListedFiles)
    ignored: Counter[str] = field(default_factory=Counter)
    outside: list[str] = field(default_factory=list)
    repeated: int = 0
    folders: int = 0
    followed: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)


class _Folder(NamedTuple):
    relative: str  # '' or ends with '/'
    real: str  # the same folder without symbolic links


def is_image_name(name: str) -> bool:
    """Whether the extension, in any case, is an image's."""
    stem, _, extension = name.rpartition(".")
    return bool(stem) and extension.lower() in EXTENSIONS


def join(folder: str, path: str) -> str:
    """`path` below `folder`; a third of the cost of os.path.join, a tenth of Path's."""
    return f"{folder.rstrip('/')}/{path}"


def is_inside(path: str, root: str) -> bool:
    """Whether `path` is `root` or below; both without symbolic links."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def facts_of(path: str) -> tuple[int, int]:
    """(size, mtime_ns) of what `path` leads to, MISSING twice if nothing can be found there."""
    try:
        facts = Path(path).stat()
    except (OSError, ValueError):
        return MISSING, MISSING
    return facts.st_size, facts.st_mtime_ns


def walk_images(root: Path, allow_symlinks: bool) -> Walk:
    """Everything below `root` that has an image's name, whatever it is: a broken one fails later, as its own row.

    Links to folders are followed once each and never upwards, so loops end. A folder with an image's name counts as an
    image only if there is none below it.

    A folder that may not be listed is noted and passed over.

    Raises: HeadstartError if the root cannot be listed, or a folder for another reason; TryLaterError if the disk or mount fails.
    """
    result = Walk()
    named_like_images: list[ListedFile] = []
    # A stack instead of recursion: folders may be nested deeper than Python's calls.
    pending = [_Folder("", str(root))]
    while pending:
        folder = pending.pop()
        result.folders += 1
        below: list[_Folder] = []
        for entry in _entries(root, folder.relative, result):
            name = entry.name
            if name[0] == "." or name in _CLUTTER:
                result.ignored[HIDDEN] += 1
            elif entry.is_symlink():
                below += _link(entry, folder, None if allow_symlinks else str(root), result)
            elif entry.is_dir(follow_symlinks=False):
                below.append(_Folder(f"{folder.relative}{name}/", join(folder.real, name)))
                if is_image_name(name):
                    named_like_images.append(_listed_file(folder.relative + name, entry))
            elif is_image_name(name):
                result.files.append(*_listed_file(folder.relative + name, entry))
            else:
                result.ignored[_kind(name)] += 1
        pending.extend(sorted(below, reverse=True))  # sorted, so that it is always the same link that is followed
    result.files.sort()
    if named_like_images:
        for named in [named for named in named_like_images if not _has_below(result.files.paths, named.path)]:
            result.files.append(*named)
        result.files.sort()
    return result


def _entries(root: Path, relative: str, result: Walk) -> list["os.DirEntry[str]"]:
    path = join(str(root), relative)
    try:
        if relative and not os.access(path, os.R_OK | os.X_OK):
            result.unreadable.append(relative.rstrip("/"))  # lost+found and the like: named, and passed over
            return []
        with environment_faults(f"cannot list {printable(path)}"), os.scandir(path) as entries:
            return sorted(entries, key=_NAME)
    except OSError as error:
        raise HeadstartError(f"cannot list {printable(path)}: {error.strerror}. Make it readable, or move it away.") from error


def _listed_file(path: str, entry: "os.DirEntry[str]") -> ListedFile:
    try:
        facts = entry.stat(follow_symlinks=False)
    except OSError:  # gone since the folder was listed
        return ListedFile(path, MISSING, MISSING)
    return ListedFile(path, facts.st_size, facts.st_mtime_ns)


def _link(entry: "os.DirEntry[str]", folder: _Folder, limit: str | None, result: Walk) -> list[_Folder]:
    """The folder that the link leads to, if it is to be listed; anything else is noted in `result`."""
    relative = folder.relative + entry.name
    target = os.path.realpath(entry.path)
    if limit and not is_inside(target, limit):
        result.outside.append(f"{relative} -> {target}")
        return []
    try:
        is_folder = stat.S_ISDIR(Path(target).stat().st_mode)
    except OSError:
        is_folder = False
    if not is_folder:
        if is_image_name(entry.name):
            result.files.append(relative, *facts_of(target))
        else:
            result.ignored[_kind(entry.name)] += 1
        return []
    if is_inside(folder.real, target) or target in result.followed:
        result.repeated += 1
        return []
    result.followed.add(target)
    return [_Folder(f"{relative}/", target)]


def _kind(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    return f".{extension.lower()}" if stem and dot else "no extension"


def _has_below(files: list[str], path: str) -> bool:
    start = bisect_left(files, path + "/")
    return start < len(files) and files[start].startswith(path + "/")
