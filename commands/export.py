"""`headstart export`: a trained head as a file for other programs."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.output.terminal import plural

from .options import as_json, opened, run_option, workspace_option

if TYPE_CHECKING:
    from headstart.experiments.runs.catalog import Chosen
    from headstart.experiments.serving.export import Exported


@click.command("export")
@run_option
@click.option("--format", "form", type=click.Choice(["onnx", "torchscript", "pt2"]), default="onnx", show_default=True)
@click.option("--with-encoder", is_flag=True, help="Pixels in instead of features: encoder and head in one ONNX graph.")
@click.option("--logits", is_flag=True, help="Leave out the softmax or sigmoid at the end.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: EXPERIMENT-HEAD.SUFFIX here]")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@as_json
@workspace_option
def command(
    run: str,
    form: str,
    with_encoder: bool,
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
    from headstart.experiments.heads.trained_head import read_head
    from headstart.experiments.runs.catalog import choose_run
    from headstart.experiments.serving.export import (
        FORMATS,
        check_images,
        check_rows,
        export_facts,
        export_head,
        export_with_encoder,
    )
    from headstart.pipeline.errors import HeadstartError

    opened_workspace = opened(workspace)
    chosen = choose_run(opened_workspace, run)
    target = output or Path(f"{chosen.run.experiment}-{chosen.run.head}{'-with-encoder' * with_encoder}{FORMATS[form]}")
    _refuse(target, force)
    if with_encoder and form != "onnx":
        raise HeadstartError(f"--with-encoder makes ONNX only, not {form}. Leave out --format, or --with-encoder")
    if with_encoder and chosen.experiment.auxiliary:
        columns = ", ".join(chosen.experiment.auxiliary)
        raise HeadstartError(f"the head also takes the columns {columns}, which no image holds. Leave out --with-encoder")
    head, spec = read_head(chosen.head_path), chosen.encoder_spec()
    facts = export_facts(chosen, head, spec, logits)
    if with_encoder:
        exported = export_with_encoder(chosen.experiment.encoder, head, facts, check_images(spec), logits)
    else:
        exported = export_head(head, form, facts, check_rows(opened_workspace, chosen.experiment, head.inputs), logits)
    is_new = _write(target, exported.data, force)
    if as_json:
        click.echo(json.dumps(_record(chosen, target, form, exported), indent=1))
        return
    for line in _lines(chosen, target, form, exported, is_new, with_encoder):
        click.echo(line)


def _refuse(target: Path, force: bool) -> None:
    """Before the work: whether `target` may be written at all."""
    from headstart.pipeline.errors import HeadstartError

    if target.is_dir():
        raise HeadstartError(f"{target} is a folder. Name a file: -o {target / 'head.onnx'}")
    if not target.absolute().parent.is_dir():
        raise HeadstartError(f"{target.absolute().parent} is no folder. Make it, or choose another place with -o FILE")
    if target.exists() and not (force or target.is_file()):
        raise HeadstartError(f"{target} is no ordinary file. Choose another place with -o FILE")


def _write(target: Path, data: bytes, force: bool) -> bool:
    """Puts `data` at `target`, whole or not at all; False if exactly that stands there already."""
    from headstart.pipeline.errors import HeadstartError
    from headstart.pipeline.files import FileSystem, environment_faults

    with _explained(target), environment_faults(f"cannot write {target}"):
        if target.is_file() and target.read_bytes() == data:
            return False
        files = FileSystem(hard_links=False)
        if force:
            files.replace(target.absolute(), data)
        elif not files.publish(target.absolute(), data):
            raise HeadstartError(f"{target} exists and holds something else. Pass --force to replace it, or -o FILE")
    return True


@contextlib.contextmanager
def _explained(target: Path) -> Iterator[None]:
    from headstart.pipeline.errors import HeadstartError

    try:
        yield
    except OSError as error:
        raise HeadstartError(f"cannot write {target}: {error.strerror}. Choose another place with -o FILE") from None


def _lines(chosen: Chosen, target: Path, form: str, exported: Exported, is_new: bool, with_encoder: bool) -> Iterator[str]:
    from headstart.pipeline.text import size_words

    what = "encoder and head" if with_encoder else "head"
    yield f"{'wrote' if is_new else 'unchanged'} {target}  {size_words(len(exported.data))}, {what} of {chosen.words} as {form}"
    yield f"  input    {exported.inputs}"
    yield f"  output   {exported.outputs}"
    against = "encoder, float16 and head one after the other" if with_encoder else "torch"
    yield f"  parity   at most {exported.difference:.1e} from {against} on {plural(exported.rows, 'row')}"
    one = "image" if with_encoder else "row"
    yield f"  latency  {exported.median_ms:.3f} ms median, {exported.p95_ms:.3f} ms p95, one {one} at a time"


def _record(chosen: Chosen, target: Path, form: str, exported: Exported) -> dict[str, Any]:
    return {
        **chosen.as_json(),
        "file": str(target),
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
