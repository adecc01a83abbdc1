"""What a few images tell of many: which to take, and what time and memory all will need, by the markers of a short run."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from headstart.features.encoders.similarity import cosines
from headstart.features.sources.source import Source
from headstart.features.store.load import load_features
from headstart.pipeline import paths
from headstart.pipeline.markers import read_marker, recorded_jobs
from headstart.pipeline.workspace import Workspace

from .forecast import Forecast

JOBS = 4  # the first pays for opening the encoder; the others show the pace
_RSS_MARGIN, _RSS_GROWTH = 1.08, 18 * 10**6  # what a long run's allocators gather beyond a short one's: 1 to 19 MB where measured


@dataclass(frozen=True)
class Pace:
    """How a short run went.

    Attributes:
        begin_s: from process start until the first job was done.
        image_s: seconds an image from then on; 0 if that was too short for the clock of the disk.
        rss_bytes: peak of the process.
        vram_bytes: its figure on the GPU at the end; None on a CPU, or where the driver does not tell.
        batch: images a call.
        failed: part of the images that gave no features.
    """

    begin_s: float
    image_s: float
    rss_bytes: int
    vram_bytes: int | None
    batch: int
    failed: float

    def forecast(self, job_size: int) -> Forecast:
        """For a long run; its memory is meant to be no less than it will be."""
        rss = max(round(_RSS_MARGIN * self.rss_bytes), self.rss_bytes + _RSS_GROWTH)
        return Forecast(self.begin_s, self.image_s, job_size, rss, self.vram_bytes)


def take_probe(source: Source, count: int, rows: int) -> Source:
    """`source` with `rows` images: `count` of its own, from its whole length, as often as it takes."""
    places = np.linspace(0, len(source.images) - 1, min(count, len(source.images))).round().astype(int)
    chosen = [source.images[i] for i in places]
    return replace(source, images=tuple(chosen[i % len(chosen)] for i in range(rows)), lots=(), notes=())


def read_pace(workspace: Workspace, folder: Path, fingerprint: str, began: float) -> Pace:
    """From the JOBS markers of that fingerprint in `folder`; `began` is when the process was started (Unix time)."""
    markers = [read_marker(workspace, job, fingerprint) for job in recorded_jobs(workspace, within=folder)]
    times = sorted(paths.stat(path).st_mtime for path in paths.matching(folder, "done/*/*.done"))
    items = sum(marker.items for marker in markers)
    later = items * (len(markers) - 1) / len(markers)
    vram = [marker.facts["vram_process_bytes"] for marker in markers if marker.facts.get("vram_process_bytes")]
    return Pace(
        begin_s=times[0] - began,
        image_s=(times[-1] - times[0]) / later,
        rss_bytes=max(int(marker.facts["peak_rss_bytes"]) for marker in markers),
        vram_bytes=max(vram) if vram else None,
        batch=min(int(marker.facts["batch_size"]) for marker in markers),
        failed=1 - sum(marker.ok for marker in markers) / items,
    )


def cosines_between(folder: Path, exact: Path) -> tuple[float, float] | None:
    """Mean and worst cosine between the vectors of the same rows in two encoder folders; None if they share no row."""
    left, right = load_features(folder), load_features(exact)
    _, i, j = np.intersect1d(left.index, right.index, return_indices=True)
    if not len(i):
        return None
    alike = cosines(left.features[i], right.features[j])
    return float(alike.mean()), float(alike.min())
