"""`headstart enqueue`: split images into jobs."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from headstart.commands.options import (
    ImageSize,
    Pool,
    chosen_workspace,
    compress_option,
    data_options,
    maps_option,
    patch_options,
    weights_option,
    workspace_option,
)
from headstart.commands.output.terminal import now_and_then
from headstart.pipeline.text import plural
from headstart.pipeline.workspace import Workspace


@click.command("enqueue")
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("--encoder", "model", metavar="NAME", help="Any timm model. [default: efficientnet_b0]")
@weights_option
@click.option("--job-size", type=click.IntRange(min=1), help="Images a job. [default: 64; with --maps 16]")
@click.option(
    "--image-size",
    type=ImageSize(),
    metavar="N|HxW",
    help="Pixels, instead of what the encoder was made for: 224, or 360x480.",
)
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
@maps_option
@compress_option
@patch_options
@click.option("--masks", metavar="DIR|COLUMN", help="With --patches: where their masks lie, for train segment.")
@click.option(
    "--stages",
    is_flag=True,
    help="Also keep mean and deviation of every channel of the encoder's stages, after the features: early ones know edges and "
    "colours, which the last one forgets.",
)
@click.option("--image-stats", is_flag=True, help="Also keep sixteen statistics of the image itself, last of all.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "int8"]),
    default="float32",
    show_default=True,
    help="Compute in bfloat16 or int8 on the CPU: faster, other features, a folder of their own. It is tried on a sample of DATA "
    "first, and refused if the features are not good enough. Needs pip install 'headstart[fast]'.",
)
@click.option(
    "--else-float32",
    is_flag=True,
    help="With --precision: float32 where this processor has no instructions for it, or its features are not good enough.",
)
@click.option("--exif-rotate", is_flag=True, help="Turn photos as their EXIF orientation says: other features.")
@data_options
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of splits and shuffling; the first one of a data set stays."
)
@click.option(
    "--digest",
    type=click.Choice(["auto", "now", "later"]),
    default="auto",
    show_default=True,
    help="When images are read to know them again wherever they lie. auto: now, unless it would take over a minute; later: by "
    "`work`, which reads them anyway.",
)
@click.option("--keep-missing", is_flag=True, help="Keep rows of images that are no longer in DATA. [default: they are retired]")
@click.option(
    "--labels",
    "labels_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A table with path and label, as `audit --corrections` writes one: its labels count from now on. Without DATA nothing "
    "else is read. No features are made again.",
)
@click.option("--new-classes", is_flag=True, help="With --labels: a label that no image has yet becomes a class.")
@click.option("--dry-run", is_flag=True, help="Show what would happen, write nothing.")
@workspace_option
def command(
    data: Path | None,
    job_size: int | None,
    seed: int,
    digest: str,
    keep_missing: bool,
    labels_file: Path | None,
    new_classes: bool,
    dry_run: bool,
    patch_size: int | None,
    overlap: int | None,
    masks: str | None,
    workspace: str | None,
    **said: Any,
) -> None:
    """Split the images in DATA into jobs.

    DATA is a folder of class folders (with or without train/val/test above them), a flat folder, a CSV, TSV or Parquet table
    with one row an image, an HDF5 file with `images` (n, h, w, 3) uint8, or Parquet with images in it. Doing it again adds what
    is new, takes over other labels, and retires what left; an image that moved is the same image.
    """
    mistakes = (
        (data is None and labels_file is None, "Missing argument 'DATA'."),
        (new_classes and labels_file is None, "--new-classes goes with --labels FILE"),
        (dry_run and labels_file is not None, "--dry-run and --labels exclude each other"),
        (patch_size is None and not (overlap is None and masks is None), "--overlap and --masks go with --patches PIXELS"),
    )
    for is_made, words in mistakes:
        if is_made:
            raise click.UsageError(words)
    if data is None:
        assert labels_file is not None
        _correct(chosen_workspace(workspace), labels_file, None, new_classes)
        return
    from headstart.features.encoders.resolve import EncoderRequest
    from headstart.features.planning.enqueue import enqueue_images, preview_enqueue
    from headstart.features.planning.patches import PatchRequest
    from headstart.features.sources.source import SourceOptions

    encoder = EncoderRequest(**{field.name: said.pop(field.name) for field in fields(EncoderRequest)})
    options = SourceOptions(**said)
    patches = None if patch_size is None else PatchRequest(patch_size, overlap or 0, masks or "")
    if dry_run:
        seen = preview_enqueue(
            data, workspace, encoder=encoder, job_size=job_size, options=options, patches=patches, report=click.echo
        )
        click.echo(f"dry run: at most {plural(seen.jobs, 'job')} of {seen.job_size}; nothing was written")
        return
    enqueued = enqueue_images(
        data,
        workspace,
        encoder=encoder,
        job_size=job_size,
        seed=seed,
        options=options,
        digest=digest,
        keep_missing=keep_missing,
        patches=patches,
        report=click.echo,
        progress=now_and_then(
            lambda done, of: f"reading each image once, so that one that is renamed or moved later is known: {done:,} of {of:,}"
        ),
    )
    added, restored, fresh = enqueued.added, enqueued.restored, enqueued.fresh
    if enqueued.graph_refused:
        click.echo(
            f"note: {enqueued.encoder.model} has no ONNX graph and will run in torch, which is slower: {enqueued.graph_refused}"
        )
    for note in added.notes:
        click.echo(f"note: {note}")
    known = ", ".join(f"{count:,} {word}" for word in ("moved", "relabelled", "returned") if (count := getattr(added, word)))
    counts = f"{plural(added.new, 'new image')}, {added.known:,} known{f' ({known})' if known else ''}, {added.changed:,} changed"
    if added.retired:
        click.echo(f"{plural(added.retired, 'row')} retired: no longer in the data (--keep-missing keeps them)")
    click.echo(f"{counts}; splits: " + ", ".join(f"{name} {count:,}" for name, count in added.splits.items()))
    if restored:
        click.echo(f"{plural(len(restored), 'row')} restored that the queue had lost")
    click.echo(f"{plural(len(fresh), 'job')} added to {enqueued.workspace.queue}")
    if labels_file is not None:
        _correct(enqueued.workspace, labels_file, added.manifest.folder, new_classes)
    if fresh:
        click.echo("next: headstart work")


def _correct(workspace: Workspace, table: Path, dataset: Path | None, new_classes: bool) -> None:
    from headstart.features.manifest.corrections import correct_labels

    done = correct_labels(workspace, table, dataset, new_classes)
    emptied = f", {done.emptied:,} of them to none: these are neither trained on nor tested" if done.emptied else ""
    gone = f"; {plural(done.gone, 'image')} of it left the data" if done.gone else ""
    click.echo(f"{plural(done.changed, 'label')} changed{emptied}; {done.same:,} were so already{gone}")
    if done.changed:
        click.echo("next: headstart train-head")
