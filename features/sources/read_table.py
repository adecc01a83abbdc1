"""Reads a CSV, TSV or Parquet file into columns of text. Refuses what cannot be read exactly; guesses no types."""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.text import printable

from .parquet import PARQUET, holds_pictures, open_parquet, schema_of
from .parquet_footer import Footer
from .walk import is_image_name

DELIMITERS = {".csv": ",", ".tsv": "\t"}
MAX_ROWS = 20_000_000
_MAX_COLUMNS = 50_000
_BATCH = 1 << 16
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")  # .xlsx and .ods, .xls
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_SAID_SEPARATOR = re.compile(r"(sep=(.)[\";,\t]*)\r?\n", re.IGNORECASE)
MAX_CHARACTERS = 20_000  # of one value; escaped it stays below the csv module's own limit of 131,072


@dataclass(frozen=True)
class TextTable:
    """Columns of text of equal length; an empty cell, a null and a NaN are ''.

    Attributes:
        name: for messages.
        row_numbers: what to call each row in a message: as a spreadsheet counts them, or from 1 in Parquet.
        notes: what was read in another way than it stands, and columns that were left out.
        pictures: columns that hold whole image files, as the Hugging Face hub writes them; they are not among `columns`.
        left_out: columns that hold neither text nor numbers, each with its kind.
        classes: columns of names of classes, as the hub writes them; '' there is said not to be known.
    """

    name: str
    columns: dict[str, list[str]]
    row_numbers: Sequence[int]
    notes: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def read_table(path: Path) -> TextTable:
    """The table at `path`. Raises: HeadstartError if it is damaged, empty, not UTF-8 or needs a missing package."""
    table = read_parquet(path) if path.suffix.lower() in PARQUET else _read_text(path)
    if not table.row_numbers:
        raise HeadstartError(f"{table.name} has no rows: found {_columns(table)} and nothing below. Add a row for each image.")
    for column, values in table.columns.items():
        if max(map(len, values)) > MAX_CHARACTERS:
            row, value = next((row, v) for row, v in zip(table.row_numbers, values, strict=True) if len(v) > MAX_CHARACTERS)
            raise HeadstartError(
                f"{table.name} row {row}: column '{printable(column)}' has {len(value):,} characters, at most {MAX_CHARACTERS:,} "
                "are read. Remove the column."
            )
    return table


def _columns(table: TextTable) -> str:
    return f"the columns {', '.join(map(printable, table.columns))}" if table.columns else "no columns"


def _text_of(path: Path, name: str) -> str:
    """The whole file as text. Raises: HeadstartError if it is none."""
    try:
        with environment_faults(f"cannot read {name}"):
            data = reading.read_given(path, reading.TABLE_BYTES)
        if data.startswith(_WORKBOOKS):
            raise HeadstartError(f"{name} is a spreadsheet's own file, whatever its name says. Save it as 'CSV UTF-8' there.")
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # "Unicode text" of spreadsheets
            data = data.decode("utf-16").encode()
        if b"\0" in data:
            line = data.count(b"\n", 0, data.index(b"\0")) + 1
            raise HeadstartError(f"{name} line {line} holds a NUL, which no text does; UTF-16 has some. Save the table as UTF-8.")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise HeadstartError(f"{name} cannot be read: {error.strerror}. Make it readable, or copy it.") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise HeadstartError(
            f"{name} line {line} is not UTF-8: byte 0x{data[error.start]:02x}. Save the table as "
            "UTF-8 ('CSV UTF-8' in a spreadsheet)."
        ) from None


def _read_text(path: Path) -> TextTable:
    name = printable(str(path))
    text = _text_of(path, name)
    if said := _SAID_SEPARATOR.match(
        text
    ):  # Excel's own line; what is left of it is a blank one, so that rows keep their numbers
        text = text[said.end(1) :]
    first = _header_line(text)
    delimiter = said[2] if said else _delimiter(first, DELIMITERS[path.suffix.lower()])
    _require_columns(name, first.count(delimiter) + 1)
    # `path, label`: the blank belongs to the separator where the header has it throughout.
    blank = delimiter != "\t" and all(cell[:1] == " " for cell in first.split(delimiter)[1:])
    begin = first.split(delimiter)[0]
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True, skipinitialspace=blank)
    header: list[str] = []
    keys: list[str] = []
    rows: list[list[str]] = []
    numbers: list[int] = []
    repeated = 0
    try:
        for number, row in enumerate(reader, start=1):
            if not any(map(str.strip, row)) or (not header and row[0].startswith("#") and row[0] != begin):
                continue  # spreadsheets leave lines of bare commas behind; comments stand above a table
            if not header:
                header = row
                _check_header(name, header, number)
                keys = list(map(_key, header))
                continue
            # A header may end in a separator that the rows below lack.
            lacking = len(header) - len(row) if not any(header[len(row) :]) else 0
            cells = row + [""] * lacking
            if _key(row[0]) in keys and sorted(map(_key, row)) == sorted(keys):  # where tables were joined
                if list(map(_key, row)) != keys:
                    raise HeadstartError(
                        f"{name} row {number} repeats the header in another order. Bring the columns below it into the order "
                        "of the first ones."
                    )
                repeated += 1
            elif len(cells) != len(header):
                raise HeadstartError(
                    f"{name} row {number} has {len(row)} fields, expected {len(header)} as in the header. "
                    f"{_why_fields_differ(len(row), len(header), len(rows), delimiter)}"
                )
            else:
                rows.append(cells)
                numbers.append(number)
    except csv.Error as error:
        raise HeadstartError(f"{name} line {reader.line_num} is not valid CSV: {error}. Check its quotes.") from None
    if not header:
        raise HeadstartError(f"{name} is empty: expected a header line such as path{printable(delimiter)}label.")
    values: Iterable[Sequence[str]] = zip(*rows, strict=True) if rows else ([] for _ in header)
    notes = [f"dropped {repeated:,} rows that repeat the header"] if repeated else []
    if delimiter != DELIMITERS[path.suffix.lower()]:
        notes.append(f"values are separated by '{printable(delimiter)}'")
    # Columns without name and values: every line ends in separators.
    columns = [(column, list(cells)) for column, cells in zip(header, values, strict=True) if column or any(cells)]
    if sum(not column for column, _ in columns) > 1:
        raise HeadstartError(f"{name} has several columns without a name. Name them, or leave them out.")
    return TextTable(name, dict(columns), numbers, tuple(notes))


def _key(cell: str) -> str:
    return cell.strip().casefold()


def _why_fields_differ(fields: int, expected: int, rows: int, delimiter: str) -> str:
    if fields < expected:
        return "Add the missing values; an empty one needs its separator, too."
    title = " If the line above it is a title, delete that." if not rows else ""
    return f"Quote values that contain '{printable(delimiter)}'.{title}"


def _header_line(text: str) -> str:
    """The first line that is neither blank nor a comment; one that begins with # is the header if rows follow at once."""
    comment = ""
    for whole in _lines(text):
        line = whole.rstrip("\r\n")
        if line.startswith("#"):
            comment = line
        elif line.strip():
            is_row = any(is_image_name(cell.strip(" \"'")) for cell in re.split(r"[,;\t|]", line))
            return comment if comment and is_row else line
    return comment


def _delimiter(header: str, usual: str) -> str:
    """The usual one of the file's kind, unless the header has none of it and another that is as common."""
    return usual if usual in header else next((mark for mark in ";\t,|" if mark in header), usual)


def _check_header(name: str, header: list[str], number: int) -> None:
    image = next((cell for cell in header if is_image_name(cell.strip())), None)
    if image is not None:
        raise HeadstartError(
            f"{name} has no header: row {number} names an image, {printable(image)}. Put a line above it that names the columns, "
            "such as path,label."
        )
    # Without a name: spreadsheets leave empty columns behind.
    twice = sorted(column for column, count in Counter(header).items() if count > 1 and column)
    if twice:
        raise HeadstartError(f"{name} has the column '{printable(twice[0])}' twice. Rename one of them.")


def _require_columns(name: str, count: int) -> None:
    if count > _MAX_COLUMNS:
        raise HeadstartError(f"{name} has {count:,} columns, at most {_MAX_COLUMNS:,} are read. Leave some out.")


def _lines(text: str) -> Iterator[str]:
    """Each with its end; one after the other, for a table may have a gigabyte."""
    return (match[0] for match in _LINE.finditer(text))


def read_parquet(path: Path) -> TextTable:
    """The columns of text, numbers and dates of a Parquet file, which may have no rows. Raises: as `read_table`."""
    name = printable(str(path))
    require_pyarrow(name)
    import pyarrow as pa

    try:
        with environment_faults(f"cannot read {name}"), open_parquet(path) as content:
            _require_columns(name, len(content.schema))
            schema = schema_of(content.schema)
            _refuse_large(name, content.footer, schema.usable)
            columns: dict[str, list[str]] = {column: [] for column in schema.usable}
            size = 0
            for batch in content.batches(_BATCH, schema.usable):
                for column, values in zip(schema.usable, batch.columns, strict=True):
                    size += _text_bytes(name, column, values)
                    _require_size(name, size)
                    columns[column] += _texts(values)
            pictures = [
                column for column in schema.pictures if column not in schema.bytes_alone or holds_pictures(content, column)
            ]
            usable = set(schema.usable)
            left_out = [f"'{printable(f.name)}' ({f.type})" for f in content.schema if f.name not in usable]
            rows = content.footer.rows
            short = next((column for column in columns if len(columns[column]) != rows), None)
            if short is not None:
                raise pa.ArrowInvalid(f"it says {rows} rows, and column '{short}' has {len(columns[short])}")
    except (pa.ArrowException, OSError, ValueError, LookupError, ArithmeticError) as error:  # text and dates that are none
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise HeadstartError(
            f"{name} cannot be read as Parquet: {printable(reason)}. Write it again, or convert it to CSV."
        ) from None
    for column, names in schema.classes.items():
        columns[column] = _class_names(name, column, columns[column], names)
    notes = (f"left out columns that hold no text or numbers: {', '.join(left_out)}",) if left_out else ()
    return TextTable(name, columns, range(1, rows + 1), notes, tuple(pictures), tuple(left_out), tuple(schema.classes))


def require_pyarrow(name: str) -> None:
    """Raises: HeadstartError if the package that reads the Parquet file `name` is not there."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise HeadstartError(f"{name} is Parquet, which needs a package: pip install 'headstart[parquet]'") from None


def _class_names(name: str, column: str, numbers: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names of classes that stand for these numbers; '' for none and for -1, which is how the hub says that it is unknown."""
    meant = {"": "", "-1": ""} | {str(number): word for number, word in enumerate(names)}
    if any(number not in meant for number in set(numbers)):
        row = next(row for row, number in enumerate(numbers, start=1) if number not in meant)
        raise HeadstartError(
            f"{name} row {row}: column '{printable(column)}' has class {printable(numbers[row - 1])}, and its schema names "
            f"{len(names):,} classes, 0 to {len(names) - 1}. Mend it, or convert the table to CSV."
        )
    return [meant[number] for number in numbers]


def _refuse_large(name: str, footer: Footer, usable: Sequence[str]) -> None:
    if footer.rows > MAX_ROWS:
        raise HeadstartError(f"{name} has {footer.rows:,} rows, at most {MAX_ROWS:,} are read. Divide the table.")
    _require_size(name, sum(group.sizes.get(column, 0) for group in footer.groups for column in usable))


def _require_size(name: str, size: int) -> None:
    if size > reading.TABLE_BYTES:
        raise HeadstartError(f"{name} unpacks to {size:,} bytes, at most {reading.TABLE_BYTES:,} are read. Divide the table.")


def _text_bytes(name: str, column: str, values: Any) -> int:
    """What the values take as text, about: a footer may say less, and a dictionary holds once what each row says again."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = values.dictionary if pa.types.is_dictionary(values.type) else values
    if not (pa.types.is_string(words.type) or pa.types.is_large_string(words.type)):
        return 2 * len(values)  # a digit and what parts it from the next
    lengths = pc.binary_length(words)
    longest = pc.max(lengths).as_py() or 0
    if longest > 4 * MAX_CHARACTERS:
        raise HeadstartError(
            f"{name}: column '{printable(column)}' has a value of {longest:,} bytes, at most {MAX_CHARACTERS:,} characters "
            "are read. Remove the column."
        )
    if words is not values:
        lengths = lengths.take(values.indices)
    return len(values) + int(pc.sum(lengths).as_py() or 0)


def _texts(values: Any) -> list[str]:
    import pyarrow as pa

    if not pa.types.is_dictionary(values.type):
        return [_text(value) for value in values.to_pylist()]
    words = [_text(word) for word in values.dictionary.to_pylist()]
    return [words[place] if place is not None else "" for place in values.indices.to_pylist()]


def _text(value: Any) -> str:
    # NaN is the one value that differs from itself.
    return "" if value is None or value != value else str(value)  # noqa: PLR0124
