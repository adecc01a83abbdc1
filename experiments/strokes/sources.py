"""Where lines come from: files and folders in the field's formats. What cannot be used is left out and counted by reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from headstart.experiments.training.data.keys import Key
from headstart.features.arrays import DamagedArrays, unpack_given_npz, unpack_npy
from headstart.pipeline.doors import reading, records
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import one_line, plural, printable

from .line import LineError, PenLine, as_line, coordinates_of, pen_line
from .pickled import RefusedPickle, unpickled
from .svg_lines import svg_strokes

_FILE_BYTES = 1 << 30
_XML_BYTES = 16 << 20
_MOST_LINES = 1_000_000
_TEXT_BYTES = 1 << 20
_PARTS = {"test": 0.08, "val": 0.08}  # of the writers


@dataclass
class ReadLines:
    """Attributes: lines in the order of the source; dropped: reasons with their counts; examples: where each was met first."""

    lines: list[PenLine] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, make: Any, *given: Any) -> None:
        try:
            self.lines.append(make(*given))
        except LineError as error:
            self.drop(str(error), where)

    def drop(self, reason: str, where: str) -> None:
        self.dropped[reason] += 1
        self.examples.setdefault(reason, where)

    @property
    def words(self) -> str:
        """One line."""
        left = [
            f"{count:,} {reason} ({'such as ' if count > 1 else ''}{printable(self.examples[reason])})"
            for reason, count in self.dropped.most_common()
        ]
        return plural(len(self.lines), "line") + (f"; left out: {', '.join(left)}" if left else "")


def read_lines(place: Path) -> ReadLines:
    """Lines of a file or folder: `.npz` (UNIPEN-like), `.jsonl`, `.cpkl` or `.pkl`, a folder of IAM-OnDB or of `style-*.npy`.

    Raises: HeadstartError if it is none of these, is damaged, or holds no line that can be used.
    """
    readers = {".npz": _npz, ".jsonl": _json_lines, ".cpkl": _pickled, ".pkl": _pickled}
    try:
        if not place.exists():
            raise HeadstartError(f"there is no file or folder {place}")
        if place.is_dir():
            read = _iam(place) if (place / "lineStrokes").is_dir() else _style_files(place)
        elif place.suffix.lower() in readers:
            read = readers[place.suffix.lower()](reading.read_given(place, _FILE_BYTES))
        else:
            raise HeadstartError(
                f"{place} holds no lines that can be read. Give .npz, .jsonl, .cpkl, or a folder with lineStrokes/ and ascii/"
            )
    except (DamagedArrays, RefusedPickle) as error:
        raise HeadstartError(f"{place} cannot be read: {error}. Restore it from a copy, or give another file") from None
    except OSError as error:
        raise HeadstartError(f"{place} cannot be read: {error.strerror or error}") from None
    if not read.lines:
        raise HeadstartError(f"{place} has no line that can be used ({read.words})")
    return read


def drawn_line(place: Path, text: str) -> PenLine:
    """The one line that an SVG shows. Raises: HeadstartError if it cannot be read, or is no line of that text."""
    try:
        return pen_line(svg_strokes(reading.read_given(place, _XML_BYTES)), text, "own hand")
    except LineError as error:
        raise HeadstartError(
            f"{place} shows no line to go on in: {error}. Draw '{one_line(text)[:40]}' with paths alone"
        ) from None
    except OSError as error:
        raise HeadstartError(f"{place} cannot be read: {error.strerror or error}") from None


def by_writer(lines: Sequence[PenLine], seed: int) -> dict[str, list[PenLine]]:
    """Lines as train, val and test, so that no writer is in two: a function of the writer's name and the seed.

    Raises: HeadstartError if there are too few writers.
    """
    writers = sorted({line.writer for line in lines})
    if len(writers) < 3:
        raise HeadstartError(
            f"lines of {plural(len(writers), 'writer')}: three are needed, so that no writer is in two splits. "
            "Give lines of more writers, or say who wrote each"
        )
    order = sorted(writers, key=lambda writer: Key((seed, "writer", writer)).number)
    split_of, begin = dict.fromkeys(writers, "train"), 0
    for name, part in _PARTS.items():
        count = max(1, round(part * len(writers)))
        split_of.update(dict.fromkeys(order[begin : begin + count], name))
        begin += count
    return {name: [line for line in lines if split_of[line.writer] == name] for name in ("train", "val", "test")}


def _npz(data: bytes) -> ReadLines:
    arrays, read = unpack_given_npz(data, _FILE_BYTES), ReadLines()
    missing = {"offsets", "eos", "length", "text", "writer"} - set(arrays)
    if missing:
        raise DamagedArrays(f"it has no array {min(missing)!r}")
    offsets, eos, lengths = arrays["offsets"], arrays["eos"], arrays["length"]
    texts, writers, count = arrays["text"], arrays["writer"], lengths.size
    fits = texts.shape == writers.shape == lengths.shape == (count,)
    fits = fits and eos.shape == (eos.size,) and offsets.shape == (eos.size, 2)
    is_numbers = lengths.dtype.kind in "iu" and offsets.dtype.kind in "iuf" and eos.dtype.kind in "biuf"
    if not fits or not is_numbers or (lengths < 0).any() or int(lengths.sum()) != len(eos):
        raise DamagedArrays("its arrays do not fit together: length says how many of offsets and eos each text has")
    scale = 32.0 if offsets.dtype.kind == "i" else 1.0
    bounds = np.concatenate([[0], np.cumsum(lengths.astype(np.int64))])
    for number in range(count):
        part = slice(int(bounds[number]), int(bounds[number + 1]))
        read.add(f"line {number + 1}", _of_units, offsets[part] / scale, eos[part], str(texts[number]), str(writers[number]))
    return read


def _of_units(offsets: Any, eos: Any, text: str, writer: str) -> PenLine:
    return as_line(offsets, coordinates_of(eos) != 0, text, writer)


def _json_lines(data: bytes) -> ReadLines:
    read = ReadLines()
    for number, written in enumerate(data.splitlines(), 1):
        if not written.strip():
            continue
        if number > _MOST_LINES:
            raise RefusedPickle(f"more than {_MOST_LINES:,} lines")
        read.add(f"line {number}", _json_line, written, f"line {number}")
    return read


def _json_line(written: bytes, where: str) -> PenLine:
    try:
        record = records.parse(written, where, is_finite=False)  # what is NaN is told as such
        strokes = [np.asarray(stroke, np.float64).reshape(-1, 2) for stroke in record["strokes"]]
        text, writer = record["text"], record.get("writer", "")
    except (records.DamagedError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise LineError("not as {'text': ..., 'writer': ..., 'strokes': [[[x, y], ...], ...]}") from None
    if not isinstance(text, str) or not isinstance(writer, str):
        raise LineError("text that is none")
    return pen_line(strokes, text, writer)


def _pickled(data: bytes) -> ReadLines:
    """The field's pair: strokes, each (n, 3) of dx, dy and end of stroke, and texts. No writers: each line is its own."""
    said, read = unpickled(data), ReadLines()
    if not isinstance(said, list | tuple) or len(said) != 2 or not all(isinstance(part, list | tuple) for part in said):
        raise RefusedPickle("it is no pair of strokes and texts")
    strokes, texts = said
    if len(strokes) != len(texts):
        raise RefusedPickle(f"it has {len(strokes):,} strokes and {len(texts):,} texts")
    for number, (points, text) in enumerate(zip(strokes, texts, strict=True)):
        read.add(f"line {number + 1}", _of_offsets, points, text, f"line {number}")
    return read


def _of_offsets(points: Any, text: Any, writer: str) -> PenLine:
    try:
        rows = np.asarray(points, np.float64)
    except (TypeError, ValueError, OverflowError):
        rows = np.zeros(0)
    text = text.decode("latin1") if isinstance(text, bytes) else text
    if rows.ndim != 2 or rows.shape[1] != 3 or not isinstance(text, str):
        raise LineError("not (n, 3) numbers and a text")
    places = coordinates_of(rows)[:, :2].cumsum(axis=0)
    strokes = [part for part in np.split(places, np.flatnonzero(rows[:, 2] != 0) + 1) if len(part)]
    return pen_line(strokes, text, writer)


def _style_files(folder: Path) -> ReadLines:
    """`style-3-strokes.npy` and `style-3-chars.npy`, pairs of a line's offsets and its text."""
    read = ReadLines()
    for path in sorted(folder.glob("*-strokes.npy"))[:_MOST_LINES]:
        name = path.name.removesuffix("-strokes.npy")
        text = folder / f"{name}-chars.npy"
        if not text.is_file():
            read.drop("strokes without text", path.name)
            continue
        points = unpack_npy(reading.read_given(path, _XML_BYTES))
        letters = reading.read_given(text, _XML_BYTES)
        read.add(path.name, _of_offsets, points, _npy_text(letters), name)
    if not read.lines and not read.dropped:
        raise HeadstartError(f"{folder} has no lineStrokes/ and ascii/ of IAM-OnDB and no style-N-strokes.npy")
    return read


def _npy_text(data: bytes) -> str | None:
    """The one text of an array of bytes (`|S5`), which nothing else here may hold."""
    header = data[10 : 10 + int.from_bytes(data[8:10], "little")] if data[:6] == b"\x93NUMPY" else b""
    body = data[10 + len(header) :]
    return body.rstrip(b"\0").decode("latin1") if b"|S" in header and len(body) <= 4096 else None


def _iam(folder: Path) -> ReadLines:
    """IAM-OnDB: `lineStrokes/a01/a01-000/a01-000u-01.xml`, and line 01 of the part CSR of `ascii/a01/a01-000/a01-000u.txt`."""
    read, texts = ReadLines(), dict[Path, list[str]]()
    for number, path in enumerate(sorted((folder / "lineStrokes").rglob("*.xml"))):
        if number >= _MOST_LINES:
            break
        form, _, place = path.stem.rpartition("-")
        source = folder / "ascii" / path.parent.relative_to(folder / "lineStrokes") / f"{form}.txt"
        if source not in texts:
            texts[source] = _transcripts(source)
        if not place.isdecimal() or not 1 <= int(place) <= len(texts[source]):
            read.drop("strokes without transcript", path.name)
            continue
        read.add(path.name, _xml_line, path, texts[source][int(place) - 1], form.rstrip("abcdefghijklmnopqrstuvwxyz"))
    return read


def _transcripts(path: Path) -> list[str]:
    if not path.is_file():
        return []
    lines = [line.strip() for line in reading.read_given(path, _XML_BYTES).decode("utf-8", "replace").splitlines()]
    return [line for line in lines[lines.index("CSR:") + 1 :] if line] if "CSR:" in lines else []


def _xml_line(path: Path, text: str, writer: str) -> PenLine:
    strokes: list[list[tuple[float, float]]] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        if name == "Stroke":
            strokes.append([])
        elif name == "Point" and strokes:
            strokes[-1].append((float(attributes["x"]), float(attributes["y"])))

    def refuse(*_: Any) -> None:
        raise LineError("XML that declares entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.StartDoctypeDeclHandler = begin, refuse
    try:
        parser.Parse(reading.read_given(path, _XML_BYTES), True)
    except (expat.ExpatError, KeyError, ValueError) as error:
        if isinstance(error, LineError):
            raise
        raise LineError("XML that is damaged") from None
    return pen_line([np.array(stroke, np.float64) for stroke in strokes if stroke], text, writer)


def as_json_lines(lines: Sequence[PenLine]) -> Iterator[str]:
    """The lines as `read_lines` reads them again: coordinates to a hundredth of a unit."""
    for line in lines:
        strokes = [np.round(stroke, 2).tolist() for stroke in line.strokes]
        yield json.dumps({"text": line.text, "writer": line.writer, "strokes": strokes}, ensure_ascii=False)


def read_text(place: Path) -> str:
    """A text to write. Raises: HeadstartError if it cannot be read, or is no UTF-8."""
    try:
        return reading.read_given(place, _TEXT_BYTES).decode()
    except (OSError, ValueError) as error:
        raise HeadstartError(f"{place} cannot be read: {getattr(error, 'strerror', None) or 'it is no UTF-8'}") from None
