"""The rows of a cache as they were at one moment, so that a training keeps to them whatever is extracted later.

Labels, splits and row numbers are in the snapshot; features stay in the cache and are found again wherever they lie by then.
"""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.features.arrays import DamagedArrays
from headstart.features.encoders.spec import read_encoder
from headstart.pipeline import paths
from headstart.pipeline.doors import records
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

from .cache_part import CachePart, DamagedPart, is_whole
from .cached_features import CachedFeatures, CachedRows, parse_rows, serialize_rows
from .packing import open_cache, open_checked

_INDEX_BITS = 40


def serialize_snapshot(cached: CachedFeatures) -> bytes:
    """Rows and the payloads that their features are from, the same bytes for the same cache."""
    payloads = sorted(
        (shard.job_id, shard.sha256) for part in cached.parts for shard in part.shards if shard.dataset in cached.rows.datasets
    )
    head = json.dumps(payloads, separators=(",", ":")).encode()
    return len(head).to_bytes(8, "little") + head + serialize_rows(cached.rows)


def open_snapshot(workspace: Workspace, encoder_folder: Path, data: bytes, is_checked: bool = False) -> CachedFeatures:
    """The features of a snapshot, bit for bit those it was made of.

    Args:
        data: as `serialize_snapshot` made it.
        is_checked: read every byte of the cache first; a part with a flipped bit is packed again from its shards.

    Raises: HeadstartError if the encoder is another one by now, or some of the features were made again since.
    """
    payloads, rows = _parsed(data)
    fingerprint = read_encoder(encoder_folder).fingerprint
    if rows.fingerprint != fingerprint:
        raise HeadstartError(
            f"{encoder_folder} has fingerprint {fingerprint[:8]}, the training was begun on {rows.fingerprint[:8]}. "
            "Restore the folder, or train anew: headstart train-head --name NEW"
        )
    home = workspace.cache(encoder_folder)
    if is_checked:
        _drop_damaged(home, rows.parts)
    try:
        parts = tuple(open_checked(workspace, home / name) for name in rows.parts)
        if len(rows.physical) and int(rows.physical.max()) >= sum(len(part.index) for part in parts):
            raise DamagedPart("the parts have fewer rows than there were")
        return CachedFeatures(workspace, encoder_folder, rows, parts)
    except (FileNotFoundError, DamagedPart):
        parts = open_cache(encoder_folder).parts
        return CachedFeatures(workspace, encoder_folder, _moved(rows, payloads, parts, encoder_folder), parts)


def _parsed(data: bytes) -> tuple[set[tuple[str, str]], CachedRows]:
    size = int.from_bytes(data[:8], "little")
    try:
        if len(data) < 8 + size:
            raise DamagedArrays("it is cut off")
        listing = records.parse(data[8 : 8 + size], "list of payloads")
        if not isinstance(listing, list) or not all(_is_pair(entry) for entry in listing):
            raise DamagedArrays("its list of payloads is none")
        return {(job_id, digest) for job_id, digest in listing}, parse_rows(data[8 + size :])
    except (DamagedArrays, records.DamagedError) as error:
        raise HeadstartError(
            f"the rows that the training was begun on are damaged ({error}). Train anew: headstart train-head"
        ) from None


def _is_pair(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(isinstance(word, str) for word in entry)


def _drop_damaged(home: Path, names: tuple[str, ...]) -> None:
    for path in (home / name for name in names):
        # The name of a part is the digest of its bytes.
        with contextlib.suppress(FileNotFoundError):
            if not is_whole(path):
                paths.remove(path)


def _moved(rows: CachedRows, payloads: set[tuple[str, str]], parts: tuple[CachePart, ...], folder: Path) -> CachedRows:
    """The same rows where they lie in `parts`."""
    code_of = {name: code for code, name in enumerate(rows.datasets)}
    shards = [shard for part in parts for shard in part.shards]
    usable = [(shard.job_id, shard.sha256) in payloads and shard.dataset in code_of for shard in shards]
    counts = [shard.rows for shard in shards]
    places = np.flatnonzero(np.repeat(usable, counts))
    codes = np.repeat([code_of.get(shard.dataset, 0) for shard in shards], counts)[places]
    there = _keys(codes, np.concatenate([part.index for part in parts])[places])
    order = np.argsort(there)
    wanted = _keys(rows.dataset, rows.index)
    positions = np.searchsorted(there, wanted, sorter=order).clip(max=max(0, len(there) - 1))
    if not len(there) or not np.array_equal(there[order[positions]], wanted):
        raise HeadstartError(
            f"{folder.name} no longer has the features that this training was begun on: some were made again. "
            "Train anew on what is there: headstart train-head --name NEW"
        )
    return replace(rows, parts=tuple(part.path.name for part in parts), physical=places[order[positions]])


def _keys(dataset: NDArray[np.int32], index: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray((dataset.astype(np.int64) << _INDEX_BITS) | index)
