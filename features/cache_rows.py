"""The rows of a packed cache: which physical row is which image, with label, split and group as codes."""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cache_parts import CachePart, PackedShard
from .dataset import Columns

_NAMES = ("label", "split", "group")
_NO_DATASET = -1


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


def rows_of(
    fingerprint: str, parts: Sequence[CachePart], columns_of: Callable[[str], Columns], only: str | None = None
) -> CachedRows:
    """The rows that count: those that are the latest of their path.

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
    columns = [columns_of(name) for name in datasets]
    latest = np.zeros(len(index), np.bool_)
    for code, found in enumerate(columns):
        mine = dataset == code
        latest[mine] = found.latest[index[mine]]
    order = np.lexsort((index, dataset))
    physical = order[latest[order]]
    coded = {name: _coded(name, columns, dataset[physical], index[physical]) for name in _NAMES}
    return CachedRows(
        fingerprint=fingerprint,
        digest=_digest(fingerprint, [s for s in shards if s.dataset in code_of], dataset[physical], index[physical]),
        parts=tuple(part.path.name for part in parts),
        physical=physical,
        datasets=tuple(datasets),
        dataset=dataset[physical],
        index=index[physical],
        label=coded["label"],
        split=coded["split"],
        group=coded["group"],
        images=sum(int(found.latest.sum()) for found in columns),
    )


def _digest(fingerprint: str, shards: list[PackedShard], dataset: NDArray[np.int32], index: NDArray[np.int64]) -> str:
    # A source names the manifest part and so, by that part's digest, every label in it.
    digest = hashlib.sha256(json.dumps([fingerprint, sorted((s.job_id, s.sha256, s.source) for s in shards)]).encode())
    digest.update(dataset.tobytes())
    digest.update(index.tobytes())
    return digest.hexdigest()


def _coded(name: str, columns: list[Columns], dataset: NDArray[np.int32], index: NDArray[np.int64]) -> Codes:
    names = sorted({value for found in columns for value in getattr(found, name)})
    code_of = {value: code for code, value in enumerate(names)}
    codes = np.empty(len(index), np.int32)
    for number, found in enumerate(columns):
        mine = dataset == number
        codes[mine] = np.array([code_of[value] for value in getattr(found, name)], np.int32)[index[mine]]
    return Codes(tuple(names), codes)


def encode_rows(rows: CachedRows) -> bytes:
    """An NPZ, the same bytes for the same rows."""
    facts = {
        "fingerprint": rows.fingerprint,
        "digest": rows.digest,
        "parts": rows.parts,
        "datasets": rows.datasets,
        "images": rows.images,
        **{name: getattr(rows, name).names for name in _NAMES},
    }
    buffer = io.BytesIO()
    arrays: dict[str, NDArray[Any]] = {"physical": rows.physical, "dataset": rows.dataset, "index": rows.index}
    arrays |= {name: getattr(rows, name).codes for name in _NAMES}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def decode_rows(data: bytes) -> CachedRows:
    """Reads what `encode_rows` wrote. Raises: whatever the damage leads to."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        facts = json.loads(bytes(file["facts"]))
        return CachedRows(
            fingerprint=facts["fingerprint"],
            digest=facts["digest"],
            parts=tuple(facts["parts"]),
            physical=file["physical"],
            datasets=tuple(facts["datasets"]),
            dataset=file["dataset"],
            index=file["index"],
            label=Codes(tuple(facts["label"]), file["label"]),
            split=Codes(tuple(facts["split"]), file["split"]),
            group=Codes(tuple(facts["group"]), file["group"]),
            images=int(facts["images"]),
        )
