"""Finds the images in whatever the user calls DATA, and says how it was read. Decodes none of them."""

import contextlib
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.text import printable

from .folder import folder_source
from .image_table import table_of
from .parquet import PARQUET
from .read_table import DELIMITERS, read_table
from .scenes import grouped
from .source import Image, Source, SourceOptions
from .spellings import SPLITS
from .walk import is_image_name

_HDF5 = frozenset({".h5", ".hdf5", ".hdf"})
_LAYOUTS = {
    "classes": "folder of classes",
    "split_classes": "folders of splits with classes",
    "class_splits": "folders of classes with splits",
    "flat": "folder without labels",
    "table": "table",
    "hdf5": "HDF5 file",
    "parquet": "Parquet with the images in it",
}

_HINTS = {
    (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar"): " Unpack it, and pass the folder.",
    (".csv.gz", ".tsv.gz", ".gz", ".bz2", ".xz", ".zst"): " Decompress it first.",
    (".xlsx", ".xls", ".ods", ".numbers"): " Save the table as CSV UTF-8.",
    (".txt", ".tab", ".dat"): " A table must be called .csv or .tsv.",
    (".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".arrow", ".feather"): " Convert it to CSV or Parquet, with a row an image.",
    (".npz", ".npy", ".mat", ".pt", ".pth", ".pkl"): " Save its images in HDF5, or as files in a folder.",
}


def find_images(data: Path, options: SourceOptions) -> Source:
    """As `_found`, with groups by folders where `options` ask for them; see `scenes.grouped`."""
    return grouped(_found(data, options), options)


def _found(data: Path, options: SourceOptions) -> Source:
    """All images of `data`, a folder, a table, an HDF5 file, or Parquet files with images in them.

    Raises: HeadstartError with one line on what is wrong and which flag or change helps; TryLaterError if the disk fails.
    """
    shown = printable(str(data))
    try:
        with environment_faults(f"cannot read {shown}"):
            mode = data.stat().st_mode
            # Only the folder is resolved: a table that is a link names files beside the link, as its reader sees it.
            place = data.resolve() if stat.S_ISDIR(mode) else data.absolute().parent.resolve() / data.name
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "there is no such file"
        raise HeadstartError(
            f"{shown}: {reason}. Expected a folder of images, a .csv, .tsv or .parquet table, or an .h5 file."
        ) from None
    if stat.S_ISDIR(mode):
        source = folder_source(place, options)
        if source.layout != "parquet":
            _refuse_flags(shown, "a folder", _column_flags(options))
        return source
    _refuse_flags(shown, "a file", [] if options.layout == "auto" else ["--layout"])
    suffix = place.suffix.lower()
    if stat.S_ISREG(mode) and _is_lfs_pointer(place, shown):
        raise HeadstartError(f"{shown} is a pointer of Git LFS instead of the data. Fetch it: git lfs pull")
    if stat.S_ISREG(mode) and (suffix in DELIMITERS or suffix in PARQUET):
        from .table import means_pictures, table_source

        table = read_table(place)
        if means_pictures(table, place.parent, options):
            from .pictures import pictures_of_table

            return pictures_of_table(place, table, options)
        return table_source(place, table, options)
    if stat.S_ISREG(mode) and suffix in _HDF5:
        from .hdf5 import hdf5_source

        _refuse_flags(shown, "an HDF5 file", _column_flags(options))
        return hdf5_source(place, options)
    if is_image_name(place.name):
        raise HeadstartError(f"{shown} is a single image; expected the folder that holds it: {printable(str(place.parent))}")
    hint = next((hint for endings, hint in _HINTS.items() if place.name.lower().endswith(endings)), "")
    raise HeadstartError(
        f"{shown} is no kind of data set; expected a folder of images, a .csv, .tsv or .parquet table, or an .h5 file.{hint}"
    )


def _is_lfs_pointer(file: Path, shown: str) -> bool:
    with environment_faults(f"cannot read {shown}"), contextlib.suppress(PermissionError), reading.opened_given(file) as content:
        return content.read(len(reading.LFS_POINTER)) == reading.LFS_POINTER
    return False


def describe(source: Source) -> list[str]:
    """Lines that tell a user what was detected, so that a wrong guess is seen before hours are spent on it."""
    images, table = source.images, table_of(source.images)
    place = source.root / source.file if source.file else source.root
    lines = [
        f"{printable(str(place))}: {_LAYOUTS[source.layout]}",
        f"  images    {len(images):,}",
        f"  classes   {_classes(table.labels)}",
        f"  splits    {_splits(Counter(table.splits))}",
    ]
    groups = set(table.groups) - {""}
    if groups:
        lines.append(f"  groups    {len(groups):,}, never divided between splits")
    examples = sorted({0, len(images) // 2, len(images) - 1})
    lines += [f"  example   {_example(images[i])}" for i in examples]
    return lines + [f"  note      {note}" for note in source.notes]


def _classes(labels: Iterable[str]) -> str:
    counts = Counter(labels)
    without = counts.pop("", 0)
    if not counts:
        return "none (no labels)"
    smallest, count = min(counts.items(), key=lambda item: (item[1], item[0]))
    others = f"; {without:,} images without label" if without else ""
    return f"{len(counts):,}, the smallest is '{printable(smallest)}' with {count:,}{others}"


def _splits(counts: Counter[str]) -> str:
    if counts.keys() == {""}:
        return "none given, so 70/15/15 are drawn at random"
    given = ", ".join(f"{name} {counts[name]:,}" for name in SPLITS)
    return f"given: {given}" + (f", none {counts['']:,}" if counts[""] else "")


def _example(image: Image) -> str:
    facts = [
        f"{name} '{printable(value)}'"
        for name, value in zip(("label", "split", "group"), (image.label, image.split, image.group), strict=True)
        if value
    ]
    return " ".join([printable(image.path), *facts])


def _column_flags(options: SourceOptions) -> list[str]:
    flags = {"path": options.path_col, "label": options.label_col, "split": options.split_col, "group": options.group_col}
    return [f"--{role}-col" for role, value in flags.items() if value is not None]


def _refuse_flags(shown: str, kind: str, flags: list[str]) -> None:
    if flags:
        raise HeadstartError(f"{shown} is {kind}, and {flags[0]} does not apply to it. Drop the flag.")
