"""Kind `extract`: 64 images of a manifest become one shard of float16 features."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import FailedItem, Result
from headstart.pipeline.queue import Work
from headstart.pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.features.encoders import Encoder
    from headstart.features.images import ImageError
    from headstart.features.parts import Row

NAME = "extract"
_CPU_BATCH = 16
_CUDA_BATCH = 64


def work_for(
    workspace: Workspace, encoder_folder: Path, dataset_folder: Path, parts: list[tuple[str, int]], job_size: int
) -> list[Work]:
    """What the queue must cover so that every row of every part (name, rows) gets features."""
    folder, dataset = workspace.relative(encoder_folder), workspace.relative(dataset_folder)
    return [Work(NAME, folder, f"{dataset}/{part}", rows, job_size) for part, rows in parts]


def fingerprint(workspace: Workspace, folder: str) -> str:
    """Of the encoder: weights, transform, pooling; equal fingerprints mean comparable features."""
    from headstart.features.fingerprint import read_fingerprint

    return read_fingerprint(workspace.root / folder)


def open_session(workspace: Workspace, job: Job, settings: Settings) -> ExtractSession:
    """Opens manifest and decoders; the network itself waits for the first `compute`, while the first images decode."""
    return ExtractSession(workspace, job, settings)


@dataclass
class Decoded:
    """Images of one job, ready for the encoder.

    Attributes:
        rows: all rows of the job.
        images: (n_ok, h, w, 3) uint8 of those that decoded.
        kept: positions in `rows` of those that decoded.
        errors: by position in `rows`, why the others did not.
    """

    rows: list[Row]
    images: NDArray[np.uint8]
    kept: list[int]
    errors: dict[int, ImageError] = field(default_factory=dict)


class ExtractSession:
    """One encoder over one part of a manifest."""

    def __init__(self, workspace: Workspace, job: Job, settings: Settings) -> None:
        from headstart.features.dataset import open_manifest
        from headstart.features.encoder_spec import read_encoder
        from headstart.features.pixels import open_reader

        part = workspace.root / job.source
        self._folder = workspace.folder(job)
        self._part = part.name
        self._settings = settings
        self._spec = read_encoder(self._folder)
        self._manifest = open_manifest(part.parent)
        self._read = open_reader(self._manifest.dataset, self._spec.transform)
        self._decoders = ThreadPoolExecutor(_cores(), "decode")
        self._encoder: Encoder | None = None

    def prepare(self, job: Job) -> Decoded:
        """Reads and decodes the job's images; a broken one costs its own row."""
        import numpy as np

        from headstart.features.images import ImageError

        rows = self._manifest.rows(self._part, job.start, job.stop)
        outcomes = list(enumerate(self._decoders.map(self._outcome, rows)))
        errors = {i: outcome for i, outcome in outcomes if isinstance(outcome, ImageError)}
        good = [(i, outcome) for i, outcome in outcomes if not isinstance(outcome, ImageError)]
        images = np.empty((len(good), *self._spec.transform.image_size, 3), np.uint8)
        for position, (_, pixels) in enumerate(good):
            images[position] = pixels
        return Decoded(rows, images, [i for i, _ in good], errors)

    def compute(self, prepared: Decoded, check: Callable[[], None]) -> Result:
        """Encodes batch after batch and makes the shard."""
        import numpy as np

        from headstart.features import shards
        from headstart.features.images import STATUS, ImageError

        encoder = self._opened()
        batch = self._settings.batch_size or (_CPU_BATCH if encoder.device == "cpu" else _CUDA_BATCH)
        pooled = np.empty((len(prepared.images), self._spec.embed_dim), np.float32)
        for start in range(0, len(pooled), batch):
            check()
            pooled[start : start + batch] = encoder.encode(prepared.images[start : start + batch])
        with np.errstate(over="ignore"):
            half = pooled.astype(np.float16)
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(half).all(axis=1))
        errors = dict(prepared.errors)
        for i, is_good in zip(prepared.kept, finite, strict=True):
            if not is_good:
                errors[i] = ImageError("non_finite", "the encoder gave NaN or a value beyond float16 (65,504)")
        kept = [i for i, is_good in zip(prepared.kept, finite, strict=True) if is_good]
        status = np.zeros(len(prepared.rows), np.uint8)
        for i, error in errors.items():
            status[i] = STATUS[error.code]
        arrays: dict[str, NDArray[Any]] = {
            "global_pool": half[finite],
            "index": np.array([prepared.rows[i].index for i in kept], np.int64),
            "status": status,
        }
        failed = tuple(
            FailedItem(prepared.rows[i].index, prepared.rows[i].path, error.code, error.reason)
            for i, error in sorted(errors.items())
        )
        facts = {"device": encoder.device, "batch_size": batch, "versions": _versions()}
        return Result(shards.pack(arrays), shards.SUFFIX, shards.summary(arrays), len(prepared.rows), len(kept), failed, facts)

    def close(self) -> None:
        self._decoders.shutdown(cancel_futures=True)
        self._encoder = None

    def _outcome(self, row: Row) -> NDArray[np.uint8] | ImageError:
        from headstart.features.images import ImageError

        try:
            return self._read(row)
        except ImageError as error:
            return error

    def _opened(self) -> Encoder:
        if self._encoder is None:
            from headstart.features.encoders import open_encoder

            self._encoder = open_encoder(self._folder, _device(self._settings.device))
        return self._encoder


def _device(asked: str) -> str:
    if asked != "auto":
        return asked
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _cores() -> int:
    """Cores this process may use, which in a container or under taskset are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "timm", "numpy", "pillow")}
