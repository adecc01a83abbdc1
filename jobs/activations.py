"""Kind `activations`: 64 images of a manifest become what the front of an encoder makes of them, and of their mirror images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import FailedItem, Result
from headstart.pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.features.images.reader import Decoding

_BATCH = 16


def fingerprint(workspace: Workspace, folder: str) -> str:
    """Of encoder, cut and copies."""
    from headstart.features.store.activations import read_spec

    return read_spec(workspace.root / folder).digest


def count_items(workspace: Workspace, source: str) -> int | None:
    """Rows of a part of a manifest, by its name alone."""
    from headstart.features.manifest.names import rows_of_part

    return rows_of_part(source.rpartition("/")[2])


def open_session(workspace: Workspace, job: Job, settings: Settings) -> ActivationsSession:
    """Opens manifest and decoders; the network waits for the first `compute`."""
    return ActivationsSession(workspace, job, settings)


class ActivationsSession:
    """One cut of one encoder over one part of a manifest."""

    def __init__(self, workspace: Workspace, job: Job, settings: Settings) -> None:
        from concurrent.futures import ThreadPoolExecutor  # as in `extract`

        from headstart.features.accelerators import device_kind
        from headstart.features.devices import choose_device, cores
        from headstart.features.encoders.spec import read_encoder
        from headstart.features.images.reader import open_reader
        from headstart.features.manifest.reading import open_manifest
        from headstart.features.store.activations import read_spec

        part = workspace.root / job.source
        self._part, self._manifest = part.name, open_manifest(part.parent)
        self._spec = read_spec(workspace.folder(job))
        self._encoder_folder = workspace.root / self._spec.encoder
        self._encoder = read_encoder(self._encoder_folder)
        self._read = open_reader(self._manifest.dataset, self._encoder.transform, settings.device)
        self._decoders = ThreadPoolExecutor(cores(), "decode")
        self._device = choose_device(settings.device)
        self._layout = device_kind(self._device).layout
        self._network: Any = None

    def prepare(self, job: Job) -> Decoding:
        """Begins to read and decode the job's images; a broken one costs its own row."""
        from headstart.features.images.reader import Decoding

        rows = self._manifest.rows(self._part, job.start, job.stop)
        return Decoding(rows, self._encoder.transform.image_size, self._read, self._decoders)

    def compute(self, prepared: Decoding, check: Callable[[], None]) -> Result:
        """Batch after batch through the front, as float16."""
        import numpy as np
        import torch

        from headstart.features.arrays import summary
        from headstart.features.encoders.saved import read_network
        from headstart.features.images.decode import STATUS
        from headstart.features.networks.stages import run_chain
        from headstart.features.store import shards
        from headstart.pipeline.versions import versions_of

        if self._network is None:
            network: Any = read_network(self._encoder_folder, self._encoder)
            # About 1.7 times as fast on a CPU.
            self._network = network.to(self._device, memory_format=self._layout())
        good = list(prepared.good())
        mean, std = (
            torch.tensor(v, device=self._device).view(1, 3, 1, 1)
            for v in (self._encoder.transform.mean, self._encoder.transform.std)
        )
        made = []
        with torch.inference_mode():
            for start in range(0, len(good), _BATCH):
                check()
                pixels = torch.from_numpy(prepared.images[good[start : start + _BATCH]]).to(self._device)
                colours = pixels.permute(0, 3, 1, 2).float().contiguous(memory_format=self._layout())
                inputs = colours.div(255).sub(mean).div(std)
                copies = [inputs, inputs.flip(3)][: self._spec.copies]
                maps = torch.stack([run_chain(self._network, self._spec.front, copy) for copy in copies], 1)
                made.append(maps.half().cpu().numpy())
        values = np.concatenate(made) if made else np.empty((0, self._spec.copies, 0, 0, 0), np.float16)
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(values).reshape(len(values), -1).all(axis=1))
        errors = {i: (error.code, error.reason) for i, error in prepared.errors.items()}
        errors |= {
            i: ("non_finite", "NaN or a value beyond float16 (65,504)") for i, fine in zip(good, finite, strict=True) if not fine
        }
        status = np.zeros(len(prepared.rows), np.uint8)
        for i, (code, _) in errors.items():
            status[i] = STATUS[code]
        kept = [i for i, fine in zip(good, finite, strict=True) if fine]
        arrays = {
            "activations": np.ascontiguousarray(values[finite]),
            "index": np.array([prepared.rows[i].index for i in kept], np.int64),
            "status": status,
        }
        failed = tuple(
            FailedItem(prepared.rows[i].index, prepared.rows[i].image.path, code, reason)
            for i, (code, reason) in sorted(errors.items())
        )
        facts = {"device": self._device, "versions": versions_of("torch", "timm", "numpy")}
        return Result(shards.pack(arrays), shards.SUFFIX, summary(arrays), len(prepared.rows), len(kept), failed, facts)

    def close(self) -> None:
        self._decoders.shutdown(cancel_futures=True)
        self._network = None
