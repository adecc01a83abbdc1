"""`headstart export`: a trained head as a file for other programs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.options import as_json, chosen_workspace, run_option, workspace_option
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, verb

if TYPE_CHECKING:
    from headstart.experiments.runs.recipe_experiment import RecipeExperiment
    from headstart.experiments.serving.export_run import ExportedFile
    from headstart.pipeline.workspace import Workspace


@click.command("export")
@run_option
@click.option(
    "--format", "form", type=click.Choice(["onnx", "torchscript", "pt2"]), default="onnx", show_default=True, help="Of the file."
)
@click.option("--with-encoder", is_flag=True, help="Pixels in instead of features: encoder and head in one ONNX graph.")
@click.option(
    "--half",
    is_flag=True,
    help="With --with-encoder: weights in float16, half the size (float32 before trees); auxiliary columns are a second input. "
    "Also as torchscript.",
)
@click.option("--logits", is_flag=True, help="Leave out the softmax or sigmoid at the end.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: EXPERIMENT-HEAD.SUFFIX here]")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@as_json
@workspace_option
def command(
    run: str,
    form: str,
    with_encoder: bool,
    half: bool,
    logits: bool,
    output: Path | None,
    force: bool,
    as_json: bool,
    workspace: str | None,
) -> None:
    """Write a trained head as ONNX, TorchScript or pt2.

    Each file is checked against torch before it is written. Standardization is part of it: raw features go in, probabilities of
    classes (or numbers) come out. Names of classes and what an image must go through before are in the file's metadata. The same
    head gives the same bytes.
    """
    from headstart.experiments.runs.catalog import recipe_of_run
    from headstart.experiments.serving.export_run import export_run

    opened_workspace = chosen_workspace(workspace)
    if half:
        if not with_encoder:
            raise click.UsageError("--half goes with --with-encoder: a head alone is small")
        if logits:
            raise click.UsageError("--half and --logits exclude each other")
        _export_half(opened_workspace, run, form, output, force, as_json)
        return
    experiment = recipe_of_run(opened_workspace, run)
    if experiment is not None:
        if with_encoder:
            raise HeadstartError("the model of a recipe is exported with its encoder in float16 only: add --half")
        _export_recipe(experiment, form, output, force, as_json)
        return
    written = export_run(run, opened_workspace, form=form, with_encoder=with_encoder, logits=logits, output=output, force=force)
    if as_json:
        click.echo(json.dumps(_record(written, form), indent=1))
        return
    for line in _lines(written, form, with_encoder):
        click.echo(line)


def _export_recipe(experiment: RecipeExperiment, form: str, output: Path | None, force: bool, as_json: bool) -> None:
    from headstart.experiments.serving.recipe_run import export_trained, open_trained

    path, difference = export_trained(open_trained(experiment), form, output, force)
    if as_json:
        click.echo(
            json.dumps({"experiment": experiment.folder.name, "file": str(path), "largest_difference": difference}, indent=1)
        )
        return
    click.echo(f"wrote {path}, the model of {experiment.folder.name} as {form}")
    click.echo(f"  parity   within {difference:.1e} of the largest number that torch gives")


def _export_half(workspace: Workspace, run: str, form: str, output: Path | None, force: bool, as_json: bool) -> None:
    from headstart.experiments.serving.export_half import export_half
    from headstart.pipeline.text import size_words

    path, name, whole = export_half(workspace, run, form, output, force)
    if as_json:
        facts = {"file": str(path), "run": name, "format": form, "bytes": len(whole.data), "is_half": whole.is_half}
        compared = {"largest_difference": whole.difference, "images": whole.images, "images_beyond": whole.beyond}
        median = {str(key): value for key, value in whole.median_ms.items()}
        click.echo(json.dumps({**facts, **compared, "median_ms": median}, indent=1))
        return
    weights = "weights in float16" if whole.is_half else "weights in float32, for trees make jumps of small differences"
    click.echo(f"wrote {path}  {size_words(len(whole.data))}, encoder and head of {name} as {form}, {weights}")
    click.echo(f"  parity   at most {whole.difference:.1e} from float32 on {plural(whole.images, 'image')} of the data")
    if whole.beyond:
        differ = verb(whole.beyond, "differ")
        click.echo(f"  beyond   {plural(whole.beyond, 'image')} {differ} by more than 1e-3: a rounded feature passed a threshold")
    latency = ", ".join(f"{value:.1f} ms with {plural(key, 'thread')}" for key, value in whole.median_ms.items())
    click.echo(f"  latency  {latency}, median, one image at a time")


def _lines(written: ExportedFile, form: str, with_encoder: bool) -> Iterator[str]:
    from headstart.pipeline.text import size_words

    chosen, exported = written.chosen, written.exported
    what = "encoder and head" if with_encoder else "head"
    done = "wrote" if written.is_new else "unchanged"
    yield f"{done} {written.path}  {size_words(len(exported.data))}, {what} of {chosen.words} as {form}"
    yield f"  input    {exported.inputs}"
    yield f"  output   {exported.outputs}"
    against = "encoder, float16 and head one after the other" if with_encoder else "torch"
    yield f"  parity   at most {exported.difference:.1e} from {against} on {plural(exported.rows, 'row')}"
    one = "image" if with_encoder else "row"
    yield f"  latency  {exported.median_ms:.3f} ms median, {exported.p95_ms:.3f} ms p95, one {one} at a time"


def _record(written: ExportedFile, form: str) -> dict[str, Any]:
    exported = written.exported
    return {
        **written.chosen.as_json(),
        "file": str(written.path),
        "format": form,
        "bytes": len(exported.data),
        "sha256": hashlib.sha256(exported.data).hexdigest(),
        "input": exported.inputs,
        "output": exported.outputs,
        "largest_difference": exported.difference,
        "rows": exported.rows,
        "median_ms": exported.median_ms,
        "p95_ms": exported.p95_ms,
    }
