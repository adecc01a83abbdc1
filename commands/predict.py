"""`headstart predict`: what a trained head says of images."""

from __future__ import annotations

from pathlib import Path

import click

from headstart.commands.output.terminal import plural, say

from .options import as_json, chosen_workspace, run_option, workspace_option


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
    from headstart.commands.output.predictions import PredictionLayout, write_csv, write_json, write_table
    from headstart.experiments.serving.predict import predict

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    predictions = predict(
        images, chosen_workspace(workspace), run=run, auxiliary=given, device=device, allow_symlinks=allow_symlinks
    )
    listed = predictions.images
    layout = PredictionLayout(
        predictions.task, predictions.names, min(top, len(predictions.names)), [image.name for image in listed]
    )
    if as_json:
        failed = write_json(iter(predictions), layout, predictions.chosen.as_json())
    else:
        failed = (write_csv if as_csv else write_table)(iter(predictions), layout)
    if failed:
        say(f"{plural(failed, 'image')} of {len(listed):,} could not be read")
    return 1 if failed else 0
