"""Images that lie in Parquet files, as the Hugging Face hub writes them: one file, or a folder of them."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.text import plural, printable, reason_of

from .blocks import lots_of
from .parquet import PARQUET, RowGroup, groups_of, open_parquet, read_names, refuse_large_groups
from .read_table import MAX_ROWS, TextTable, read_parquet, require_pyarrow
from .source import IMAGE_COLUMNS, Image, Source, SourceOptions
from .spellings import split_of
from .table import column_notes, find_roles, labels_of, roles_to_remember, splits_of_rows
from .walk import facts_of, is_inside, join

_COMMON = ("image", "img", "picture", "photo", "pixel_values", "jpg", "png")
# train-00000-of-00002-0123456789abcdef.parquet, validation_3.parquet, test.parquet
_SHARD = re.compile(r"(.*?)(?:[-_.]?\d+(?:[-_]?of[-_]?\d+)?)?(?:[-_.][0-9a-f]{8,})?")


def pictures_of_table(file: Path, table: TextTable, options: SourceOptions) -> Source:
    """The images in the column of pictures of one Parquet file (absolute) that was read as `table`. Raises: HeadstartError."""
    return _source(file.parent, file.name, [(file.name, table)], options)


def pictures_of_folder(root: Path, options: SourceOptions) -> Source:
    """The images in the Parquet files below `root` (absolute), whose names say the split. Raises: HeadstartError."""
    shown = printable(str(root))
    require_pyarrow(shown)
    files = _parquet_files(root)
    tables = [(name, read_parquet(root / name)) for name in files]
    without = next((name for name, table in tables if table.row_numbers and not table.pictures), None)
    if without is not None:
        raise HeadstartError(
            f"{shown} holds no image, but {plural(len(files), 'Parquet file')}; {printable(without)} has no column of pictures. "
            "Pass a file alone if it is a table, or move it away."
        )
    return _source(root, None, [(name, table) for name, table in tables if table.row_numbers], options)


def _parquet_files(root: Path) -> list[str]:
    """Relative to `root`, sorted. Links are followed to files below `root` alone, hidden folders are passed over."""
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (join(folder, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in PARQUET)
        files += [os.path.relpath(path, root) for path in paths if is_inside(os.path.realpath(path), str(root))]
    return sorted(files)


def _source(root: Path, file: str | None, tables: Sequence[tuple[str, TextTable]], options: SourceOptions) -> Source:
    place = printable(str(root / file if file else root))
    if not tables:
        raise HeadstartError(f"{place}: its Parquet files have no rows. Add a row for each image.")
    column = _picture_column(place, [table for _, table in tables], options)
    files = [_listed(root, name, column) for name, _ in tables]
    table = _joined(place, column, tables, files)
    roles = find_roles(table, replace(options, path_col=column))
    labels = labels_of(table, roles.get("label"), options)
    splits, split_notes = _splits(place, table, roles.get("split"), files, options if file is None else None)
    groups = table.columns[roles["group"]] if "group" in roles else [""] * len(labels)
    extra = {name: values for name, values in table.columns.items() if name not in roles.values()}
    others = list(zip(*extra.values(), strict=True)) if extra else [()] * len(labels)
    places = [
        (one.name, number, one.size, one.mtime_ns) for one in files for number in range(one.groups[-1].stop if one.groups else 0)
    ]
    images = [
        Image(f"{name}#{number:09d}", labels[i], splits[i], groups[i], size, mtime_ns, others[i])
        for i, (name, number, size, mtime_ns) in enumerate(places)
    ]
    all_groups = [group for one in files for group in one.groups]
    lots = lots_of(
        [k for k, group in enumerate(all_groups) for _ in range(group.start, group.stop)], [group.size for group in all_groups]
    )
    order = sorted(range(len(images)), key=lambda i: images[i].path)
    unlabelled = sum(not label for label in labels) if "label" in roles else 0
    left_out = dict.fromkeys(
        name for _, part in tables for name in part.left_out if not name.startswith(f"'{printable(column)}' ")
    )
    notes = [
        f"images lie in column '{printable(column)}' of {plural(len(tables), 'Parquet file')}",
        *([f"left out columns that hold no text or numbers: {', '.join(left_out)}"] if left_out else []),
        *([f"{role} = '{printable(name)}'" for role, name in roles.items() if role != "path"]),
        *column_notes(table, roles, {name: values for name, values in extra.items() if name != f"{column}_path"}),
        *split_notes,
        *([f"{unlabelled:,} images have no label"] if unlabelled else []),
    ]
    return Source(
        root=root,
        layout="parquet",
        file=file,
        images=tuple(images[i] for i in order),
        lots=tuple(lots[i] for i in order) if lots else (),
        columns=tuple(f"table_{name}" if name in IMAGE_COLUMNS else name for name in extra),
        roles=roles_to_remember(roles, options),
        allow_symlinks=options.allow_symlinks,
        keep_case=options.keep_case,
        notes=tuple(notes),
    )


def _picture_column(place: str, tables: Sequence[TextTable], options: SourceOptions) -> str:
    shared = [name for name in tables[0].pictures if all(name in table.pictures for table in tables)]
    there = ", ".join(map(printable, shared)) or "none that all files share"
    if options.path_col and options.path_col not in shared:
        raise HeadstartError(
            f"{place} has no column of pictures '{printable(options.path_col)}' for --path-col; it has {there}. Choose one."
        )
    said = options.path_col or dict(options.remembered).get("path")
    named = [name for name in shared if name.casefold() in _COMMON]
    for candidates in ([name for name in shared if name == said], shared, named):
        if len(candidates) == 1:
            return candidates[0]
    raise HeadstartError(f"{place} has {len(shared)} columns of pictures: {there}. Choose one with --path-col.")


@dataclass(frozen=True)
class _File:
    """One Parquet file. Attributes: name: relative to the root. names: of the pictures, as its column has them, '' for none."""

    name: str
    size: int
    mtime_ns: int
    groups: list[RowGroup]
    names: list[str]


def _listed(root: Path, name: str, column: str) -> _File:
    shown = printable(str(root / name))
    import pyarrow as pa

    try:
        with environment_faults(f"cannot read {shown}"), open_parquet(root / name) as content:
            groups = groups_of(content, column)
            names = read_names(content, column)
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:
        raise HeadstartError(f"{shown} cannot be read as Parquet: {reason_of(error)}. Write it again.") from None
    refuse_large_groups(shown, groups)
    return _File(name, *facts_of(join(str(root), name)), groups, names)


def _joined(place: str, column: str, tables: Sequence[tuple[str, TextTable]], files: Sequence[_File]) -> TextTable:
    """All rows as one table, in which a column that a file lacks is empty; the pictures' own names are a column, too."""
    counts = [one.groups[-1].stop if one.groups else 0 for one in files]
    if counts != [len(table.row_numbers) for _, table in tables]:
        raise HeadstartError(f"{place} changed while it was read. Run the same command again.")
    if sum(counts) > MAX_ROWS:
        raise HeadstartError(f"{place} has {sum(counts):,} rows, at most {MAX_ROWS:,} are read. Divide it.")
    columns: dict[str, list[str]] = {column: [""] * sum(counts)}
    for name in dict.fromkeys(name for _, table in tables for name in table.columns):
        pieces = (table.columns.get(name) or [""] * count for (_, table), count in zip(tables, counts, strict=True))
        columns[name] = list(chain.from_iterable(pieces))
    names = list(chain.from_iterable(one.names for one in files))
    if any(names):
        columns.setdefault(f"{column}_path", names)
    classes = dict.fromkeys(name for _, table in tables for name in table.classes)
    return TextTable(place, columns, range(1, sum(counts) + 1), classes=tuple(classes))


def _splits(
    place: str, table: TextTable, column: str | None, files: Sequence[_File], options: SourceOptions | None
) -> tuple[list[str], list[str]]:
    """The split of each row, by a column or, where `options` are given, by the names of the files; and notes."""
    if column is not None or options is None or options.split_col is not None:
        return splits_of_rows(table, column), []
    meant = {one.name: _split_of_file(one.name) for one in files}
    given = set(meant.values())
    if given == {None}:
        return splits_of_rows(table, None), []
    if None in given:
        without = next(name for name, split in meant.items() if split is None)
        with_one = next(name for name, split in meant.items() if split is not None)
        raise HeadstartError(
            f"{place} has files of splits ('{printable(with_one)}') beside other files ('{printable(without)}'). Move one kind "
            "away, or pass --split-col '' to have splits drawn."
        )
    if len(given) == 1:
        return splits_of_rows(table, None), [f"all files are of split '{given.pop()}', so splits are drawn"]
    return [meant[one.name] or "" for one in files for _ in range(one.groups[-1].stop)], []


def _split_of_file(name: str) -> str | None:
    *folders, last = name.split("/")
    shard = _SHARD.fullmatch(last.rpartition(".")[0])
    parts = [shard[1] if shard else last, *reversed(folders)]
    return next((split for part in parts if (split := split_of(part)) is not None), None)
