"""Splits a data set into jobs: freezes its images in the manifest, saves the encoder and fills the queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headstart.features.devices import has_nvidia_device
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.resolve import resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import EncoderSpec
from headstart.features.manifest.adding import Added, add_images
from headstart.features.networks.weights import Weights
from headstart.features.sources.find import describe, find_images
from headstart.features.sources.source import Source, SourceOptions
from headstart.pipeline.enqueue import Work, append_work, queue_lock, restorable_jobs
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import known_kinds
from headstart.pipeline.text import size_words
from headstart.pipeline.workspace import Workspace, find_root, open_or_create_workspace

from .disk import require_room

KIND = "extract"  # the module in `jobs/` that does what is queued here
JOB_SIZE = 64


@dataclass(frozen=True)
class Queued:
    """A data set in the queue, to be encoded by one encoder.

    Attributes:
        folder: the encoder's; features will lie there.
        added: what the manifest got.
        restored, fresh: jobs whose rows the queue had lost, and new ones.
    """

    folder: Path
    added: Added
    restored: tuple[Job, ...]
    fresh: tuple[Job, ...]


@dataclass(frozen=True)
class Enqueued(Queued):
    """What `enqueue_images` did.

    Attributes:
        workspace: where.
        encoder: what will encode the images.
        disk_bytes: that features of all images of the data set will take, at most.
        graph_refused: why the encoder has no ONNX graph and will run in torch, on one line; '' if it has one, or if a GPU is
            there, which needs none.
    """

    workspace: Workspace
    encoder: EncoderSpec
    disk_bytes: int
    graph_refused: str


def enqueue_images(
    data: Source | Path | str,
    workspace: Workspace | Path | str | None = None,
    *,
    encoder: str | None = None,
    weights: str = "hub",
    image_size: int | None = None,
    fast_decode: bool = False,
    spatial: int | None = None,
    device_decode: bool = False,
    job_size: int = JOB_SIZE,
    seed: int = 0,
    options: SourceOptions | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Enqueued:
    """Splits the images in `data` into jobs, which `headstart work` does. Doing it again adds only what is new.

    Args:
        data: a folder, a table or an HDF5 file; or what `find_images` made of one.
        workspace: a folder, made if absent; None is the one that every command would take, see `find_root`.
        encoder, weights, image_size, fast_decode, spatial, device_decode: see `resolve_encoder`.
        job_size: images a job.
        seed: of splits and shuffling; the first one of a data set stays.
        options: how `data` is to be read; a Source has been read and takes none.
        report: gets a line as soon as it is known: what was found, the encoder, the disk that features will take.

    Raises: HeadstartError with one line if data, encoder or weights are not what they should be, or the disk is too small;
        TryLaterError if it is full, or another enqueue is at work.
    """
    source = data if isinstance(data, Source) else find_images(Path(data), options or SourceOptions())
    for line in describe(source):
        report(line)
    if not isinstance(workspace, Workspace):
        workspace = open_or_create_workspace(find_root(workspace))
    # Before the lock: what may take long or fail.
    spec, tensors = resolve_encoder(encoder, weights, image_size, fast_decode, spatial, device_decode)
    height, width = spec.transform.image_size
    report(f"encoder {spec.model}, {height}x{width} pixels, {spec.embed_dim} features")
    report(f"weights {spec.weights_source}")
    workspace.make_folder(workspace.features)
    disk_bytes = require_room(workspace.features / spec.folder_name, spec, len(source.images), job_size)
    map_shape = f", map {' x '.join(map(str, spec.spatial.shape))}" if spec.spatial else ""
    report(f"disk about {size_words(disk_bytes)} for features{map_shape}")
    queued = queue_extraction(workspace, source, spec, tensors, job_size, seed)
    # torch is loaded here anyway, and a worker without a GPU never needs it then.
    refused = "" if has_nvidia_device() else export_graph(queued.folder).refused
    return Enqueued(**vars(queued), workspace=workspace, encoder=spec, disk_bytes=disk_bytes, graph_refused=refused)


def queue_extraction(
    workspace: Workspace, source: Source, spec: EncoderSpec, weights: Weights, job_size: int, seed: int
) -> Queued:
    """Freezes the images, saves the encoder, and queues a job for every row that no job covers yet; one caller at a time."""
    with queue_lock(workspace):
        added = add_images(workspace, source, seed)
        folder = save_encoder(workspace, spec, weights)
        encoder, dataset = workspace.relative(folder), workspace.relative(added.manifest.folder)
        works = [Work(KIND, encoder, f"{dataset}/{part.name}", part.rows, job_size) for part in added.manifest.parts]
        restored, fresh = append_work(workspace, works, known_kinds(), lambda reader: restorable_jobs(workspace, reader))
    return Queued(folder, added, tuple(restored), tuple(fresh))
