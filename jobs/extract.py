"""Kind `extract`: 64 images of a manifest become one shard of float16 features."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import Result
from headstart.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from headstart.experiments.evaluation.anytime.score import AnytimeScore
    from headstart.features.images.reader import Decoding
    from headstart.features.manifest.parts import Row

PAYLOADS_IN_OBJECTS = True  # shards are large, and read again by few

_MOST_FOR_A_SCORE = 200 * 10**6  # bytes


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
        from headstart.features.extraction.row_encoder import RowEncoder  # here: `status` asks this kind for numbers alone
        from headstart.features.images.reader import open_reader
        from headstart.features.manifest.reading import open_manifest

        part = workspace.root / job.source
        self._part = part.name
        self._manifest = open_manifest(part.parent)
        self._encoder = RowEncoder(workspace.folder(job), settings, job.stop - job.start)
        self._digests: dict[int, str] = {}
        self._read = open_reader(self._manifest.dataset, self._encoder.spec.transform, settings.device, self._note)

    def prepare(self, job: Job) -> Decoding:
        """Begins to read and decode the job's images; a broken one costs its own row."""
        return self.prepare_without(job, {})

    def prepare_without(self, job: Job, killers: Mapping[int, str]) -> Decoding:
        """`prepare`, but these rows of the part are not decoded: each failed for that reason."""
        from headstart.features.images.reader import storage_order

        rows = self._manifest.rows(self._part, job.start, job.stop)
        untouched = {rows[item - job.start].index: reason for item, reason in killers.items()}
        return self._encoder.decoding(rows, self._read, untouched, storage_order(self._manifest.dataset, rows))

    def examine(self, job: Job, item: int) -> None:
        """Decodes one image: where crashes, hangs and memory come from."""
        from headstart.features.images.decode import ImageError

        [row] = self._manifest.rows(self._part, item, item + 1)
        if not row.retired:
            with contextlib.suppress(ImageError):
                self._read(row)

    def compute(self, prepared: Decoding, check: Callable[[], None]) -> Result:
        """Encodes batch after batch, the first ones while others are still being decoded, and makes the shard."""

        def digests() -> Mapping[str, Any]:
            noted = {str(row.index): digest for row in prepared.rows if (digest := self._digests.pop(row.index, ""))}
            return {"digests": noted} if noted else {}

        return self._encoder.result(prepared, check, digests)

    def _note(self, row: Row, digest: str) -> None:
        self._digests[row.index] = digest

    def close(self) -> None:
        self._encoder.close()
