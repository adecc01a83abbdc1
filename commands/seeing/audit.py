"""`headstart audit`: what is probably wrong with the data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headstart.commands.options import as_json, chosen_workspace, workspace_option
from headstart.commands.output.terminal import aligned, say, write_line

if TYPE_CHECKING:
    from headstart.experiments.audit.doubts import DataAudit

_SHOWN = 20


@click.command("audit")
@click.option("--labels", "wants_labels", is_flag=True, help="Labels that are probably wrong.")
@click.option(
    "--duplicates", is_flag=True, help="Images that show one picture: copied, recompressed, resized, mirrored, brighter."
)
@click.option("--leaks", is_flag=True, help="Of these, only those of which one is in another split than the other.")
@click.option("--outliers", is_flag=True, help="Images unlike all others.")
@click.option("--encoder", metavar="FOLDER|NAME", help="Whose features, if there are several encoders.")
@click.option(
    "--corrections",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a table with a line a doubt. Correct its column `label` and give it to `enqueue --labels`.",
)
@click.option("--force", is_flag=True, help="Replace FILE of --corrections if it exists.")
@click.option("--csv", "as_csv", is_flag=True, help="Suspect labels as lines on standard output: path, label, suggested, ...")
@as_json
@workspace_option
def command(
    wants_labels: bool,
    duplicates: bool,
    leaks: bool,
    outliers: bool,
    encoder: str | None,
    corrections: Path | None,
    force: bool,
    as_csv: bool,
    as_json: bool,
    workspace: str | None,
) -> None:
    """Find what is probably wrong with the data: labels, copies, leaks across splits, odd ones out.

    All four, unless some are named. A classifier on the features says of each labelled image what it is without having been
    trained on it; where it is sure of another class, the label is suspect. Copies are proposed by features and decided by pixels.
    Nothing is changed: look at the images, in the report, too. How much the score on test hangs on them is shown last.
    """
    from headstart.experiments.audit.audit_data import audit_data
    from headstart.experiments.audit.doubts import PARTS

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    flags = (wants_labels, duplicates, leaks, outliers)
    parts = [part for part, is_wanted in zip(PARTS, flags, strict=True) if is_wanted] or (["labels"] if as_csv else list(PARTS))
    opened = chosen_workspace(workspace)
    audit = audit_data(opened, encoder, parts, report=say, corrections=corrections, force=force)
    if as_json:
        facts = asdict(audit)
        facts |= facts.pop("labels") or {}
        facts["images"] = audit.labels.images if audit.labels is not None else audit.images
        click.echo(json.dumps(facts, indent=1))
        return
    if as_csv:
        write_line(["path", "label", "suggested", "split", "confidence", "suggested_confidence"])
        for each in audit.labels.suspects if audit.labels is not None else ():
            numbers = [f"{each.confidence:.6f}", f"{each.suggested_confidence:.6f}"]
            write_line([each.path, each.label, each.suggested, each.split, *numbers])
        return
    for line in _lines(audit):
        click.echo(line)
    if corrections is not None:
        click.echo(f"next: correct the column label of {corrections}, then headstart enqueue --labels {corrections}")
    elif audit.copies or audit.outliers or (audit.labels is not None and audit.labels.suspects):
        click.echo("next: headstart audit --corrections doubts.csv, or headstart report --open to see the images")


def _lines(audit: DataAudit) -> Iterator[str]:
    from headstart.pipeline.text import plural, printable

    if audit.labels is not None:
        labels = audit.labels
        yield (
            f"{plural(labels.images, 'labelled image')}, {labels.right * 100:.1f} % called the same by a classifier that did not "
            f"see them; {plural(len(labels.suspects), 'label')} suspect"
        )
        rows = [["image", "label", "suggested", "split", "p(label)", "p(suggested)"]]
        for each in labels.suspects[:_SHOWN]:
            names = [printable(each.path), printable(each.label), printable(each.suggested), each.split or "-"]
            rows.append([*names, f"{each.confidence:.4f}", f"{each.suggested_confidence:.4f}"])
        yield from _table(rows, len(labels.suspects), "<<<<>>")
    if {"duplicates", "leaks"} & set(audit.parts):
        across = sum(pair.is_leak for pair in audit.copies)
        which = f"{plural(len(audit.copies), 'pair')} of images show one picture, {across:,} of them across splits"
        yield which if "duplicates" in audit.parts else f"{plural(across, 'pair')} of images show one picture in two splits"
        if audit.unread:
            yield f"{plural(audit.unread, 'image')} could not be read again, so it is not known whether they are copies"
        rows = [["image", "shows the same as", "how", "splits", "likeness"]]
        for pair in audit.copies[:_SHOWN]:
            splits = " ".join(dict.fromkeys(image.split or "-" for image in (pair.first, pair.second)))
            rows.append([printable(pair.first.path), printable(pair.second.path), pair.how, splits, f"{pair.likeness:.3f}"])
        yield from _table(rows, len(audit.copies), "<<<<>")
    if "outliers" in audit.parts:
        is_one = len(audit.outliers) == 1
        yield f"{plural(len(audit.outliers), 'image')} {'is' if is_one else 'are'} unlike all others"
        rows = [["image", "label", "split", "oddness"]]
        for odd in audit.outliers[:_SHOWN]:
            rows.append([printable(odd.image.path), printable(odd.image.label), odd.image.split or "-", f"{odd.oddness:.1f}"])
        yield from _table(rows, len(audit.outliers), "<<<>")
    if audit.scores:
        yield "what ridge scores on test; without what it doubts a score is flattered, for doubts are where a classifier errs:"
        yield from aligned(_score_rows(audit), "<>><")


def _score_rows(audit: DataAudit) -> list[list[str]]:
    from headstart.experiments.evaluation.intervals import wilson_interval

    rows = [["", "images", "right", "95 %"]]
    for score in audit.scores:
        share, interval = "-", "-"
        if score.images:
            low, high = wilson_interval(score.right, score.images)
            share = f"{100 * score.right / score.images:.1f} %"
            interval = f"{100 * low:.1f} to {100 * high:.1f}" if low is not None and high is not None else "-"
        rows.append([score.without, f"{score.images:,}", share, interval])
    return rows


def _table(rows: Sequence[Sequence[str]], count: int, sides: str) -> Iterator[str]:
    if len(rows) > 1:
        yield from aligned([list(row) for row in rows], sides)
    if count > _SHOWN:
        yield f"and {count - _SHOWN:,} more; all of them: headstart audit --corrections doubts.csv"
