"""What extraction would take on this machine: a short run of `headstart work` on some of the images, in a temporary workspace."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from headstart.features.devices import has_accelerator
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import EncoderSpec
from headstart.features.manifest.adding import add_images
from headstart.features.manifest.patch_versions import PATCHES_PLACE
from headstart.features.manifest.patches import PATCHES_A_JOB
from headstart.features.networks.embedded_encoder import EmbeddedWeights
from headstart.features.networks.weights import Weights
from headstart.features.sources.find import find_images
from headstart.features.sources.source import Source, SourceOptions
from headstart.pipeline.doors import python
from headstart.pipeline.enqueue import queue_lock
from headstart.pipeline.errors import ExplainedError, HeadstartError
from headstart.pipeline.files import temporary_folder
from headstart.pipeline.workspace import Workspace, find_root, has_workspace, named_root, open_or_create_workspace

from .compressed import chosen_compression
from .disk import lack_of_room, predict_disk
from .enqueue import default_job_size, queue_extraction
from .forecast import Forecast, keep_forecast
from .patches import PatchRequest, count_patches, encoder_for, queue_trial
from .probe import JOBS, cosines_between, read_pace, take_probe

_OPTIONAL = ("patches", "mean_cosine", "worst_cosine")


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
        disk_fault: why the disk of the workspace cannot hold them, and what to do; '' if it can.
        patches: that the images are cut into; None for whole images. Batch, speed and `failed` are of patches then.
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
    disk_fault: str = ""
    patches: int | None = None
    mean_cosine: float | None = None
    worst_cosine: float | None = None

    def record(self) -> dict[str, Any]:
        """For JSON; without patches of whole images, and cosines where nothing was compared."""
        return {name: value for name, value in asdict(self).items() if value is not None or name not in _OPTIONAL}


@dataclass(frozen=True)
class ExtractionPlan:
    """What `plan` says.

    Attributes:
        estimates: one an encoder, in the order asked for; with fast decoding, that follows as another.
        forecasts: by fingerprint of the encoder, what `work` can compare itself with; not of encoders that gave no features,
            nor of patches: what `work` would compare is the version, which is not there yet.
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
    image_size: int | tuple[int, int] | None = None,
    spatial: int | None = None,
    maps: tuple[int, ...] = (),
    patches: PatchRequest | None = None,
    fast_decode: bool = False,
    compress: str = "",
    device: str = "auto",
    vram_bytes: int | None = None,
    probe: int = 32,
    job_size: int | None = None,
    options: SourceOptions | None = None,
) -> ExtractionPlan:
    """Time, memory and disk that the images in `data` will take, for each encoder.

    It enqueues `probe` of them, as often as four jobs take, in a temporary workspace, and runs `headstart work` there. Only the
    figures are kept, in `workspace`: it is made if the user named it; where none is named and none is there, nothing is kept.

    Args:
        data: a folder, a table or an HDF5 file; or what `find_images` made of one.
        encoders: names of timm's; None is the one that `enqueue_images` would take.
        workspace: a folder; None is the one that every command would take, see `find_root`.
        weights, image_size, spatial, maps, compress: see `EncoderRequest`. What compresses is fitted as `enqueue_images` would.
        patches: of the images, instead of whole ones, as in `enqueue_images`.
        fast_decode: also tries each encoder with fast decoding, and compares the features.
        device: auto, cpu, cuda, xpu or mps.
        vram_bytes: GPU memory that the process may take; None is what `work` takes.
        probe: images to try.
        job_size: images a job, or patches; None is what `enqueue_images` takes.
        options: how `data` is to be read; a Source has been read and takes none.

    Raises: HeadstartError if data, encoder or weights are not what they should be, or the trial run fails.
    """
    source = data if isinstance(data, Source) else find_images(Path(data), options or SourceOptions())
    asked = EncoderRequest(None, weights, image_size, fast_decode=fast_decode, spatial=spatial, maps=maps, compress=compress)
    asked = asked if patches is None else encoder_for(asked, patches)
    count = len(source.images) if patches is None else count_patches(source, patches)
    root = find_root(workspace)
    words = ["--device", device, *(["--vram-budget", f"{vram_bytes / 1000}KB"] if vram_bytes else [])]
    estimates: list[Estimate] = []
    forecasts: dict[str, Forecast] = {}
    for model in encoders:
        with temporary_folder("plan") as place:
            trial = open_or_create_workspace(place / "workspace")
            exact: Path | None = None
            for is_fast in (False, True) if fast_decode else (False,):
                request = replace(asked, model=model, fast_decode=is_fast)
                encoder = resolve_encoder(request)
                if compress:
                    encoder = _compressed(trial, source, encoder, request, patches), encoder[1]
                spec = encoder[0]
                size = job_size or (PATCHES_A_JOB if patches is not None else default_job_size([spec]))
                folder, results, fingerprint = _queued_trial(trial, source, encoder, patches, size, probe)
                if device == "cpu" or not has_accelerator():
                    export_graph(folder)
                began = time.time()
                _run_worker(trial, words)
                pace = read_pace(trial, results, fingerprint, began)
                forecast = pace.forecast(size)
                if pace.failed < 1 and patches is None:  # else it tells nothing of images that do have features
                    forecasts[spec.fingerprint] = forecast
                mean, worst = (exact and cosines_between(folder, exact)) or (None, None)
                exact = exact or folder
                estimates.append(
                    Estimate(
                        encoder=spec.model,
                        fast_decode=is_fast,
                        images=len(source.images),
                        seconds=forecast.seconds(count),
                        images_per_second=1 / pace.image_s if pace.image_s > 0 else None,
                        peak_rss_bytes=forecast.peak_rss_bytes,
                        peak_vram_bytes=forecast.peak_vram_bytes,
                        batch_size=pace.batch,
                        disk_bytes=predict_disk(spec, count, size),
                        failed=pace.failed,
                        disk_fault=_disk_fault(root, spec, count, size, patches is not None),
                        patches=None if patches is None else count,
                        mean_cosine=mean,
                        worst_cosine=worst,
                    )
                )
    return ExtractionPlan(tuple(estimates), forecasts, *_keep(workspace, forecasts))


def _compressed(
    trial: Workspace,
    source: Source,
    encoder: tuple[EncoderSpec, Weights | EmbeddedWeights],
    request: EncoderRequest,
    patches: PatchRequest | None,
) -> EncoderSpec:
    """The encoder with smaller maps, fitted to the sample that `enqueue` would look at: the same to the bit."""
    size = None if patches is None else patches.size
    return chosen_compression(trial, source, *encoder, request, 0, lambda line: None, size)


def _disk_fault(root: Path, spec: EncoderSpec, count: int, job_size: int, is_of_patches: bool) -> str:
    # A version of patches is a folder of its own: what the encoder's holds already is of whole images.
    place, what = (PATCHES_PLACE, "patches") if is_of_patches else (f"features/{spec.folder_name}", "images")
    return lack_of_room(root / place, spec, count, job_size, what)


def _queued_trial(
    trial: Workspace,
    source: Source,
    encoder: tuple[EncoderSpec, Weights | EmbeddedWeights],
    patches: PatchRequest | None,
    job_size: int,
    probe: int,
) -> tuple[Path, Path, str]:
    """JOBS jobs, queued: the folder of the encoder, that of the results, and the fingerprint of these."""
    spec, weights = encoder
    if patches is None:
        folder = queue_extraction(trial, take_probe(source, probe, JOBS * job_size), [encoder], job_size, seed=0).folder
        return folder, folder, spec.fingerprint
    images = take_probe(source, probe, min(probe, len(source.images)))
    with queue_lock(trial):
        manifest, folder = add_images(trial, images, 0).manifest, save_encoder(trial, spec, weights)
        version = queue_trial(trial, manifest, spec, patches, job_size, JOBS)
    return folder, version.folder, version.fingerprint


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
