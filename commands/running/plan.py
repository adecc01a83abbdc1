"""`headstart plan`: what extraction would take here, from a short run on some of the images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.options import (
    ImageSize,
    Pool,
    Size,
    as_json,
    compress_option,
    data_options,
    device_option,
    maps_option,
    patch_options,
    weights_option,
    workspace_option,
)
from headstart.commands.output.terminal import say
from headstart.pipeline.text import plural, span

if TYPE_CHECKING:
    from headstart.features.planning.plan import Estimate


@click.command("plan")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--encoder", "encoders", multiple=True, metavar="NAME", help="Any timm model; may be given several times.")
@weights_option
@click.option("--image-size", type=ImageSize(), metavar="N|HxW", help="As for enqueue.")
@click.option("--spatial", type=Pool(), is_flag=False, flag_value=0, metavar="[POOL]", help="As for enqueue.")
@maps_option
@compress_option
@patch_options
@click.option("--fast-decode", is_flag=True, help="Also with fast decoding, and how similar its features are.")
@device_option
@click.option("--vram", "vram_budget", type=Size(), metavar="SIZE", help="As work's --vram-budget.")
@click.option("--probe", type=click.IntRange(min=1), default=32, show_default=True, metavar="N", help="Images to try.")
@click.option(
    "--job-size", type=click.IntRange(min=1), help="Images a job, or patches. [default: 64; with --maps or --patches 16]"
)
@data_options
@as_json
@workspace_option
def command(
    data: Path,
    encoders: tuple[str, ...],
    weights: str,
    image_size: int | tuple[int, int] | None,
    spatial: int | None,
    maps: tuple[int, ...],
    compress: str,
    patch_size: int | None,
    overlap: int | None,
    fast_decode: bool,
    device: str,
    vram_budget: int | None,
    probe: int,
    job_size: int | None,
    as_json: bool,
    workspace: str | None,
    **about_data: Any,
) -> None:
    """Predict time, memory and disk for the images in DATA, for each encoder.

    It enqueues N of them, as often as four jobs take, in a temporary workspace, and runs `headstart work` there: the figures
    are of this machine as busy as it is now. Only they are kept in the workspace, for `headstart work` to compare; no workspace
    is made for them unless it was named.
    """
    if patch_size is None and overlap is not None:
        raise click.UsageError("--overlap goes with --patches PIXELS")
    from headstart.features.planning.patches import PatchRequest
    from headstart.features.planning.plan import plan
    from headstart.features.sources.source import SourceOptions

    planned = plan(
        data,
        encoders or (None,),
        workspace,
        weights=weights,
        image_size=image_size,
        spatial=spatial,
        maps=maps,
        compress=compress,
        patches=None if patch_size is None else PatchRequest(patch_size, overlap or 0),
        fast_decode=fast_decode,
        device=device,
        vram_bytes=vram_budget,
        probe=probe,
        job_size=job_size,
        options=SourceOptions(**about_data),
    )
    if as_json:
        click.echo(json.dumps([estimate.record() for estimate in planned.estimates], indent=1))
    else:
        click.echo(_shown(planned.estimates))
    if planned.kept_in:
        say(f"kept in {planned.kept_in}, so that headstart work can say how it came out")
    elif planned.fault:
        say(f"warning: the prediction was not kept: {planned.fault}")
    elif planned.forecasts:
        say("not kept: there is no workspace here. Name one with -w DIR, and headstart work says there how it came out")


def _shown(estimates: Sequence[Estimate]) -> str:
    from headstart.commands.output.terminal import aligned
    from headstart.pipeline.text import size_words

    patches = estimates[0].patches
    lines = [
        [
            "encoder",
            "time",
            "images/s" if patches is None else "patches/s",
            "memory",
            "GPU memory",
            "batch",
            "disk",
            "cosine mean",
            "worst",
        ]
    ]
    for estimate in estimates:
        lines.append(
            [
                estimate.encoder + (" --fast-decode" if estimate.fast_decode else ""),
                span(estimate.seconds),
                f"{estimate.images_per_second:.1f}" if estimate.images_per_second else "-",
                size_words(estimate.peak_rss_bytes),
                size_words(estimate.peak_vram_bytes) if estimate.peak_vram_bytes else "-",
                str(estimate.batch_size),
                size_words(estimate.disk_bytes),
                *("" if value is None else f"{value:.5f}" for value in (estimate.mean_cosine, estimate.worst_cosine)),
            ]
        )
    parts = f" in {patches:,} patch{'' if patches == 1 else 'es'}" if patches is not None else ""
    notes = [f"for {plural(estimates[0].images, 'image')}{parts} with one worker, as busy as this machine is now"]
    notes += dict.fromkeys(f"{estimate.encoder}: {_failures(estimate.failed)}" for estimate in estimates if estimate.failed)
    notes += dict.fromkeys(
        f"{estimate.encoder}: enqueue will refuse: {fault}" for estimate in estimates if (fault := estimate.disk_fault)
    )
    used = [i for i in range(len(lines[0])) if any(line[i] not in ("", "-") for line in lines[1:])]
    return "\n".join([*aligned([[line[i] for i in used] for line in lines], "<" + ">" * (len(used) - 1)), *notes])


def _failures(part: float) -> str:
    if part < 1:
        return f"{part:.0%} of the images tried gave no features"
    return "none of the images tried gave features, so this is only the time to find that out"
