"""Kind `extract`: 64 images of a manifest become one shard of float16 features."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import FailedItem, Result
from headstart.pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.experiments.evaluation.anytime.score import AnytimeScore
    from headstart.features.extraction.batching import Batching
    from headstart.features.images.reader import Decoding
    from headstart.features.manifest.parts import Row

PAYLOADS_IN_OBJECTS = True  # shards are large, and read again by few

_JOBS_IN_MEMORY = 2  # one is encoded, the next is decoded
_MOST_FOR_A_SCORE = 200 * 10**6  # bytes
_BYTES_A_VALUE = 16  # float32 twice, float16 twice, and the shard twice, as it is packed


def fingerprint(workspace: Workspace, folder: str) -> str:
    """Of the encoder: weights, transform, pooling; equal fingerprints mean comparable features."""
    from headstart.features.encoders.folder import read_fingerprint

    return read_fingerprint(workspace.root / folder)


def count_items(workspace: Workspace, source: str) -> int | None:
    """Rows of a part of a manifest, by its name alone."""
    from headstart.features.manifest.names import rows_of_part

    return rows_of_part(source.rpartition("/")[2])


def open_session(workspace: Workspace, job: Job, settings: Settings) -> ExtractSession:
    """Opens manifest and decoders; the network itself waits for the first `compute`, while the first images decode."""
    return ExtractSession(workspace, job, settings)


def open_observer(workspace: Workspace, job: Job, settings: Settings) -> AnytimeScore | None:
    """What ridge would score so far; None where the memory for it is not there."""
    from headstart.experiments.evaluation.anytime.score import AnytimeScore, score_bytes
    from headstart.features.encoders.spec import read_encoder

    folder = workspace.folder(job)
    needed = score_bytes(read_encoder(folder).embed_dim)
    if needed > _MOST_FOR_A_SCORE or (settings.ram_bytes is not None and needed > settings.ram_bytes / 20):
        return None
    return AnytimeScore(workspace, folder, (workspace.root / job.source).parent)


class ExtractSession:
    """One encoder over one part of a manifest."""

    def __init__(self, workspace: Workspace, job: Job, settings: Settings) -> None:
        from concurrent.futures import ThreadPoolExecutor  # here: `status` asks this kind for numbers alone

        from headstart.features.devices import cores
        from headstart.features.encoders.spec import projection_of, read_encoder
        from headstart.features.images.reader import open_reader
        from headstart.features.manifest.reading import open_manifest

        part = workspace.root / job.source
        self._folder = workspace.folder(job)
        self._part = part.name
        self._settings = settings
        self._spec = read_encoder(self._folder)
        self._projection = projection_of(self._folder, self._spec)
        self._manifest = open_manifest(part.parent)
        self._digests: dict[int, str] = {}
        self._read = open_reader(self._manifest.dataset, self._spec.transform, settings.device, self._note)
        self._decoders = ThreadPoolExecutor(cores(), "decode")
        self._batching: Batching | None = None
        self._budget_facts: dict[str, int] = {}
        self._job_size = job.stop - job.start

    def prepare(self, job: Job) -> Decoding:
        """Begins to read and decode the job's images; a broken one costs its own row."""
        return self.prepare_without(job, {})

    def prepare_without(self, job: Job, killers: Mapping[int, str]) -> Decoding:
        """`prepare`, but these rows of the part are not decoded: each failed for that reason."""
        from headstart.features.images.decode import ImageError
        from headstart.features.images.reader import Decoding, storage_order

        if self._spec.transform.device_decode:
            self._opened()  # its memory is planned while nothing else takes any there
        rows = self._manifest.rows(self._part, job.start, job.stop)
        errors = {rows[item - job.start].index: ImageError("killed", reason) for item, reason in killers.items()}

        def read(row: Row) -> NDArray[np.uint8]:
            if row.retired:
                raise ImageError("retired", "it left the data before its turn came")
            if row.index in errors:
                raise errors[row.index]
            return self._read(row)

        order = storage_order(self._manifest.dataset, rows)
        return Decoding(rows, self._spec.transform.image_size, read, self._decoders, order)

    def examine(self, job: Job, item: int) -> None:
        """Decodes one image: where crashes, hangs and memory come from."""
        from headstart.features.images.decode import ImageError

        [row] = self._manifest.rows(self._part, item, item + 1)
        if not row.retired:
            with contextlib.suppress(ImageError):
                self._read(row)

    def compute(self, prepared: Decoding, check: Callable[[], None]) -> Result:
        """Encodes batch after batch, the first ones while others are still being decoded, and makes the shard."""
        import numpy as np

        from headstart.features.arrays import summary
        from headstart.features.extraction.memory_budget import gpu_facts
        from headstart.features.images.decode import STATUS
        from headstart.features.store import shards
        from headstart.features.store.shards import round_features
        from headstart.pipeline.versions import versions_of

        batching = self._opened()
        values, decoded = batching.encode(prepared.images, prepared.good(), check)
        half, kept, lost = round_features(values, decoded)
        errors = {**prepared.errors, **lost}
        status = np.zeros(len(prepared.rows), np.uint8)
        for i, error in errors.items():
            status[i] = STATUS[error.code]
        arrays: dict[str, NDArray[Any]] = {
            "global_pool": np.ascontiguousarray(half[:, : self._spec.embed_dim]),
            "index": np.array([prepared.rows[i].index for i in kept], np.int64),
            "status": status,
        }
        if self._spec.spatial is not None:
            maps = np.ascontiguousarray(half[:, self._spec.embed_dim :]).reshape(-1, *self._spec.spatial.shape)
            arrays["spatial"] = maps if self._projection is None else self._projection.compressed(maps)
        failed = tuple(
            FailedItem(prepared.rows[i].index, prepared.rows[i].image.path, error.code, error.reason)
            for i, error in sorted(errors.items())
            if error.code != "retired"
        )
        decoders = ("numpy", "pillow", *(["torchcodec"] if self._spec.transform.device_decode else []))
        retired = [prepared.rows[i].index for i, error in sorted(errors.items()) if error.code == "retired"]
        digests = {str(row.index): digest for row in prepared.rows if (digest := self._digests.pop(row.index, ""))}
        facts = {
            **({"retired": retired} if retired else {}),
            **({"digests": digests} if digests else {}),
            "device": batching.encoder.device,
            "batch_size": batching.batch,
            "threads": batching.threads,
            **self._budget_facts,
            **gpu_facts(batching.encoder),
            "versions": {**versions_of(*decoders), **batching.encoder.versions},
        }
        items = len(prepared.rows) - len(retired)
        return Result(shards.pack(arrays), shards.SUFFIX, summary(arrays), items, len(kept), failed, facts)

    def _note(self, row: Row, digest: str) -> None:
        self._digests[row.index] = digest

    def close(self) -> None:
        self._decoders.shutdown(cancel_futures=True)
        if self._batching is not None:
            self._batching.close()
            self._batching = None

    def _opened(self) -> Batching:
        if self._batching is None:
            from headstart.features.encoders.runtime import device_of_encoder, open_encoder
            from headstart.features.extraction.memory_budget import plan_batching

            encoder = open_encoder(self._folder, device_of_encoder(self._folder, self._settings.device))
            height, width = self._spec.transform.image_size
            held = self._job_size * (_JOBS_IN_MEMORY * height * width * 3 + _BYTES_A_VALUE * self._spec.row_length)
            self._batching, self._budget_facts = plan_batching(
                encoder, self._settings.batch_size, self._settings.ram_bytes, self._settings.vram_bytes, held
            )
        return self._batching
