"""The images that a CSV, TSV or Parquet file names: which column is which, and what each row says."""

import difflib
import math
import os
import re
import shlex
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

from .read_table import TextTable
from .results.optimizer_results import PARAMETERS
from .source import IMAGE_COLUMNS, MISSING, Image, Source, SourceOptions, refuse_links
from .spellings import one_form, refuse_two_spellings, sounds_like_split, split_of
from .table_paths import meant_paths, names_files, where_it_is
from .walk import facts_of, is_image_name, is_inside, join

_RELATIVE = "Paths are relative to the table's folder"
_NAMED = 8  # columns in one note
_FIRST = 20  # rows among which a header may hide below a title
_MANY = 100  # numbers that so many different ones stand in a column of are amounts, not names of classes
_LIKE_MISSING = frozenset({"none", "null", "n/a", "na", "<na>", "nil", "#n/a"})
# What spreadsheets save for a long number, for what does not fit its cell, and for a text that they took for a formula.
_SHORTENED = re.compile(r"-?\d(?:[.,]\d+)?E\+\d{2,3}")
_SPOILT = re.compile(r"#{3,}|#(?:NAME\?|REF!|VALUE!|DIV/0!|NUM!|NULL!)")
_DATE = re.compile(r"\d{1,2}-[A-Z][a-z]{2}|[A-Z][a-z]{2}-\d{2}|\d{1,2}\. [A-Z][a-zä]{2}")
# Written by str(float('nan')); a class of that name is a missing label far more often than a kind of bread.
_MISSING_LABELS = frozenset({"", "nan", "NaN"})


def table_source(file: Path, table: TextTable, options: SourceOptions) -> Source:
    """The images that the rows of `file` (absolute), read as `table`, name, relative to its folder.

    Columns without a role become `extra`. Files that are not there are kept with size MISSING, unless that is all of them.

    Raises: HeadstartError naming the column or row that is missing, ambiguous, contradictory or leads out of the folder.
    """
    roles = find_roles(table, options, lambda values: names_files(file.parent, values))
    paths, path_notes = meant_paths(table, file.parent, table.columns[roles["path"]])
    labels = labels_of(table, roles.get("label"), options)
    splits = splits_of_rows(table, roles.get("split"))
    first = _first_rows(table, paths, labels, splits)
    facts = _facts(table, file.parent, paths, first, options)
    groups = table.columns[roles["group"]] if "group" in roles else [""] * len(paths)
    _refuse_spoilt(table, roles["path"], [i for i in first if facts[i][0] == MISSING])
    for role in ("label", "group"):
        _refuse_spoilt(table, roles.get(role), range(len(paths)))
    extra = {name: values for name, values in table.columns.items() if name not in roles.values()}
    others = list(zip(*extra.values(), strict=True)) if extra else [()] * len(paths)
    images = [Image(paths[i], labels[i], splits[i], groups[i], *facts[i], others[i]) for i in first]
    duplicates = len(paths) - len(first)
    missing = sum(size == MISSING for size, _ in facts.values())
    notes = [
        *table.notes,
        "columns: " + ", ".join(f"{role} = '{printable(column)}'" for role, column in roles.items()),
        *column_notes(table, roles, extra),
        *path_notes,
        *([_duplicates_note(duplicates, table.name, extra)] if duplicates else []),
        *([_missing_note(file.parent, [paths[i] for i in first if facts[i][0] == MISSING])] if missing else []),
    ]
    return Source(
        root=file.parent,
        layout="table",
        file=file.name,
        images=tuple(sorted(images, key=lambda image: image.path)),
        # A name that the manifest itself uses gets a prefix; escaping it any other way would hide it from pandas.
        columns=tuple(f"table_{name}" if name in IMAGE_COLUMNS else name for name in extra),
        roles=roles_to_remember(roles, options),
        duplicates=duplicates,
        allow_symlinks=options.allow_symlinks,
        keep_case=options.keep_case,
        notes=tuple(notes),
    )


def _duplicates_note(duplicates: int, name: str, others: Collection[str]) -> str:
    """An image's features are computed once, so each is listed once; who learns from results of it reads the table itself."""
    of_results = set(PARAMETERS) <= set(others)
    hint = f"; headstart train quality --results {shlex.quote(printable(name))} learns from all of them" if of_results else ""
    return f"dropped {duplicates:,} rows that name a path again{hint}"


def _missing_note(root: Path, paths: Sequence[str]) -> str:
    hint = where_it_is(root, paths[0])
    example = f", for example {printable(paths[0])} ({hint})" if hint else ""
    return f"{len(paths):,} files are named but not there; their rows will fail until they are{example}"


def _refuse_spoilt(table: TextTable, column: str | None, rows: Iterable[int]) -> None:
    """Raises: HeadstartError if one of these rows has there what a spreadsheet made of something else, which is lost."""
    if column is None:
        return
    for i in rows:
        value = table.columns[column][i].strip()
        if "E+" not in value and value[:1] != "#":  # as almost every value of a million is
            continue
        is_shortened = _SHORTENED.fullmatch(value)
        if is_shortened or _SPOILT.fullmatch(value):
            of = "a longer number" if is_shortened else "something else"
            raise HeadstartError(
                f"{table.name} row {table.row_numbers[i]}: column '{printable(column)}' has '{printable(value)}', which a "
                f"spreadsheet made of {of}. Format the column as text there, write the value again and save."
            )


def means_pictures(table: TextTable, root: Path, options: SourceOptions) -> bool:
    """Whether the pictures of a Parquet file are the images, and not files that a column names."""
    said = options.path_col or dict(options.remembered).get("path")
    if said in table.pictures or said in table.columns:
        return said in table.pictures
    if options.path_col is not None or not table.pictures:
        return False
    named = (values for name, values in table.columns.items() if _plain(name) in _COMMON["path"].split())
    return not any(names_files(root, values) for values in named)


def column_notes(table: TextTable, roles: dict[str, str], extra: Mapping[str, Sequence[str]]) -> list[str]:
    """Columns that are not used, with the flag that would use them, and a label of numbers."""
    notes = []
    if extra:
        names = [name for name in extra if name.strip()][:_NAMED]
        flags = "".join(f" ({hint})" for hint in [_flag_for(names, extra, roles)] if hint)
        others = len(extra) - max(1, len(names))
        more = f" and {others} more" if others else ""
        notes.append(
            f"other columns, kept beside the features: {', '.join(map(printable, names)) or 'one without name'}{more}{flags}"
        )
    if "label" in roles:
        absent = sorted({label for label in table.columns[roles["label"]] if label.strip().casefold() in _LIKE_MISSING})
        if absent:
            notes.append(
                f"label '{printable(absent[0])}' is a class like any other; leave it empty, or delete its rows, if it is none"
            )
        date = next((label for label in sorted(set(table.columns[roles["label"]])) if _DATE.fullmatch(label)), None)
        if date is not None:
            notes.append(f"label '{printable(date)}' may be what a spreadsheet made of another name: it takes MAR2 for a date")
    if "label" in roles and _are_amounts(table.columns[roles["label"]]):
        column = printable(roles["label"])
        notes.append(f"column '{column}' holds numbers: headstart train-head --target {column} predicts them as such")
    return notes


def _flag_for(names: Sequence[str], extra: Mapping[str, Sequence[str]], roles: Mapping[str, str]) -> str:
    """The flag that would use one of these columns, if any plainly would."""
    if "label" not in roles and names:
        return f"--label-col {_as_word(names[0])} takes one as label"
    splits = (name for name in names if set(map(split_of, {value for value in extra[name] if value.strip()})) & {"train"})
    named = next(splits, None)
    if "split" not in roles and named is not None:
        return f"--split-col {_as_word(named)} takes it as split"
    half = next((name for name in names if sounds_like_split(name) and len(set(extra[name])) <= 3), None)
    if "split" not in roles and half is not None:
        return f"'{printable(half)}' sounds like splits: with train, val and test as values --split-col {_as_word(half)} takes it"
    amounts = next((name for name in names if _are_amounts(extra[name])), None)
    return f"headstart train-head --target {printable(amounts)} predicts it" if amounts is not None else ""


def _are_amounts(labels: Sequence[str]) -> bool:
    """Whether labels are numbers that hardly name classes: fractions, or many different ones."""
    values = set(labels)
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return False
    return len(values) > _MANY or any(number != round(number) for number in numbers if math.isfinite(number))


def labels_of(table: TextTable, column: str | None, options: SourceOptions) -> list[str]:
    """The label of each row, '' for none. Raises: HeadstartError if some are missing, or two differ in their spelling alone."""
    if column is None:
        return [""] * len(table.row_numbers)
    labels = list(one_form(table.columns[column]))
    missing = [i for i, label in enumerate(labels) if label.strip() in _MISSING_LABELS]
    where = f"column '{printable(column)}' is empty or NaN"
    if len(missing) == len(labels):
        raise HeadstartError(
            f"{table.name}: {where} in all {len(labels):,} rows. Fill it in, or pass --label-col '' for no labels."
        )
    if missing and column not in table.classes:
        raise HeadstartError(
            f"{table.name}: {where} in {len(missing):,} of {len(labels):,} rows, first: row {table.row_numbers[missing[0]]}. "
            "Fill them in, or delete those rows."
        )
    if not options.keep_case:
        refuse_two_spellings(labels, lambda i: f"{table.name} row {table.row_numbers[i]}")
    return labels


def splits_of_rows(table: TextTable, column: str | None) -> list[str]:
    """The split of each row, '' for none. Raises: HeadstartError if one is no split."""
    if column is None:
        return [""] * len(table.row_numbers)
    values = table.columns[column]
    known = {value: split_of(value) if value.strip() else "" for value in set(values)}
    unknown = next((i for i, value in enumerate(values) if known[value] is None), None)
    if unknown is not None:
        raise HeadstartError(
            f"{table.name} row {table.row_numbers[unknown]} has split '{printable(values[unknown])}', expected train, val "
            "or test. Fix the value, or pass --split-col '' to have splits drawn."
        )
    return [known[value] or "" for value in values]


def _first_rows(table: TextTable, paths: Sequence[str], labels: Sequence[str], splits: Sequence[str]) -> list[int]:
    first: dict[str, int] = {}
    for i, path in enumerate(paths):
        earlier = first.setdefault(path, i)
        for role, values in (("label", labels), ("split", splits)):
            if values[earlier] != values[i]:
                raise HeadstartError(
                    f"{table.name}: {printable(path)} has {role} '{printable(values[earlier])}' in row "
                    f"{table.row_numbers[earlier]} and '{printable(values[i])}' in row {table.row_numbers[i]}. Delete one."
                )
    return list(first.values())


def _facts(
    table: TextTable, root: Path, paths: Sequence[str], rows: Sequence[int], options: SourceOptions
) -> dict[int, tuple[int, int]]:
    find = _finder(root, options.allow_symlinks)
    outside: list[str] = []
    facts = {}
    for i in rows:
        size, mtime_ns, target = find(paths[i])
        facts[i] = (size, mtime_ns)
        if target:
            outside.append(f"row {table.row_numbers[i]}: {paths[i]} -> {target}")
    refuse_links(outside, root)
    if all(size == MISSING for size, _ in facts.values()):
        hint = where_it_is(root, paths[rows[0]])
        raise HeadstartError(
            f"{table.name}: none of its {len(rows):,} files is there; row {table.row_numbers[rows[0]]} names "
            f"{printable(str(root / paths[rows[0]]))}. {hint or _RELATIVE}."
        )
    return facts


def _finder(root: Path, allow_symlinks: bool) -> Callable[[str], tuple[int, int, str]]:
    """A function from a path to (size, mtime_ns, target); target is '' unless a link leads out of `root`."""
    folders: dict[str, str] = {}

    def find(path: str) -> tuple[int, int, str]:
        full = join(str(root), path)
        if allow_symlinks:
            return *facts_of(full), ""
        parent, name = os.path.split(full)
        if parent not in folders:
            folders[parent] = os.path.realpath(parent)
        real = join(folders[parent], name)
        try:
            facts = os.lstat(real)
        except OSError:
            return MISSING, MISSING, "" if is_inside(real, str(root)) else real
        target = os.path.realpath(real) if stat.S_ISLNK(facts.st_mode) else real
        if not is_inside(target, str(root)):
            return MISSING, MISSING, target
        if target == real:
            return facts.st_size, facts.st_mtime_ns, ""
        return *facts_of(target), ""

    return find


_URL = re.compile(r"(?:https?|ftp|s3|gs)://", re.IGNORECASE)
_COMMON = {
    "path": "path paths filepath file_path filename file_name file image image_path image_file "
    "image_filename image_name img img_path",
    "label": "label labels class class_name class_label classname target category category_name",
    "split": "split subset set partition",
    "group": "group group_id subject subject_id patient patient_id",
}


def find_roles(
    table: TextTable, options: SourceOptions, names_files: Callable[[Sequence[str]], bool] = lambda values: False
) -> dict[str, str]:
    """Role to column; 'path' is always there. `names_files`: whether values name files that are there, for a hint.

    Raises: HeadstartError if a flag names no column or a choice is needed."""
    flags = _said_of_roles(options)
    there = f"it has {', '.join(printable(name) for name in table.columns)}"
    roles: dict[str, str] = {}
    for role, flag in flags.items():
        if flag:
            if flag not in table.columns:
                near = difflib.get_close_matches(flag, table.columns, n=1, cutoff=0.5)
                hint = f"Did you mean --{role}-col {_as_word(near[0])}?" if near else f"Choose one with --{role}-col."
                raise HeadstartError(f"{table.name} has no column '{printable(flag)}' for --{role}-col; {there}. {hint}")
            roles[role] = flag
    for role, column in options.remembered:
        if flags.get(role) is None and column in table.columns and column not in roles.values():
            roles[role] = column
    for role, flag in flags.items():
        if role in roles or (flag is not None and (flag or role != "path")):
            continue
        names = _named_so(table, role, roles)
        if len(names) > 1:
            none = "" if role == "path" else f", or none with --{role}-col ''"
            raise HeadstartError(
                f"{table.name} has {len(names)} columns that may be the {role}: {', '.join(map(printable, names))}. "
                f"Choose one with --{role}-col{none}."
            )
        if names:
            roles[role] = names[0]
    if "path" not in roles:
        raise HeadstartError(f"{table.name} has no column of file names: {there}. {_path_hint(table, roles, names_files)}.")
    taken = list(roles.values())
    twice = next((name for name in taken if taken.count(name) > 1), None)
    if twice is not None:
        raise HeadstartError(
            f"{table.name}: column '{printable(twice)}' is asked for in two roles. Change one of the --*-col flags."
        )
    return {role: roles[role] for role in flags if role in roles}


def _path_hint(table: TextTable, roles: Mapping[str, str], names_files: Callable[[Sequence[str]], bool]) -> str:
    image = next((name for name in table.columns if is_image_name(name) or names_files([name])), None)
    if image is not None:
        return f"'{printable(image)}' is an image, so that a header is missing: put a line above that names the columns"
    usual = _COMMON["path"].split()
    for number, *cells in list(zip(table.row_numbers, *table.columns.values(), strict=True))[:_FIRST]:
        if any(_plain(cell) in usual for cell in cells):
            return f"Row {number} looks like the header: delete what stands above it"
    if len(table.columns) == 1:
        return "It is read as one column: put commas between the values"
    free = {name: values for name, values in table.columns.items() if name not in roles.values()}
    for name, values in free.items():
        if names_files(values):
            return f"'{printable(name)}' names files that are there: --path-col {_as_word(name)}"
    urls = next((name for name, values in free.items() if values and _URL.match(values[0])), None)
    if urls is not None:
        return f"'{printable(urls)}' holds URLs; images are not downloaded: download them, and name the files in a column 'path'"
    return "Name it with --path-col"


def _said_of_roles(options: SourceOptions) -> dict[str, str | None]:
    """By role what is said now, else that it was said to have no column; None for nothing."""
    said = {"path": options.path_col, "label": options.label_col, "split": options.split_col, "group": options.group_col}
    none = {role for role, column in options.remembered if not column}
    return {role: "" if column is None and role in none else column for role, column in said.items()}


def roles_to_remember(roles: Mapping[str, str], options: SourceOptions) -> tuple[tuple[str, str], ...]:
    """(role, column) of `find_roles`, and (role, '') of each role that is said to have no column."""
    none = [(role, "") for role, column in _said_of_roles(options).items() if column == "" and role != "path"]
    return (*roles.items(), *none)


def _named_so(table: TextTable, role: str, roles: Mapping[str, str]) -> list[str]:
    """Columns that are called as such ones usually are, else for a label those whose classes the hub names."""
    free = [name for name in table.columns if name not in roles.values()]
    named = [name for name in free if _plain(name) in _COMMON[role].split()]
    return named or [name for name in free if role == "label" and name in table.classes]


def _as_word(name: str) -> str:
    """As it is typed behind a flag."""
    return printable(shlex.quote(name))


def _plain(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")
