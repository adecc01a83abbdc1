"""`headstart predict`: what a trained head says of images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headstart.commands.output.terminal import plural, say
from headstart.experiments.runs.catalog import choose_run
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

from .options import as_json, opened, run_option, workspace_option

if TYPE_CHECKING:
    from headstart.features.extraction.batching import Batching


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
    from headstart.commands.output.predictions import Layout, write_csv, write_json, write_table
    from headstart.experiments.heads.trained_head import read_head
    from headstart.experiments.serving.predict import predict_images
    from headstart.features.extraction.new_images import find_new_images

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    chosen = choose_run(opened(workspace), run)
    auxiliary = auxiliary_values(chosen.experiment.auxiliary, given)
    head = read_head(chosen.head_path)
    listed = find_new_images(images, allow_symlinks)
    batching = partial(_open_batching, chosen.experiment.encoder, device)
    predictions = predict_images(head, listed, chosen.encoder_spec(), auxiliary, batching, device)
    layout = Layout(head.task, head.names, min(top, len(head.names)), [image.name for image in listed])
    if as_json:
        failed = write_json(predictions, layout, chosen.as_json())
    else:
        failed = (write_csv if as_csv else write_table)(predictions, layout)
    if failed:
        say(f"{plural(failed, 'image')} of {len(listed):,} could not be read")
    return 1 if failed else 0


def _open_batching(encoder: Path, device: str) -> Batching:
    from headstart.features.devices import choose_device
    from headstart.features.encoders.runtime import open_encoder
    from headstart.features.extraction.memory_budget import plan_batching

    return plan_batching(open_encoder(encoder, choose_device(device)), None, None, None, 0)[0]


def auxiliary_values(names: Sequence[str], given: Sequence[str]) -> list[float]:
    """Numbers from 'name=value' texts, in the order of `names`.

    Raises: HeadstartError that says which are missing, unknown or no numbers.
    """
    values: dict[str, float] = {}
    for text in given:
        name, equals, value = text.rpartition("=") if "=" in text else (text, "", "")
        if name not in names:
            known = f"the head takes {', '.join(map(printable, names))}" if names else "the head takes none"
            raise HeadstartError(f"--aux {printable(text)}: {known}")
        try:
            values[name] = float(value)
        except ValueError:
            values[name] = float("nan")
        if not equals or not abs(values[name]) < float("inf"):
            raise HeadstartError(f"--aux {printable(text)}: expected a number, such as --aux {printable(name)}=0.5")
    missing = [name for name in names if name not in values]
    if missing:
        wanted = " ".join(f"--aux {printable(name)}=VALUE" for name in missing)
        raise HeadstartError(f"the head was trained with columns beside the image, and they are missing: {wanted}")
    return [values[name] for name in names]
