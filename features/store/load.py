"""Reads finished features back, aligned with labels, splits and paths: for heads, and for anybody without the tool."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.encoders.spec import read_encoder
from headstart.features.manifest.reading import Columns, read_columns
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.markers import Marker, NotDone, read_marker, recorded_jobs
from headstart.pipeline.workspace import Workspace, open_workspace

from . import shards

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Features:
    """Features of every image that has some, in the order of the manifest; item i of each attribute is the same image.

    Attributes:
        features: (n, d) float16.
        labels, splits: (n,) str, '' where there is none.
        paths: n paths relative to the data's root.
        index: (n,) int64, row of the image in its manifest.
    """

    features: NDArray[np.float16]
    labels: NDArray[np.str_]
    splits: NDArray[np.str_]
    paths: list[str]
    index: NDArray[np.int64]

    def to_frame(self) -> "pandas.DataFrame":
        """Path, label, split and index as a table, one row an image, in the order of `features`."""
        import pandas

        return pandas.DataFrame({"path": self.paths, "label": self.labels, "split": self.splits, "index": self.index})


def load_features(encoder_folder: str | Path) -> Features:
    """Everything done so far in `features/encoder_…`, each shard checked against its marker.

    Works while extraction runs. An image that changed and was enqueued again counts once, as it is now.
    Raises: HeadstartError if the folder holds no encoder or nothing is done yet.
    """
    folder = Path(encoder_folder).absolute()
    workspace = open_workspace(folder.parent.parent)
    manifest = lru_cache(read_columns)
    blocks: list[tuple[str, NDArray[np.int64], NDArray[Any]]] = []
    embed_dim = read_encoder(folder).embed_dim
    for marker in finished_markers(workspace, folder):
        arrays = shards.read_finished(marker, embed_dim)
        source = marker.job.source.rpartition("/")[0]
        keep = manifest(workspace.root / source).live_at(arrays["index"], source)
        blocks.append((source, arrays["index"][keep], arrays["global_pool"][keep]))
    if not blocks:
        raise HeadstartError(f"{folder} has no finished job yet. Do some: headstart work")
    parts = []
    for source in sorted({source for source, _, _ in blocks}):
        index = np.concatenate([rows for name, rows, _ in blocks if name == source])
        pooled = np.concatenate([values for name, _, values in blocks if name == source])
        # Unique, too: a queue that was edited by hand may hold a row twice, and the two results are the same.
        rows, first = np.unique(index, return_index=True)
        parts.append(_aligned(manifest(workspace.root / source), rows, pooled[first]))
    return parts[0] if len(parts) == 1 else _joined(parts)


def finished_markers(workspace: Workspace, folder: Path) -> Iterator[Marker]:
    """The verified marker of each finished job of the encoder in `folder`, by job."""
    fingerprint = read_encoder(folder).fingerprint
    for job in recorded_jobs(workspace, within=folder):
        with contextlib.suppress(NotDone):
            yield read_marker(workspace, job, fingerprint)


def _aligned(columns: Columns, index: NDArray[np.int64], pooled: NDArray[np.float16]) -> Features:
    return Features(
        features=pooled,
        labels=np.array([columns.label[row] for row in index], dtype=np.str_),
        splits=np.array([columns.split[row] for row in index], dtype=np.str_),
        paths=[columns.path[row] for row in index],
        index=index,
    )


def _joined(parts: list[Features]) -> Features:
    return Features(
        features=np.concatenate([part.features for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        splits=np.concatenate([part.splits for part in parts]),
        paths=[path for part in parts for path in part.paths],
        index=np.concatenate([part.index for part in parts]),
    )
