"""Packed features with label, split, group and path beside each row: what heads train on. Reads rows, never the whole matrix."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.arrays import DamagedArrays, unpack_npz
from headstart.features.manifest.reading import Columns, read_columns
from headstart.pipeline.doors import records
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.job import is_plain_path
from headstart.pipeline.workspace import Workspace

from .cache_part import PART_NAME, CachePart, PackedShard

_NAMES = ("label", "split", "group")
_NO_DATASET = -1
_MOST_ROWS = 1 << 40


@dataclass(frozen=True)
class Codes:
    """A column of text as int32 codes (n,) into sorted `names`."""

    names: tuple[str, ...]
    codes: NDArray[np.int32]

    @cached_property
    def values(self) -> NDArray[np.str_]:
        """(n,) str."""
        return np.array(self.names, dtype=np.str_)[self.codes]

    def is_(self, name: str) -> NDArray[np.bool_]:
        """(n,) bool, True where the column says `name`."""
        code = self.names.index(name) if name in self.names else -1
        return np.asarray(self.codes == code)


@dataclass(frozen=True)
class CachedRows:
    """Rows in the order of data set and manifest; item i of every array is the same image.

    Attributes:
        fingerprint: of the encoder.
        digest: of all that decides what row i is; not of how the rows lie in parts.
        parts: file names, in the order in which `physical` counts.
        physical: (n,) int64, row in the parts laid end to end.
        datasets: relative to the workspace; `dataset` (n,) int32 is a position in it.
        index: (n,) int64, row of the manifest.
        label, split, group: coded columns, '' for none.
        images: images that the data sets have altogether, with or without features.
        revisions: of each data set's manifest, the number of the revision that the columns are of; 0: as the parts have them.
        divided: rows of val or test whose image, byte for byte, is also in train.
    """

    fingerprint: str
    digest: str
    parts: tuple[str, ...]
    physical: NDArray[np.int64]
    datasets: tuple[str, ...]
    dataset: NDArray[np.int32]
    index: NDArray[np.int64]
    label: Codes
    split: Codes
    group: Codes
    images: int
    revisions: tuple[int, ...] = ()
    divided: int = 0


def rows_of(
    fingerprint: str, parts: Sequence[CachePart], columns_of: Callable[[str], Columns], only: str | None = None
) -> CachedRows:
    """The rows that count: those that are not retired and the latest of their path.

    Args:
        columns_of: the manifest of a data set.
        only: the one data set whose rows count, None for all; nothing but `physical` and `parts` then depends on the others.
    """
    shards = [shard for part in parts for shard in part.shards]
    datasets = sorted({shard.dataset for shard in shards if only in (None, shard.dataset)})
    code_of = {name: code for code, name in enumerate(datasets)}
    codes = [code_of.get(shard.dataset, _NO_DATASET) for shard in shards]
    dataset = np.repeat(codes, [shard.rows for shard in shards]).astype(np.int32)
    index = np.concatenate([part.index for part in parts])
    manifests = [columns_of(name) for name in datasets]
    live = np.zeros(len(index), np.bool_)
    for code, manifest in enumerate(manifests):
        mine = dataset == code
        live[mine] = manifest.live_at(index[mine], datasets[code])
    order = np.lexsort((index, dataset))
    physical = order[live[order]]
    coded = {name: _coded(name, manifests, dataset[physical], index[physical]) for name in _NAMES}
    return CachedRows(
        fingerprint=fingerprint,
        digest=_digest(fingerprint, [s for s in shards if s.dataset in code_of], manifests, dataset[physical], index[physical]),
        parts=tuple(part.path.name for part in parts),
        physical=physical,
        datasets=tuple(datasets),
        dataset=dataset[physical],
        index=index[physical],
        label=coded["label"],
        split=coded["split"],
        group=coded["group"],
        images=sum(int(manifest.live.sum()) for manifest in manifests),
        revisions=tuple(manifest.revision for manifest in manifests),
        divided=_divided(manifests, dataset[physical], index[physical]),
    )


def _digest(
    fingerprint: str,
    shards: list[PackedShard],
    manifests: list[Columns],
    dataset: NDArray[np.int32],
    index: NDArray[np.int64],
) -> str:
    # A source names the manifest part and so, by that part's digest, every label in it; `changes` has what was revised since.
    facts: list[Any] = [fingerprint, sorted((s.job_id, s.sha256, s.source) for s in shards)]
    if any(manifest.changes for manifest in manifests):
        facts.append([manifest.changes for manifest in manifests])
    digest = hashlib.sha256(json.dumps(facts).encode())
    digest.update(dataset.tobytes())
    digest.update(index.tobytes())
    return digest.hexdigest()


def _divided(manifests: list[Columns], dataset: NDArray[np.int32], index: NDArray[np.int64]) -> int:
    """Rows of val or test whose digest is that of a row of train; both among these rows."""
    trained: set[str] = set()
    judged: list[str] = []
    for number, manifest in enumerate(manifests):
        for row in index[dataset == number].tolist():
            if not manifest.digest[row]:
                continue
            if manifest.split[row] == "train":
                trained.add(manifest.digest[row])
            elif manifest.split[row]:
                judged.append(manifest.digest[row])
    return sum(digest in trained for digest in judged)


def _coded(name: str, manifests: list[Columns], dataset: NDArray[np.int32], index: NDArray[np.int64]) -> Codes:
    names = sorted({value for manifest in manifests for value in getattr(manifest, name)})
    code_of = {value: code for code, value in enumerate(names)}
    codes = np.empty(len(index), np.int32)
    for number, manifest in enumerate(manifests):
        mine = dataset == number
        codes[mine] = np.array([code_of[value] for value in getattr(manifest, name)], np.int32)[index[mine]]
    return Codes(tuple(names), codes)


def serialize_rows(rows: CachedRows) -> bytes:
    """An NPZ, the same bytes for the same rows."""
    facts = {
        "fingerprint": rows.fingerprint,
        "digest": rows.digest,
        "parts": rows.parts,
        "datasets": rows.datasets,
        "images": rows.images,
        # Not there where there is nothing to say: rows of a manifest that never changed have the bytes that they always had.
        **({"revisions": rows.revisions} if any(rows.revisions) else {}),
        **({"divided": rows.divided} if rows.divided else {}),
        **{name: getattr(rows, name).names for name in _NAMES},
    }
    buffer = io.BytesIO()
    arrays: dict[str, NDArray[Any]] = {"physical": rows.physical, "dataset": rows.dataset, "index": rows.index}
    arrays |= {name: getattr(rows, name).codes for name in _NAMES}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def parse_rows(data: bytes) -> CachedRows:
    """Reads what `serialize_rows` wrote. Raises: DamagedArrays, or records.DamagedError, whatever is wrong."""
    arrays = unpack_npz(data)
    missing = {"facts", "physical", "dataset", "index", *_NAMES} - arrays.keys()
    if missing:
        raise DamagedArrays(f"it lacks {', '.join(sorted(missing))}")
    facts = records.parse_record(arrays["facts"].tobytes(), "facts of the rows", None)
    parts, datasets = facts.texts("parts"), facts.texts("datasets")
    # These become paths.
    if not all(PART_NAME.fullmatch(name) for name in parts) or not all(map(is_plain_path, datasets)):
        raise DamagedArrays(f"it names {ascii([*parts, *datasets])[:200]}")
    n = len(arrays["index"])
    codes = {name: _parsed_codes(facts, name, arrays[name], n) for name in _NAMES}
    for name, dtype, most in (
        ("physical", np.int64, _MOST_ROWS),
        ("index", np.int64, _MOST_ROWS),
        ("dataset", np.int32, len(datasets)),
    ):
        _require_range(name, arrays[name], np.dtype(dtype), n, most)
    revisions = facts.get("revisions", [0] * len(datasets))
    if len(revisions) != len(datasets) or not all(type(number) is int for number in revisions):
        facts.refuse("revisions", revisions)
    return CachedRows(
        fingerprint=facts.text("fingerprint"),
        digest=facts.text("digest"),
        parts=tuple(parts),
        physical=arrays["physical"],
        datasets=tuple(datasets),
        dataset=arrays["dataset"],
        index=arrays["index"],
        **codes,
        images=facts.integer("images"),
        revisions=tuple(revisions),
        divided=facts.integer("divided") if "divided" in facts else 0,
    )


def _parsed_codes(facts: records.Record, name: str, codes: NDArray[Any], n: int) -> Codes:
    names = facts.texts(name)
    _require_range(name, codes, np.dtype(np.int32), n, len(names))
    return Codes(tuple(names), codes)


def _require_range(name: str, array: NDArray[Any], dtype: np.dtype[Any], n: int, most: int) -> None:
    if array.dtype != dtype or array.shape != (n,):
        raise DamagedArrays(f"{name} is {array.dtype} of shape {array.shape}, expected {dtype} of {(n,)}")
    if n and not 0 <= array.min() <= array.max() < most:
        raise DamagedArrays(f"{name} has {array.min()} to {array.max()}, expected 0 to {most - 1}")


class ManifestColumns:
    """The columns of a workspace's manifests, each revision of each read once, whoever asks how often."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: dict[tuple[str, int], Columns] = {}

    def newest(self, dataset: str) -> Columns:
        """As the manifest is now. Raises as `read_columns`."""
        columns = read_columns(self._root / dataset)
        return self._read.setdefault((dataset, columns.revision), columns)

    def of(self, dataset: str, revision: int) -> Columns:
        """As it was at that revision. Raises as `read_columns`."""
        key = dataset, revision
        if key not in self._read:
            self._read[key] = read_columns(self._root / dataset, revision)
        return self._read[key]


@dataclass(frozen=True)
class CachedFeatures:
    """n images with features, ordered by data set and manifest row; position i means the same image everywhere.

    Attributes:
        workspace, folder: whose features these are.
        rows: codes and row numbers.
        parts: mapped.
        selected: the data set whose rows alone were asked for, None if all were.
        manifests: columns that were read to choose the rows; None if the rows were known.
    """

    workspace: Workspace = field(repr=False)
    folder: Path
    rows: CachedRows = field(repr=False)
    parts: tuple[CachePart, ...] = field(repr=False)
    selected: str | None = None
    manifests: ManifestColumns | None = field(default=None, repr=False, compare=False)
    _texts: dict[str, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rows.index)

    @property
    def digest(self) -> str:
        """sha256 (hex): equal if and only if every position holds the same features and the same manifest row."""
        return self.rows.digest

    @property
    def embed_dim(self) -> int:
        return int(self.parts[0].features.shape[1])

    @property
    def coverage(self) -> str:
        """For people: on how many of how many images."""
        return f"{len(self):,} of {self.rows.images:,} images"

    @property
    def labels(self) -> NDArray[np.str_]:
        """(n,) str, '' for none; `splits` and `groups` likewise. `rows.label` has the same as codes."""
        return self.rows.label.values

    @property
    def splits(self) -> NDArray[np.str_]:
        return self.rows.split.values

    @property
    def groups(self) -> NDArray[np.str_]:
        return self.rows.group.values

    @property
    def paths(self) -> list[str]:
        """n paths relative to their data set's root, read from the manifest when asked for."""
        return self._from_manifest([columns.path for columns in self._columns])

    @property
    def digests(self) -> list[str]:
        """n digests of the images' bytes, '' where they were not read; equal ones are copies."""
        return self._from_manifest([columns.digest for columns in self._columns])

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Names that `column` knows."""
        return tuple(dict.fromkeys(name for columns in self._columns for name in columns.extra))

    def column(self, name: str) -> list[str]:
        """n values of one of the table's other columns. Raises: HeadstartError if no data set has it."""
        if name not in self.extra_columns:
            known = ", ".join(self.extra_columns) or "none"
            raise HeadstartError(
                f"the manifest has no column {name!r}; it has: {known}. Add it to the table and enqueue that again"
            )
        if name not in self._texts:
            values = [columns.extra.get(name) or [""] * len(columns.path) for columns in self._columns]
            self._texts[name] = self._from_manifest(values)
        return self._texts[name]

    def take(self, positions: NDArray[np.int64], out: NDArray[np.float16] | None = None) -> NDArray[np.float16]:
        """Features (k, d) of any positions, in that order; reads these rows only.

        Args:
            out: filled and returned instead of a new array; (k, d) float16, contiguous.
        """
        result = np.empty((len(positions), self.embed_dim), np.float16) if out is None else out
        physical = self.rows.physical[positions]
        owner = np.searchsorted(self._ends, physical, side="right")
        if len(owner) and (owner == owner[0]).all():  # as nearly every stretch of sorted rows
            part = self.parts[owner[0]]
            # mode="clip": with "raise" numpy fills a buffer first and copies it; the rows are ours and in range.
            return np.take(part.features, physical - (self._ends[owner[0]] - len(part.index)), axis=0, out=result, mode="clip")
        for number in np.flatnonzero(np.bincount(owner)):  # np.unique would first import numpy.ma, for as long as a step takes
            mine = owner == number
            first = self._ends[number] - len(self.parts[number].index)
            result[mine] = self.parts[number].features[physical[mine] - first]
        return result

    def blocks(self, positions: NDArray[np.int64], size: int = 2048) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """`positions` in ascending order, `size` at a time: (k,) positions and their (k, d) features.

        That is nearly the order in which rows lie on disk, and unlike it the same however they lie: so are sums over blocks.
        """
        ordered = np.sort(positions)
        for start in range(0, len(ordered), size):
            chosen = ordered[start : start + size]
            yield chosen, self.take(chosen)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([len(part.index) for part in self.parts])

    @cached_property
    def _columns(self) -> list[Columns]:
        # Of the revisions that the rows are of: a training under way must not see what was corrected since.
        manifests = self.manifests or ManifestColumns(self.workspace.root)
        return [manifests.of(name, number) for name, number in self._revisions.items()]

    @cached_property
    def _revisions(self) -> dict[str, int]:
        """By data set, in their order."""
        return dict(zip(self.rows.datasets, self.rows.revisions or (0,) * len(self.rows.datasets), strict=True))

    def _from_manifest(self, values: Sequence[Sequence[str]]) -> list[str]:
        return [values[dataset][row] for dataset, row in zip(self.rows.dataset, self.rows.index, strict=True)]


def of_dataset(cached: CachedFeatures, dataset: str) -> CachedFeatures:
    """Only the rows of one data set, a manifest folder relative to the workspace: the same whatever else has features.

    Raises: HeadstartError if it has none.
    """
    rows = cached.rows
    if dataset not in rows.datasets:
        raise HeadstartError(f"{dataset} has no features in {cached.folder.name} yet. Make some: headstart work")
    if len(rows.datasets) > 1:
        manifests = cached.manifests or ManifestColumns(cached.workspace.root)
        revision = cached._revisions[dataset]
        rows = rows_of(rows.fingerprint, cached.parts, lambda name: manifests.of(name, revision), only=dataset)
    return replace(cached, rows=rows, selected=dataset)
