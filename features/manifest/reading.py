"""Reads the manifest of a data set: `features/manifests/<name>-<8 hex>/` with `dataset.json`, immutable parts and revisions.

A part says what an image was when it was enqueued, the newest revision what became of it. A changed image is added again: the
last row of a path is the one that counts.
"""

import functools
import hashlib
import json
import sys
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.features.sources.image_table import Digests
from headstart.features.sources.source import IMAGE_COLUMNS, Image
from headstart.pipeline import paths
from headstart.pipeline.doors import records
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

from .parts import CheckedPart, Part, Row, check_part, list_parts, part_of
from .revisions import RevisedRow, RevisedRows, Revision, read_revision, revision_of

FORMAT = 2
# What this version can do: read images out of Parquet files. Not more than one row, a mask or a region of an image.
ABILITIES = frozenset({"parquet"})
DATASET_FILE = "dataset.json"
_NOTHING_REVISED = RevisedRows((), {})
_AT_ONCE = 1 << 14  # rows
# What decides features or rows is not among them: digest, path, size and time change nothing that is learned.
_LEARNED = tuple(IMAGE_COLUMNS.index(name) for name in ("label", "split", "group"))


@dataclass(frozen=True)
class Dataset:
    """What `dataset.json` says: where the images lie and how they were read. Attributes as in `sources.source.Source`.

    Attributes:
        needs: abilities that a reader must have, see ABILITIES. A version that lacks one refuses the manifest.
    """

    root: str
    layout: str
    file: str | None
    roles: dict[str, str]
    seed: int
    allow_symlinks: bool
    keep_case: bool = False
    said_layout: str = "auto"
    needs: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The bytes of `dataset.json`."""
        return records.seal({"format": FORMAT, **asdict(self)})


@dataclass(frozen=True)
class Columns:
    """All rows of a manifest, column by column; item i is global row i.

    Attributes:
        path, label, split, group: text, '' for none.
        size, mtime_ns: int64 (rows,).
        digest: of the image's bytes, '' if they were never read.
        extra: the table's other columns; '' where a row lacks one.
        retired: why a row no longer counts, '' if it does.
        live: bool (rows,), False where a row is retired or a later row has the same path.
        revision: number of the revision that these are of, 0 for none.
        changes: digest of all labels, splits, groups and other columns that are no longer as in their parts; '' if none is.
    """

    path: list[str]
    label: list[str]
    split: list[str]
    group: list[str]
    size: npt.NDArray[np.int64]
    mtime_ns: npt.NDArray[np.int64]
    digest: Sequence[str]
    extra: dict[str, list[str]]
    retired: list[str]
    live: npt.NDArray[np.bool_]
    revision: int
    changes: str

    @functools.cached_property
    def row_at(self) -> dict[str, int]:
        """The last row of each path that counts, else its last one."""
        rows = dict(zip(self.path, range(len(self.path)), strict=True))
        if not self.live.all():
            rows |= {self.path[row]: row for row in self.live.nonzero()[0].tolist()}
        return rows

    def live_at(self, index: npt.NDArray[np.int64], dataset: str) -> npt.NDArray[np.bool_]:
        """(n,) bool: which of these rows (n,) count. Raises: HeadstartError, naming the data set, if it has no such row."""
        if len(index) and int(index.max()) >= len(self.live):
            raise HeadstartError(
                f"{dataset} has {len(self.live):,} rows, there are features of row {int(index.max()):,}. Restore its parts "
                "from a copy"
            )
        return np.asarray(self.live[index])

    def row(self, index: int) -> Row:
        """One row on its own, without the table's other columns."""
        image = Image(
            path=self.path[index],
            label=self.label[index],
            split=self.split[index],
            group=self.group[index],
            size=int(self.size[index]),
            mtime_ns=int(self.mtime_ns[index]),
            digest=self.digest[index],
        )
        return Row(image, index, self.retired[index])


@dataclass(frozen=True)
class Manifest:
    """An opened manifest; parts are checked when they are first read, once per object."""

    folder: Path
    dataset: Dataset
    _checked_parts: dict[str, CheckedPart] = field(default_factory=dict, repr=False, compare=False)
    _revised: dict[Revision, RevisedRows] = field(default_factory=dict, repr=False, compare=False)

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts in order, listed anew. Raises: HeadstartError if one is missing."""
        return list_parts(self.folder)

    def rows(self, part: str, start: int, stop: int) -> list[Row]:
        """Rows `start` to `stop` (half open) of the part of that file name, as the newest revision has them.

        Raises: HeadstartError if part or revision is damaged.
        """
        rows = self._checked(part_of(self.folder, part)).rows(start, stop)
        revised = self.revised().rows
        return [_revised(row, revised[row.index]) if row.index in revised else row for row in rows]

    def label_counts(self, part: str) -> Counter[str]:
        """Images of each label in one part, as the newest revision has them; those that left the data are in none.

        Raises: HeadstartError if part or revision is damaged.
        """
        chosen, label = part_of(self.folder, part), IMAGE_COLUMNS.index("label")
        labels = self._checked(chosen).read_columns()[0]["label"]
        for index, state in self.revised().rows.items():
            if chosen.first_row <= index < chosen.first_row + chosen.rows:
                labels[index - chosen.first_row] = "" if state.retired else state.fixed[label]
        counts = Counter(labels)
        del counts[""]
        return counts

    def revised(self, number: int | None = None) -> RevisedRows:
        """The rows that are no longer as in their parts, by the revision of that number or the newest one."""
        revision = revision_of(self.folder, number)
        if revision is None:
            return _NOTHING_REVISED
        if revision not in self._revised:
            self._revised.clear()
            self._revised[revision] = read_revision(revision)
        return self._revised[revision]

    def read_all(self, revision: int | None = None) -> Columns:
        """Every row of every part, as it was at the revision of that number (0: as the parts have it), else as it is now.

        Raises: HeadstartError if a part or the revision is missing or damaged.
        """
        chosen = revision_of(self.folder, revision)
        revised = self.revised(chosen.number) if chosen is not None else _NOTHING_REVISED
        rows = _Rows()
        extra: dict[str, list[str]] = {name: [] for name in revised.columns}
        for checked in map(self._checked, self.parts):
            for start in range(0, checked.part.rows, _AT_ONCE):  # read at once, the fields of a million rows take most of a GB
                its_fixed, its_extra = checked.read_columns(start, start + _AT_ONCE)
                names = its_extra if chosen is None else [name for name in its_extra if name in extra]
                for name in names:
                    extra.setdefault(name, [""] * len(rows.path))
                rows.add(its_fixed)
                for name, values in extra.items():
                    values.extend(its_extra.get(name) or [""] * (len(rows.path) - len(values)))
        retired = [""] * len(rows.path)
        changes = _apply(self.folder, revised, rows, extra, retired)
        return Columns(
            path=rows.path,
            label=rows.label,
            split=rows.split,
            group=rows.group,
            size=np.array(rows.size, np.int64),
            mtime_ns=np.array(rows.mtime_ns, np.int64),
            digest=rows.digest,
            extra=extra,
            retired=retired,
            live=_live(rows.path, retired),
            revision=0 if chosen is None else chosen.number,
            changes=changes,
        )

    def is_as_in(self, columns: Columns) -> bool:
        """Whether `columns` were read of this manifest as it is now, by the names of its files."""
        newest = revision_of(self.folder, None)
        is_same_revision = columns.revision == (0 if newest is None else newest.number)
        return is_same_revision and len(columns.path) == sum(part.rows for part in self.parts)

    def _checked(self, part: Part) -> CheckedPart:
        if part.name not in self._checked_parts:
            self._checked_parts[part.name] = check_part(part)
        return self._checked_parts[part.name]


class _Rows:
    """What `Columns` has of the parts' own columns, while it is read."""

    def __init__(self) -> None:
        self.path, self.label, self.split, self.group = list[str](), list[str](), list[str](), list[str]()
        self.size, self.mtime_ns, self.digest = array("q"), array("q"), Digests(())

    def add(self, fixed: Mapping[str, list[str]]) -> None:
        """Adds rows; equal texts of a column of few different ones become one object."""
        self.path += fixed["path"]
        self.label += map(sys.intern, fixed["label"])
        self.split += map(sys.intern, fixed["split"])
        self.group += map(sys.intern, fixed["group"])
        self.size.extend(map(int, fixed["size"]))
        self.mtime_ns.extend(map(int, fixed["mtime_ns"]))
        self.digest.extend(fixed["image_digest"])

    def learned(self, row: int) -> list[str]:
        return [self.label[row], self.split[row], self.group[row]]

    def put(self, row: int, fixed: Sequence[str]) -> None:
        """Args: fixed: in the order of IMAGE_COLUMNS."""
        self.digest[row], self.path[row], self.label[row], self.split[row], self.group[row] = fixed[:5]
        self.size[row], self.mtime_ns[row] = int(fixed[5]), int(fixed[6])


def _apply(folder: Path, revised: RevisedRows, rows: _Rows, extra: dict[str, list[str]], retired: list[str]) -> str:
    """Puts the revised rows in their places; returns `Columns.changes`."""
    learned = hashlib.sha256()
    differs = False
    others = [extra[name] for name in revised.columns]
    for row, state in revised.rows.items():
        if row >= len(retired):
            raise HeadstartError(
                f"{printable(str(folder))} has {len(retired):,} rows, its revision speaks of row {row:,}. Restore the parts from "
                "a copy"
            )
        before = rows.learned(row) + [values[row] for values in others]
        now = [state.fixed[place] for place in _LEARNED] + list(state.extra)
        if before != now:
            differs = True
            learned.update(json.dumps([row, now]).encode())
        rows.put(row, state.fixed)
        for values, value in zip(others, state.extra, strict=True):
            values[row] = value
        retired[row] = state.retired
    return learned.hexdigest() if differs else ""


def _live(paths: list[str], retired: list[str]) -> npt.NDArray[np.bool_]:
    last = {path: row for row, path in enumerate(paths) if not retired[row]}
    live = np.zeros(len(paths), np.bool_)
    live[list(last.values())] = True
    return live


def _revised(row: Row, state: RevisedRow) -> Row:
    fixed = dict(zip(IMAGE_COLUMNS, state.fixed, strict=True))
    image = Image(
        path=fixed["path"],
        label=fixed["label"],
        split=fixed["split"],
        group=fixed["group"],
        size=int(fixed["size"]),
        mtime_ns=int(fixed["mtime_ns"]),
        extra=state.extra,
        digest=fixed["image_digest"],
    )
    return Row(image, row.index, state.retired)


def read_columns(folder: Path, revision: int | None = None) -> Columns:
    """Every row of the manifest in `folder`. Raises as `open_manifest` and `Manifest.read_all`."""
    return open_manifest(folder).read_all(revision)


def list_datasets(manifests: Path) -> list[Path]:
    """Folders of the data sets below `manifests`, by name."""
    return [path.parent for path in paths.matching(manifests, f"*/{DATASET_FILE}")]


def _dataset(facts: records.Record) -> Dataset:
    roles = facts.record("roles")
    return Dataset(
        root=facts.text("root"),
        layout=facts.text("layout"),
        file=None if facts["file"] is None else facts.text("file"),
        roles={role: roles.text(role) for role in roles},
        seed=facts.integer("seed", -records.LARGEST),
        allow_symlinks=facts.flag("allow_symlinks"),
        keep_case="keep_case" in facts and facts.flag("keep_case"),
        said_layout=facts.text("said_layout") if "said_layout" in facts else "auto",
        needs=tuple(map(str, facts.get("needs") or ())),
    )


def _refuse_newer(facts: Mapping[str, Any], shown: str) -> None:
    if facts["format"] > FORMAT:
        raise HeadstartError(f"{shown} has format {facts['format']}, this version reads up to {FORMAT}: pip install -U headstart")
    needs = list(map(str, facts.get("needs") or ()))
    if not ABILITIES.issuperset(needs):
        raise HeadstartError(f"{shown} needs what this version cannot do ({', '.join(needs)}): pip install -U headstart")


def open_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`, of this format or an older one. Raises: HeadstartError if it is not there, damaged or newer."""
    path = folder / DATASET_FILE
    shown = printable(str(path))
    try:
        dataset = _dataset(records.read_record(path, None, judge=lambda facts: _refuse_newer(facts, shown)))
    except OSError as error:
        raise HeadstartError(
            f"{shown} cannot be read: {error.strerror}. Run the same enqueue again; it writes the file anew."
        ) from None
    except (records.DamagedError, ValueError, KeyError, TypeError) as error:
        raise HeadstartError(f"{shown} is damaged ({error!r}). Delete that one file and run the same enqueue again.") from None
    return Manifest(folder, dataset)
