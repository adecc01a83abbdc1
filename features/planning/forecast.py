"""What `plan` predicted, kept beside the features so that `work` can say how it came out."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path

from headstart.pipeline.doors.records import read_record, seal
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace


@dataclass(frozen=True)
class Forecast:
    """For one worker with one encoder on the machine that `plan` ran on.

    Attributes:
        begin_s: from process start until the first job is done.
        image_s: seconds an image from then on.
        job_size: images a job.
        peak_rss_bytes: of the process.
        peak_vram_bytes: of the process on the GPU; None on a CPU.
    """

    begin_s: float
    image_s: float
    job_size: int
    peak_rss_bytes: int
    peak_vram_bytes: int | None

    def seconds(self, images: int) -> float:
        """Predicted from process start for so many images."""
        return self.begin_s + self.image_s * max(0, images - self.job_size)


def keep_forecast(workspace: Workspace, fingerprint: str, forecast: Forecast) -> Path:
    """Replaces what was predicted before. Raises: TryLaterError if the disk is full or gone."""
    path = _path(workspace, fingerprint)
    workspace.make_folder(path.parent)
    workspace.files.replace(path, seal(asdict(forecast)))
    return path


def read_forecast(workspace: Workspace, fingerprint: str) -> Forecast | None:
    """None if there is none that can be read: nothing depends on it."""
    with contextlib.suppress(OSError, HeadstartError):
        record = read_record(_path(workspace, fingerprint), None)
        return Forecast(
            begin_s=record.number("begin_s"),
            image_s=record.number("image_s"),
            job_size=record.integer("job_size"),
            peak_rss_bytes=record.integer("peak_rss_bytes"),
            peak_vram_bytes=record.integer("peak_vram_bytes") if record.get("peak_vram_bytes") is not None else None,
        )
    return None


def _path(workspace: Workspace, fingerprint: str) -> Path:
    return workspace.features / "plans" / f"{fingerprint[:16]}.json"
