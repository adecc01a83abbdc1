"""What a data set is before anything is computed: its images, where they lie, and what was decided about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

MISSING = -1  # size and mtime_ns of a file that is named but not there
Layout = Literal["classes", "split_classes", "class_splits", "flat", "table", "hdf5", "parquet"]


class Image(NamedTuple):  # a data set has a million, and a dataclass takes four times as long to make
    """One image as the user gave it; nothing of it has been read.

    Attributes:
        path: relative to the source's root, '/' between parts; bytes that are not UTF-8 as surrogateescape. An image of
            an HDF5 or Parquet file is `NAME#000000042`, nine digits, so that paths sort like rows.
        label, group: '' for none.
        split: 'train', 'val', 'test', or '' if the user gave none.
        size, mtime_ns: bytes and nanoseconds of what is there; MISSING if nothing is.
        extra: values of the table's other columns, in the order of `Source.columns`.
        digest: of the image's bytes, 32 hex digits; '' if they were not read.
    """

    path: str
    label: str
    split: str
    group: str
    size: int
    mtime_ns: int
    extra: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class SourceOptions:
    """What the user said about the data. A column '' means: this role has none, do not look for one.

    Attributes:
        group_by: 'folder' (the deepest) or a depth: images of one folder stay in one split; 'none': no more; None: as before.
        remembered: (role, column) as the data set was read before: taken where nothing else was said and the column is there.
    """

    path_col: str | None = None
    label_col: str | None = None
    split_col: str | None = None
    group_col: str | None = None
    group_by: str | None = None
    layout: Literal["auto", "classes", "flat"] = "auto"
    allow_symlinks: bool = False
    keep_case: bool = False
    remembered: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Source:
    """The images of the user's DATA, and how they were read.

    Attributes:
        root: absolute, without symbolic links; every image's path is relative to it.
        file: name of the table, HDF5 or Parquet file inside root, None for folders.
        images: sorted by path, each path once.
        lots: for each image the number of its lot: images of a lot are cheap to read one after the other, see `blocks`; () where
            any order is as good.
        columns: names of the images' `extra`.
        roles: (role, column) of a table, for example ('label', 'species').
        ignored: files that are no images by their extension, and hidden ones.
        unreadable: folders that could not be listed, relative to root; what is known of them is left as it is.
        duplicates: rows dropped because they name a path again.
        allow_symlinks, keep_case, said_layout: as in SourceOptions.
        notes: decisions to print.
    """

    root: Path
    layout: Layout
    file: str | None
    images: Sequence[Image]
    lots: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    roles: tuple[tuple[str, str], ...] = ()
    ignored: int = 0
    unreadable: tuple[str, ...] = ()
    duplicates: int = 0
    allow_symlinks: bool = False
    keep_case: bool = False
    said_layout: Literal["auto", "classes", "flat"] = "auto"
    notes: tuple[str, ...] = ()


def refuse_links(outside: Sequence[str], root: Path) -> None:
    """Raises HeadstartError if there are links that leave `root`; each is given as 'where -> target'."""
    if outside:
        count = "1 symbolic link leaves" if len(outside) == 1 else f"{len(outside):,} symbolic links leave"
        raise HeadstartError(
            f"{count} {printable(str(root))}, first: {printable(outside[0])}. "
            "Copy the files there, or pass --allow-symlinks if the targets may be read."
        )


# Columns of every manifest; a table's column of such a name gets a prefix there.
FIXED_COLUMNS = ("path", "label", "split", "group", "size", "mtime_ns")
IMAGE_COLUMNS = ("image_digest", *FIXED_COLUMNS, "image_row", "image_mask", "image_region")
