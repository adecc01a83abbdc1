"""`headstart predict`: what a trained head says of images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import as_json, opened, plural, run_option, say, workspace_option

if TYPE_CHECKING:
    from headstart.features.batching import Batching


@click.command("predict")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGES...")
@run_option
@click.option("--top", type=click.IntRange(min=1), default=1, show_default=True, metavar="K", help="Classes to show an image.")
@click.option("--aux", "given", multiple=True, metavar="NAME=VALUE", help="A number the head was trained with beside the image.")
@click.option("--csv", "as_csv", is_flag=True, help="One line an image; text that a spreadsheet would run is escaped.")
@as_json
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--allow-symlinks", is_flag=True, help="Follow symbolic links out of a folder.")
@workspace_option
def command(
    images: tuple[Path, ...],
    run: str,
    top: int,
    given: tuple[str, ...],
    as_csv: bool,
    as_json: bool,
    device: str,
    allow_symlinks: bool,
    workspace: str | None,
) -> int:
    """Say which class each of IMAGES is, or which numbers it has. IMAGES are files and folders.

    They are decoded and encoded as `work` would do it. One that cannot be read costs its own line; the exit status is 1 then.
    """
    from headstart.experiments.choosing import auxiliary_values, choose_run
    from headstart.experiments.heads import read_head
    from headstart.experiments.serving import predict_images
    from headstart.features.new_images import find_new_images

    from .prediction_formats import Layout, write_csv, write_json, write_table

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    chosen = choose_run(opened(workspace), run)
    auxiliary = auxiliary_values(chosen.experiment.auxiliary, given)
    head = read_head(chosen.head_path)
    found = find_new_images(images, allow_symlinks)
    batching = partial(_open_batching, chosen.experiment.encoder, device)
    predictions = predict_images(head, found, chosen.encoder_spec(), auxiliary, batching, device)
    layout = Layout(head.task, head.names, min(top, len(head.names)), [image.name for image in found])
    if as_json:
        failed = write_json(predictions, layout, chosen.as_json())
    else:
        failed = (write_csv if as_csv else write_table)(predictions, layout)
    if failed:
        say(f"{plural(failed, 'image')} of {len(found):,} could not be read")
    return 1 if failed else 0


def _open_batching(encoder: Path, device: str) -> Batching:
    from headstart.features.budgets import plan_batching
    from headstart.features.devices import choose_device
    from headstart.features.opening import open_encoder

    return plan_batching(open_encoder(encoder, choose_device(device)), None, None, None, 0)[0]
