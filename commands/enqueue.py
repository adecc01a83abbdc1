"""`headstart enqueue`: split images into jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from headstart.commands.output.terminal import plural

from .options import Pool, data_options, weights_option, workspace_option

if TYPE_CHECKING:
    from headstart.features.sources.source import Source


class EncoderChoice(NamedTuple):
    """What the options say of the encoder: the arguments of `features.encoders.resolve.resolve_encoder`."""

    model: str | None
    weights: str
    image_size: int | None
    fast_decode: bool
    spatial: int | None
    device_decode: bool


@click.command("enqueue")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--encoder", metavar="NAME", help="Any timm model. [default: efficientnet_b0]")
@weights_option
@click.option("--job-size", type=click.IntRange(min=1), default=64, show_default=True, help="Images a job.")
@click.option("--image-size", type=click.IntRange(min=1), metavar="N", help="Pixels, instead of what the encoder was made for.")
@click.option(
    "--fast-decode",
    is_flag=True,
    help="Decode large JPEGs at 1/2, 1/4 or 1/8 of their size, never below twice what the encoder needs. Faster, not quite the "
    "same features, so they get a folder of their own.",
)
@click.option(
    "--device-decode",
    is_flag=True,
    help="Decode and scale JPEGs on the GPU, for where the CPU cannot keep up with it; not those beyond 16 megapixels. Not quite "
    "the same features, a folder of their own; `work` and `predict` then need a CUDA GPU and torchcodec.",
)
@click.option(
    "--spatial",
    type=Pool(),
    is_flag=False,
    flag_value=0,
    metavar="[POOL]",
    help="Also keep the feature map before pooling, averaged to POOL x POOL if that is given. Write DATA before it.",
)
@data_options
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of splits and shuffling; the first one of a data set stays."
)
@click.option("--dry-run", is_flag=True, help="Show what would happen, write nothing.")
@workspace_option
def command(
    data: Path,
    encoder: str | None,
    weights: str,
    job_size: int,
    image_size: int | None,
    fast_decode: bool,
    device_decode: bool,
    spatial: int | None,
    seed: int,
    dry_run: bool,
    workspace: str | None,
    **about_data: Any,
) -> None:
    """Split the images in DATA into jobs.

    DATA is a folder of class folders (with or without train/val/test above them), a flat folder, a CSV, TSV or Parquet table
    with one row an image, or an HDF5 file with `images` (n, h, w, 3) uint8. Doing it again adds only what is new.
    """
    from headstart.features.sources.find import describe, find_images
    from headstart.features.sources.source import SourceOptions

    source = find_images(data, SourceOptions(**about_data))
    for line in describe(source):
        click.echo(line)
    if dry_run:
        jobs = -(-len(source.images) // job_size)
        click.echo(f"dry run: at most {plural(jobs, 'job')} of {job_size}; nothing was written")
        return
    choice = EncoderChoice(encoder, weights, image_size, fast_decode, spatial, device_decode)
    _enqueue(source, choice, job_size, seed, workspace)


def _enqueue(source: Source, choice: EncoderChoice, job_size: int, seed: int, directory: str | None) -> None:
    from headstart.features.devices import has_nvidia_device
    from headstart.features.encoders.onnx_export import export_graph
    from headstart.features.encoders.resolve import resolve_encoder
    from headstart.features.encoders.saved import save_encoder
    from headstart.features.manifest.adding import add_images
    from headstart.features.planning.disk import require_room
    from headstart.jobs.extract import work_for
    from headstart.pipeline.enqueue import append_work, queue_lock, restorable_jobs
    from headstart.pipeline.kinds import known_kinds
    from headstart.pipeline.text import size_words
    from headstart.pipeline.workspace import find_root, open_or_create_workspace

    # Before the lock: what may take long or fail.
    workspace = open_or_create_workspace(find_root(directory))
    spec, tensors = resolve_encoder(*choice)
    click.echo(
        f"encoder {spec.model}, {spec.transform.image_size[0]}x{spec.transform.image_size[1]} pixels, {spec.embed_dim} features"
    )
    click.echo(f"weights {spec.weights_source}")
    map_shape = f", map {' x '.join(map(str, spec.spatial.shape))}" if spec.spatial else ""
    workspace.make_folder(workspace.features)
    disk = require_room(workspace.features / spec.folder_name, spec, len(source.images), job_size)
    click.echo(f"disk about {size_words(disk)} for features{map_shape}")
    with queue_lock(workspace):
        added = add_images(workspace, source, seed)
        folder = save_encoder(workspace, spec, tensors)
        parts = [(part.name, part.rows) for part in added.manifest.parts]
        works = work_for(workspace, folder, added.manifest.folder, parts, job_size)
        restored, fresh = append_work(workspace, works, known_kinds(), lambda reader: restorable_jobs(workspace, reader))
    if not has_nvidia_device():  # torch is loaded here anyway, and a worker without a GPU never needs it then
        graph = export_graph(folder)
        if graph.refused:
            click.echo(f"note: {spec.model} has no ONNX graph and will run in torch, which is slower: {graph.refused}")
    for note in added.notes:
        click.echo(f"note: {note}")
    counts = f"{plural(added.new, 'new image')}, {added.known:,} known, {added.changed:,} changed"
    click.echo(f"{counts}; splits: " + ", ".join(f"{name} {count:,}" for name, count in added.splits.items()))
    if restored:
        click.echo(f"{plural(len(restored), 'row')} restored that the queue had lost")
    click.echo(f"{plural(len(fresh), 'job')} added to {workspace.queue}")
    if fresh:
        click.echo("next: headstart work")
