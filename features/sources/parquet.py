"""Parquet files: what their schema says, and whole image files in a column, read one row group at a time.

The Hugging Face hub writes pictures as `{bytes, path}` and the names of classes into the schema's metadata.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headstart.features.arrays import DamagedArrays
from headstart.pipeline.doors import reading, records
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable, reason_of

from .parquet_footer import GroupFooter, read_footer

PARQUET = frozenset({".parquet", ".pq"})
LARGEST_GROUP = 1 << 30  # bytes of pictures that are unpacked at once
_BATCH_BYTES = 1 << 26  # that a batch can take at most, whatever a dictionary repeats
_BATCH_ROWS = 256
_LOOKED_AT = 100  # rows, to tell pictures from other bytes
_METADATA_BYTES = 1 << 24
_MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
    b"qoif",
)


@dataclass(frozen=True)
class Schema:
    """What the columns of a Parquet file are.

    Attributes:
        usable: hold text, numbers or dates.
        pictures: may hold whole image files; what has bytes alone is known only by these.
        bytes_alone: those of `pictures` that are no `{bytes, path}`.
        classes: column of whole numbers to the names of its classes.
    """

    usable: tuple[str, ...]
    pictures: tuple[str, ...]
    bytes_alone: tuple[str, ...]
    classes: dict[str, tuple[str, ...]]


def schema_of(schema: Any) -> Schema:
    """Of the schema (pyarrow.Schema) of a file."""
    import pyarrow as pa

    features = _features(schema.metadata)
    usable, pictures, bytes_alone = [], [], []
    for field in schema:
        kind = features.get(field.name, {}).get("_type", "Image")
        if pa.types.is_struct(field.type) and _is_bytes(_children(field.type).get("bytes")):
            if kind == "Image":  # and not Audio
                pictures.append(field.name)
        elif _is_bytes(field.type):
            pictures.append(field.name)
            bytes_alone.append(field.name)
        elif not pa.types.is_nested(field.type) and not pa.types.is_fixed_size_binary(field.type):
            usable.append(field.name)
    classes = {name: names for name in usable if (names := _class_names(features.get(name, {})))}
    return Schema(tuple(usable), tuple(pictures), tuple(bytes_alone), classes)


def _children(struct: Any) -> dict[str, Any]:
    return {part.name: part.type for part in struct}


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    if kind is not None and pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind is not None and bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _features(metadata: Any) -> dict[str, dict[str, Any]]:
    """What the hub says of columns; nothing where it says nothing, or not in its way."""
    text = (metadata or {}).get(b"huggingface", b"")
    try:
        features = records.parse(text, "its metadata")["info"]["features"] if 0 < len(text) <= _METADATA_BYTES else {}
        return {name: facts for name, facts in features.items() if isinstance(facts, dict)}
    except (records.DamagedError, KeyError, TypeError, AttributeError):
        return {}


def _class_names(facts: dict[str, Any]) -> tuple[str, ...]:
    names = facts.get("names") if facts.get("_type") == "ClassLabel" else None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def holds_pictures(file: "ParquetTable", column: str) -> bool:
    """Whether the first bytes of a column begin like an image."""
    if file.footer.groups and _group_bytes(file.footer.groups[0], column) <= LARGEST_GROUP:
        for batch in itertools.islice(file.batches(1, [column], 0), _LOOKED_AT):
            for data in batch.columns[0].to_pylist():
                if data is not None:
                    return data.startswith(_MAGIC) or data[8:12] == b"WEBP" or data[4:12] == b"ftypavif" or _is_netpbm(data)
    return False


def _is_netpbm(data: bytes) -> bool:
    return data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace()


@dataclass(frozen=True)
class RowGroup:
    """A row group: its rows (half open) in the file, and the bytes that its pictures take unpacked, as the file says."""

    number: int
    start: int
    stop: int
    size: int


class ParquetTable:
    """An opened file that is read piece by piece. A context manager.

    Attributes:
        footer: what it says of its rows and row groups, looked at from outside this process.
        schema: of its columns (pyarrow.Schema).
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.footer = read_footer(path)
        self._file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        self.schema = self._file.schema_arrow

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def batches(self, rows: int, columns: Sequence[str], group: int | None = None) -> Iterator[Any]:
        """Record batches (pyarrow.RecordBatch) of at most so many rows, of one row group or all.

        Raises: pyarrow.ArrowException; OSError.
        """
        groups = None if group is None else [group]
        yield from self._file.iter_batches(rows, row_groups=groups, columns=list(columns), use_threads=group is None)


def open_parquet(path: Path) -> ParquetTable:
    """A regular file that says what a Parquet file says. Raises: OSError; pyarrow.ArrowException; HeadstartError."""
    reading.require_file(path.stat(), printable(str(path)))
    return ParquetTable(path)


def groups_of(file: ParquetTable, column: str) -> list[RowGroup]:
    """The row groups of an opened file."""
    groups, start = [], 0
    for number, group in enumerate(file.footer.groups):
        groups.append(RowGroup(number, start, start + group.rows, _group_bytes(group, column)))
        start += group.rows
    return groups


def refuse_large_groups(name: str, groups: Sequence[RowGroup]) -> None:
    """Raises: HeadstartError if the pictures of a row group take too much memory."""
    large = next((group for group in groups if group.size > LARGEST_GROUP), None)
    if large is not None:
        raise HeadstartError(
            f"{name}: row group {large.number} unpacks to {large.size:,} bytes of pictures, at most {LARGEST_GROUP:,} are "
            "unpacked at once. Write it anew in smaller ones: pyarrow.parquet.write_table(table, FILE, row_group_size=1000)"
        )


def _group_bytes(group: GroupFooter, column: str) -> int:
    return group.sizes.get(column, 0) + group.sizes.get(f"{column}.bytes", 0)


def read_names(file: ParquetTable, column: str) -> list[str]:
    """The names that `{bytes, path}` gives its pictures, '' for none; [] if the column has none at all.

    Raises: HeadstartError if it has names alone.
    """
    kinds = _children(file.schema.field(column).type) if _is_struct(file, column) else {}
    if not _is_text(kinds.get("path")):
        return []
    if _are_null(file, f"{column}.bytes"):
        raise HeadstartError(
            f"column '{printable(column)}' holds names of files and no bytes. Write the pictures into it, as to_parquet() of the "
            "package datasets does, or name the files in a column 'path' of text."
        )
    names: list[str] = []
    for batch in file.batches(1 << 16, [f"{column}.path"]):
        names += [value or "" for value in batch.columns[0].flatten()[0].to_pylist()]
    return names


def _are_null(file: ParquetTable, path: str) -> bool:
    """Whether all values are missing, as far as the file's statistics say."""
    groups = [group for group in file.footer.groups if path in group.sizes]
    return bool(groups) and all(path in group.empty for group in groups)


def _is_struct(file: ParquetTable, column: str) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(file.schema.field(column).type))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def read_group(file: ParquetTable, column: str, group: RowGroup) -> list[Any]:
    """The pictures of a row group: for each row a `pyarrow.BinaryScalar`, whose `as_py()` is the bytes, or None.

    Raises: DamagedArrays if it is damaged, or takes more than LARGEST_GROUP.
    """
    import pyarrow as pa

    struct = _is_struct(file, column)
    # No value is larger than its group, so a batch keeps within its bytes even if one value is repeated in every row.
    rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, group.size)))
    pictures: list[Any] = []
    total = 0
    try:
        name = f"{column}.bytes" if struct else column
        for batch in file.batches(rows, [name], group.number):
            values = batch.columns[0].flatten()[0] if struct else batch.columns[0]
            total += values.nbytes
            if total > LARGEST_GROUP:
                raise DamagedArrays(f"row group {group.number} unpacks to more than {LARGEST_GROUP:,} bytes")
            pictures += values
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the file
        raise DamagedArrays(f"row group {group.number}: {reason_of(error)}") from None
    if len(pictures) != group.stop - group.start:
        raise DamagedArrays(f"row group {group.number} has {len(pictures):,} rows, expected {group.stop - group.start:,}")
    return pictures
