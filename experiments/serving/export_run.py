"""A run's head as a file, by one call: what `headstart export` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headstart.experiments.heads.trained_head import read_head
from headstart.experiments.runs.catalog import BEST, Chosen, choose_run
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.output_files import refuse_place, write_output
from headstart.pipeline.workspace import Workspace, as_workspace

from .export import FORMATS, Exported, check_images, check_rows, export_facts, export_head, export_with_encoder


@dataclass(frozen=True)
class ExportedFile:
    """Attributes:
    chosen: the run whose head it is.
    path: where it lies; `is_new` False if exactly these bytes stood there already.
    exported: its bytes and what was measured of them.
    """

    chosen: Chosen
    path: Path
    exported: Exported
    is_new: bool


def export_run(
    run: str | int = BEST,
    workspace: Workspace | Path | str | None = None,
    *,
    form: str = "onnx",
    with_encoder: bool = False,
    logits: bool = False,
    output: Path | str | None = None,
    force: bool = False,
) -> ExportedFile:
    """Writes the trained head of a run for other programs, after its answers were compared with torch's.

    Args:
        run: its number, or 'best', see `choose_run`.
        workspace: a folder; None is the one that every command would take, see `find_root`.
        form: a key of FORMATS.
        with_encoder: pixels in instead of features; ONNX only.
        logits: leave out the softmax or sigmoid at the end.
        output: the file; None: `<experiment>-<head><suffix>` in the current folder.
        force: replace the file if it holds something else.

    Raises: HeadstartError if there is no such run or format, the file must not be written, or its answers differ from torch's.
    """
    if form not in FORMATS:
        raise HeadstartError(f"format is {form!r}, expected one of {', '.join(FORMATS)}")
    opened = as_workspace(workspace)
    chosen = choose_run(opened, str(run))
    name = f"{chosen.run.experiment}-{chosen.run.head}{'-with-encoder' * with_encoder}{FORMATS[form]}"
    target = Path(name if output is None else output)
    refuse_place(target)
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
        exported = export_head(head, form, facts, check_rows(opened, chosen.experiment, head.inputs), logits)
    return ExportedFile(chosen, target, exported, write_output(target, exported.data, force))
