"""Rows that are being decoded become the result of a job: encoded in batches, rounded, packed. What kinds of job share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.arrays import summary
from headstart.features.devices import cores
from headstart.features.encoders.spec import projection_of, read_encoder
from headstart.features.images.decode import STATUS, ImageError
from headstart.features.images.reader import Decoding
from headstart.features.manifest.parts import Row
from headstart.features.store import shards
from headstart.features.store.shards import round_features
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import FailedItem, Result
from headstart.pipeline.versions import versions_of

from . import memory_budget
from .batching import Batching

_JOBS_IN_MEMORY = 2  # one is encoded, the next is decoded
_BYTES_A_VALUE = 16  # float32 twice, float16 twice, and the shard twice, as it is packed


class RowEncoder:
    """The encoder in a folder, opened when it is first needed, and the threads that decode for it.

    Attributes:
        spec: of the encoder.
    """

    def __init__(self, folder: Path, settings: Settings, job_size: int, held_bytes: int = 0) -> None:
        """Args: held_bytes: that decoding holds besides the pixels of the rows of two jobs."""
        self.spec = read_encoder(folder)
        self._folder, self._settings, self._job_size, self._held_bytes = folder, settings, job_size, held_bytes
        self._projection = projection_of(folder, self.spec)
        self._decoders = ThreadPoolExecutor(cores(), "decode")
        self._batching: Batching | None = None
        self._budget_facts: dict[str, int] = {}

    def decoding(
        self,
        rows: Sequence[Row],
        read: Callable[[Row], NDArray[np.uint8]],
        killers: Mapping[int, str],
        order: Sequence[int] | None = None,
    ) -> Decoding:
        """Begins to read and decode. Args: killers: by the row's index, why it is not to be touched; order: see `Decoding`."""
        if self.spec.transform.device_decode:
            self._opened()  # its memory is planned while nothing else takes any there
        errors = {index: ImageError("killed", reason) for index, reason in killers.items()}

        def checked(row: Row) -> NDArray[np.uint8]:
            if row.retired:
                raise ImageError("retired", "it left the data before its turn came")
            if row.index in errors:
                raise errors[row.index]
            return read(row)

        return Decoding(rows, self.spec.transform.image_size, checked, self._decoders, order)

    def result(
        self, prepared: Decoding, check: Callable[[], None], facts: Callable[[], Mapping[str, Any]] = dict[str, Any]
    ) -> Result:
        """Encodes batch after batch, the first ones while others are still being decoded, and makes the shard.

        Args: check: called between batches. facts: what else the marker is to note, asked when all is encoded.
        """
        batching = self._opened()
        values, decoded = batching.encode(prepared.images, prepared.good(), check)
        half, kept, lost = round_features(values, decoded)
        errors = {**prepared.errors, **lost}
        status = np.zeros(len(prepared.rows), np.uint8)
        for i, error in errors.items():
            status[i] = STATUS[error.code]
        arrays: dict[str, NDArray[Any]] = {
            "global_pool": np.ascontiguousarray(half[:, : self.spec.embed_dim]),
            "index": np.array([prepared.rows[i].index for i in kept], np.int64),
            "status": status,
        }
        if self.spec.spatial is not None:
            maps = np.ascontiguousarray(half[:, self.spec.embed_dim :]).reshape(-1, *self.spec.spatial.shape)
            arrays["spatial"] = maps if self._projection is None else self._projection.compressed(maps)
        failed = tuple(
            FailedItem(prepared.rows[i].index, prepared.rows[i].image.path, error.code, error.reason)
            for i, error in sorted(errors.items())
            if error.code != "retired"
        )
        decoders = ("numpy", "pillow", *(["torchcodec"] if self.spec.transform.device_decode else []))
        retired = [prepared.rows[i].index for i, error in sorted(errors.items()) if error.code == "retired"]
        noted = {
            **({"retired": retired} if retired else {}),
            **facts(),
            "device": batching.encoder.device,
            "batch_size": batching.batch,
            "threads": batching.threads,
            **self._budget_facts,
            **memory_budget.gpu_facts(batching.encoder),
            "versions": {**versions_of(*decoders), **batching.encoder.versions},
        }
        items = len(prepared.rows) - len(retired)
        return Result(shards.pack(arrays), shards.SUFFIX, summary(arrays), items, len(kept), failed, noted)

    def close(self) -> None:
        self._decoders.shutdown(cancel_futures=True)
        if self._batching is not None:
            self._batching.close()
            self._batching = None

    def _opened(self) -> Batching:
        if self._batching is None:
            from headstart.features.encoders.runtime import device_of_encoder, open_encoder

            encoder = open_encoder(self._folder, device_of_encoder(self._folder, self._settings.device))
            height, width = self.spec.transform.image_size
            held = self._job_size * (_JOBS_IN_MEMORY * height * width * 3 + _BYTES_A_VALUE * self.spec.row_length)
            self._batching, self._budget_facts = memory_budget.plan_batching(
                encoder,
                self._settings.batch_size,
                self._settings.ram_bytes,
                self._settings.vram_bytes,
                held + self._held_bytes,
            )
        return self._batching
