"""Kind `patches`: 16 patches of the images of a data set become one shard of float16 features, with their maps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import Result
from headstart.pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.features.images.reader import Decoding
    from headstart.features.manifest.parts import Row

PAYLOADS_IN_OBJECTS = True  # shards are large, and read again by few


def fingerprint(workspace: Workspace, folder: str) -> str:
    """Of the encoder, and of the patches that it sees."""
    from headstart.features.manifest.patch_versions import version_of_folder

    return version_of_folder(workspace, folder).fingerprint


def count_items(workspace: Workspace, source: str) -> int | None:
    """Patches of a version."""
    from headstart.features.manifest.patch_versions import version_of_source
    from headstart.pipeline.errors import HeadstartError

    try:
        return version_of_source(workspace, source).patches
    except HeadstartError:
        return None  # whoever works on it says why


def open_session(workspace: Workspace, job: Job, settings: Settings) -> PatchesSession:
    """Opens manifest and decoders; the network waits for the first `compute`."""
    return PatchesSession(workspace, job, settings)


class PatchesSession:
    """One version of patches, which one encoder sees."""

    def __init__(self, workspace: Workspace, job: Job, settings: Settings) -> None:
        from headstart.features.encoders.folder import require_fingerprint
        from headstart.features.encoders.spec import require_squares
        from headstart.features.extraction.row_encoder import RowEncoder
        from headstart.features.images.windows import WindowReader, kept_bytes
        from headstart.features.manifest.patch_versions import version_of_source
        from headstart.features.manifest.patches import read_patches
        from headstart.features.manifest.reading import open_manifest

        version = version_of_source(workspace, job.source)
        encoder = workspace.features / version.setting.encoder
        require_fingerprint(encoder, version.setting.fingerprint)
        self._patches = read_patches(workspace, version)
        self._manifest = open_manifest(workspace.manifests / version.setting.dataset)
        self._columns = self._manifest.read_all()
        self._pixels = WindowReader(self._manifest.dataset, version.setting.size)
        self._encoder = RowEncoder(encoder, settings, job.stop - job.start, kept_bytes(self._patches))
        require_squares(self._encoder.spec, version.setting.size, f"patches {version.name}")

    def prepare(self, job: Job) -> Decoding:
        """Begins to read and decode the images of the job's patches; a broken one costs its own patches."""
        return self.prepare_without(job, {})

    def prepare_without(self, job: Job, killers: Mapping[int, str]) -> Decoding:
        """`prepare`, but these patches are not decoded: each failed for that reason."""
        return self._encoder.decoding([self._row(patch) for patch in range(job.start, job.stop)], self._read, killers)

    def examine(self, job: Job, item: int) -> None:
        """Decodes the image of one patch: where crashes, hangs and memory come from."""
        from headstart.features.images.decode import ImageError

        row = self._row(item)
        if not row.retired:
            with contextlib.suppress(ImageError):
                self._read(row)

    def compute(self, prepared: Decoding, check: Callable[[], None]) -> Result:
        """Encodes batch after batch, the first ones while others are still being decoded, and makes the shard."""
        return self._encoder.result(prepared, check)

    def close(self) -> None:
        self._encoder.close()

    def _row(self, patch: int) -> Row:
        """The patch as a row of its own, numbered as a patch and named after image and window."""
        from headstart.features.manifest.parts import Row

        parent = self._columns.row(int(self._patches.parent[patch]))
        if self._patches.is_unread[patch]:
            return Row(parent.image, patch, parent.retired)
        window = self._patches.window(patch)
        image = parent.image._replace(path=f"{parent.image.path}#{','.join(map(str, window))}")
        return Row(image, patch, parent.retired)

    def _read(self, row: Row) -> NDArray[np.uint8]:
        from PIL import Image

        from headstart.features.images.decode import ImageError
        from headstart.features.images.transform import fit
        from headstart.features.images.windows import size_of_image

        patch = row.index
        if self._patches.is_unread[patch]:
            dataset = self._manifest.dataset
            size_of_image(Path(dataset.root), row.image.path, dataset.allow_symlinks)
            raise ImageError("changed", "it could not be read when it was to be cut into patches, now it can; enqueue it again")
        parent = self._columns.row(int(self._patches.parent[patch]))
        height, width = map(int, self._patches.sizes[patch])
        pixels = self._pixels(parent, self._patches.window(patch), (height, width))
        return fit(Image.fromarray(pixels), self._encoder.spec.transform)
