"""What extraction would take on this machine: a short run of `headstart work` on some of the images, in a temporary workspace."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headstart.features.devices import has_nvidia_device
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.sources.find import find_images
from headstart.features.sources.source import Source, SourceOptions
from headstart.pipeline.doors import python
from headstart.pipeline.errors import ExplainedError, HeadstartError
from headstart.pipeline.files import temporary_folder
from headstart.pipeline.workspace import Workspace, find_root, has_workspace, named_root, open_or_create_workspace

from .disk import predict_disk
from .enqueue import JOB_SIZE, queue_extraction
from .forecast import Forecast, keep_forecast
from .probe import JOBS, cosines_between, read_pace, take_probe

_COSINES = ("mean_cosine", "worst_cosine")


@dataclass(frozen=True)
class Estimate:
    """What all images of a data set would take with one encoder and one worker, on this machine as busy as it is now.

    Attributes:
        encoder: name of its model.
        fast_decode: whether large JPEGs are decoded at a fraction of their size.
        images: how many there are.
        seconds: from process start to the last commit.
        images_per_second: None where the trial was too short to tell.
        peak_rss_bytes, peak_vram_bytes: of the process; None on a CPU.
        batch_size: images a call of the encoder.
        disk_bytes: of shards and markers.
        failed: part of the images tried that gave no features.
        mean_cosine, worst_cosine: between features with fast decoding and without; None where they were not compared.
    """

    encoder: str
    fast_decode: bool
    images: int
    seconds: float
    images_per_second: float | None
    peak_rss_bytes: int
    peak_vram_bytes: int | None
    batch_size: int
    disk_bytes: int
    failed: float
    mean_cosine: float | None = None
    worst_cosine: float | None = None

    def record(self) -> dict[str, Any]:
        """For JSON; without cosines where nothing was compared."""
        return {name: value for name, value in asdict(self).items() if value is not None or name not in _COSINES}


@dataclass(frozen=True)
class ExtractionPlan:
    """What `plan` says.

    Attributes:
        estimates: one an encoder, in the order asked for; with fast decoding, that follows as another.
        forecasts: by fingerprint of the encoder, what `work` can compare itself with; not of encoders that gave no features.
        kept_in: the workspace that has them now; None if there was none, or nothing to keep, or `fault`.
        fault: why the workspace could not take them, on one line; else ''.
    """

    estimates: tuple[Estimate, ...]
    forecasts: Mapping[str, Forecast]
    kept_in: Path | None
    fault: str


def plan(
    data: Source | Path | str,
    encoders: Sequence[str | None] = (None,),
    workspace: Path | str | None = None,
    *,
    weights: str = "hub",
    image_size: int | None = None,
    spatial: int | None = None,
    fast_decode: bool = False,
    device: str = "auto",
    vram_bytes: int | None = None,
    probe: int = 32,
    job_size: int = JOB_SIZE,
    options: SourceOptions | None = None,
) -> ExtractionPlan:
    """Time, memory and disk that the images in `data` will take, for each encoder.

    It enqueues `probe` of them, as often as four jobs take, in a temporary workspace, and runs `headstart work` there. Only the
    figures are kept, in `workspace`: it is made if the user named it; where none is named and none is there, nothing is kept.

    Args:
        data: a folder, a table or an HDF5 file; or what `find_images` made of one.
        encoders: names of timm's; None is the one that `enqueue_images` would take.
        workspace: a folder; None is the one that every command would take, see `find_root`.
        weights, image_size, spatial: see `EncoderRequest`.
        fast_decode: also tries each encoder with fast decoding, and compares the features.
        device: auto, cpu or cuda.
        vram_bytes: GPU memory that the process may take; None is what `work` takes.
        probe: images to try.
        job_size: images a job.
        options: how `data` is to be read; a Source has been read and takes none.

    Raises: HeadstartError if data, encoder or weights are not what they should be, or the trial run fails.
    """
    source = data if isinstance(data, Source) else find_images(Path(data), options or SourceOptions())
    sample = take_probe(source, probe, JOBS * job_size)
    words = ["--device", device, *(["--vram-budget", f"{vram_bytes / 1000}KB"] if vram_bytes else [])]
    estimates: list[Estimate] = []
    forecasts: dict[str, Forecast] = {}
    for model in encoders:
        with temporary_folder("plan") as place:
            trial = open_or_create_workspace(place / "workspace")
            exact: Path | None = None
            for is_fast in (False, True) if fast_decode else (False,):
                spec, tensors = resolve_encoder(EncoderRequest(model, weights, image_size, fast_decode=is_fast, spatial=spatial))
                folder = queue_extraction(trial, sample, [(spec, tensors)], job_size, seed=0).folder
                if device == "cpu" or not has_nvidia_device():
                    export_graph(folder)
                began = time.time()
                _run_worker(trial, words)
                pace = read_pace(trial, folder, began)
                forecast = pace.forecast(job_size)
                if pace.failed < 1:  # else it tells nothing of images that do have features
                    forecasts[spec.fingerprint] = forecast
                mean, worst = (exact and cosines_between(folder, exact)) or (None, None)
                exact = exact or folder
                estimates.append(
                    Estimate(
                        encoder=spec.model,
                        fast_decode=is_fast,
                        images=len(source.images),
                        seconds=forecast.seconds(len(source.images)),
                        images_per_second=1 / pace.image_s if pace.image_s > 0 else None,
                        peak_rss_bytes=forecast.peak_rss_bytes,
                        peak_vram_bytes=forecast.peak_vram_bytes,
                        batch_size=pace.batch,
                        disk_bytes=predict_disk(spec, len(source.images), job_size),
                        failed=pace.failed,
                        mean_cosine=mean,
                        worst_cosine=worst,
                    )
                )
    return ExtractionPlan(tuple(estimates), forecasts, *_keep(workspace, forecasts))


def _keep(given: Path | str | None, forecasts: dict[str, Forecast]) -> tuple[Path | None, str]:
    """Where they are kept now, and what prevented it."""
    root = find_root(given)
    if not forecasts or not (named_root(given) or has_workspace(root)):
        return None, ""
    try:
        workspace = open_or_create_workspace(root)
        for fingerprint, forecast in forecasts.items():
            keep_forecast(workspace, fingerprint, forecast)
    except ExplainedError as error:  # the answer is there; a place that cannot be written to takes nothing from it
        return None, str(error)
    return root, ""


def _run_worker(workspace: Workspace, options: Sequence[str]) -> None:
    """`headstart work` in a process of its own, whose memory is what a worker's will be."""
    work = python.module_command("headstart.cli", "work", "--exit-status", "-w", str(workspace.root), *options)
    # Through a small process: Linux counts what was resident where a process was forked as its own peak, and here that is torch.
    between = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    done = python.run(python.code_command(between, *work), capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        said = next((line for line in lines if line.startswith(("error", "bug", "warning"))), lines[-1])
        raise HeadstartError(f"the trial run ended with exit status {done.returncode}: {said.partition(': ')[2] or said}")
