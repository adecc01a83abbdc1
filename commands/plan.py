"""`headstart plan`: what extraction would take here, from a short run on some of the images."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.output.terminal import plural, say, span

from .options import Pool, Size, as_json, data_options, weights_option, workspace_option

if TYPE_CHECKING:
    from headstart.features.planning.forecast import Prediction
    from headstart.features.sources.source import Source
    from headstart.pipeline.workspace import Workspace


@click.command("plan")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--encoder", "encoders", multiple=True, metavar="NAME", help="Any timm model; may be given several times.")
@weights_option
@click.option("--image-size", type=click.IntRange(min=1), metavar="N", help="As for enqueue.")
@click.option("--spatial", type=Pool(), is_flag=False, flag_value=0, metavar="[POOL]", help="As for enqueue.")
@click.option("--fast-decode", is_flag=True, help="Also with fast decoding, and how similar its features are.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--vram", "vram_budget", type=Size(), metavar="SIZE", help="As work's --vram-budget.")
@click.option("--probe", type=click.IntRange(min=1), default=32, show_default=True, metavar="N", help="Images to try.")
@click.option("--job-size", type=click.IntRange(min=1), default=64, show_default=True, help="Images a job.")
@data_options
@as_json
@workspace_option
def command(
    data: Path,
    encoders: tuple[str, ...],
    weights: str,
    image_size: int | None,
    spatial: int | None,
    fast_decode: bool,
    device: str,
    vram_budget: int | None,
    probe: int,
    job_size: int,
    as_json: bool,
    workspace: str | None,
    **about_data: Any,
) -> None:
    """Predict time, memory and disk for the images in DATA, for each encoder.

    It enqueues N of them, as often as four jobs take, in a temporary workspace, and runs `headstart work` there: the figures
    are of this machine as busy as it is now. Only they are kept in the workspace, for `headstart work` to compare.
    """
    from headstart.features.encoders.folder import read_fingerprint
    from headstart.features.planning.probe import JOBS, compare, take_probe
    from headstart.features.sources.find import find_images
    from headstart.features.sources.source import SourceOptions
    from headstart.pipeline.workspace import open_or_create_workspace

    source = find_images(data, SourceOptions(**about_data))
    sample = take_probe(source, probe, JOBS * job_size)
    options = ["--device", device, *(["--vram-budget", f"{vram_budget / 1000}KB"] if vram_budget else [])]
    rows: list[dict[str, Any]] = []
    predictions: dict[str, Prediction] = {}
    for model in encoders or (None,):
        with tempfile.TemporaryDirectory(prefix="headstart-plan-") as place:
            trial = open_or_create_workspace(Path(place) / "workspace")
            exact: Path | None = None
            for is_fast in (False, True) if fast_decode else (False,):
                choice = (model, weights, image_size, is_fast, spatial)
                folder, predicted, row = _measure(trial, sample, choice, len(source.images), job_size, options)
                if row["failed"] < 1:  # else it tells nothing of images that do have features
                    predictions[read_fingerprint(folder)] = predicted
                cosines = compare(folder, exact) if exact is not None else None
                if cosines is not None:
                    row["mean_cosine"], row["worst_cosine"] = cosines
                exact = exact or folder
                rows.append(row)
    click.echo(json.dumps(rows, indent=1) if as_json else _shown(rows))
    if predictions:
        _keep(workspace, predictions)


def _keep(folder: str | None, predictions: dict[str, Prediction]) -> None:
    from headstart.features.planning.forecast import keep_prediction
    from headstart.pipeline.errors import ExplainedError
    from headstart.pipeline.workspace import find_root, open_or_create_workspace

    try:
        workspace = open_or_create_workspace(find_root(folder))
        for fingerprint, predicted in predictions.items():
            keep_prediction(workspace, fingerprint, predicted)
        say(f"kept in {workspace.root}, so that headstart work can say how it came out")
    except ExplainedError as error:  # the answer was given; a place that cannot be written to takes nothing from it
        say(f"warning: the prediction was not kept: {error}")


def _measure(
    workspace: Workspace, sample: Source, choice: tuple[Any, ...], images: int, job_size: int, options: list[str]
) -> tuple[Path, Prediction, dict[str, Any]]:
    from headstart.features.devices import has_nvidia_device
    from headstart.features.encoders.onnx_export import export_graph
    from headstart.features.encoders.resolve import resolve_encoder
    from headstart.features.encoders.saved import save_encoder
    from headstart.features.manifest.adding import add_images
    from headstart.features.planning.disk import predict_disk
    from headstart.features.planning.probe import read_pace
    from headstart.jobs.extract import work_for
    from headstart.pipeline.enqueue import append_work, queue_lock
    from headstart.pipeline.kinds import known_kinds

    spec, tensors = resolve_encoder(*choice)
    with queue_lock(workspace):
        manifest = add_images(workspace, sample, seed=0).manifest
        folder = save_encoder(workspace, spec, tensors)
        parts = [(part.name, part.rows) for part in manifest.parts]
        append_work(workspace, work_for(workspace, folder, manifest.folder, parts, job_size), known_kinds(), lambda reader: [])
    if not has_nvidia_device() or "cpu" in options:
        export_graph(folder)
    began = time.time()
    _work(workspace, options)
    pace = read_pace(workspace, folder, began)
    predicted = pace.prediction(job_size)
    return (
        folder,
        predicted,
        {
            "encoder": spec.model,
            "fast_decode": spec.transform.fast_decode,
            "images": images,
            "seconds": predicted.seconds(images),
            "images_per_second": 1 / pace.image_s if pace.image_s > 0 else None,
            "peak_rss_bytes": predicted.peak_rss_bytes,
            "peak_vram_bytes": predicted.peak_vram_bytes,
            "batch_size": pace.batch,
            "disk_bytes": predict_disk(spec, images, job_size),
            "failed": pace.failed,
        },
    )


def _work(workspace: Workspace, options: list[str]) -> None:
    """`headstart work` in a process of its own, whose memory is what a worker's will be."""
    from headstart.pipeline.child import child_environment
    from headstart.pipeline.errors import HeadstartError

    code = "from headstart.cli import main; main()"
    # Through a small process: Linux counts what was resident where a process was forked as its own peak, and here that is torch.
    between = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", between, sys.executable, "-c", code, "work", "--exit-status", "-w", str(workspace.root), *options],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=child_environment(),
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        said = next((line for line in lines if line.startswith(("error", "bug", "warning"))), lines[-1])
        raise HeadstartError(f"the trial run ended with exit status {done.returncode}: {said.partition(': ')[2] or said}")


def _shown(rows: list[dict[str, Any]]) -> str:
    from headstart.commands.output.terminal import aligned
    from headstart.pipeline.text import size_words

    lines = [["encoder", "time", "images/s", "memory", "GPU memory", "batch", "disk", "cosine mean", "worst"]]
    for row in rows:
        cosines = [f"{row[name]:.5f}" if name in row else "" for name in ("mean_cosine", "worst_cosine")]
        lines.append(
            [
                row["encoder"] + (" --fast-decode" if row["fast_decode"] else ""),
                span(row["seconds"]),
                f"{row['images_per_second']:.1f}" if row["images_per_second"] else "-",
                size_words(row["peak_rss_bytes"]),
                size_words(row["peak_vram_bytes"]) if row["peak_vram_bytes"] else "-",
                str(row["batch_size"]),
                size_words(row["disk_bytes"]),
                *cosines,
            ]
        )
    notes = [f"for {plural(rows[0]['images'], 'image')} with one worker, as busy as this machine is now"]
    notes += dict.fromkeys(f"{row['encoder']}: {_failures(row['failed'])}" for row in rows if row["failed"])
    used = [i for i in range(len(lines[0])) if any(line[i] not in ("", "-") for line in lines[1:])]
    return "\n".join([*aligned([[line[i] for i in used] for line in lines], "<" + ">" * (len(used) - 1)), *notes])


def _failures(part: float) -> str:
    if part < 1:
        return f"{part:.0%} of the images tried gave no features"
    return "none of the images tried gave features, so this is only the time to find that out"
