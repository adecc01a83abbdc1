"""`headstart audit`: what is probably wrong with the data."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from headstart.commands.options import as_json, chosen_workspace, workspace_option
from headstart.commands.output.terminal import aligned, write_line

_SHOWN = 20


@click.command("audit")
@click.option("--encoder", metavar="FOLDER|NAME", help="Whose features, if there are several encoders.")
@click.option("--csv", "as_csv", is_flag=True, help="A line a suspect to correct in a spreadsheet: path, label, suggested, ...")
@as_json
@workspace_option
def command(encoder: str | None, as_csv: bool, as_json: bool, workspace: str | None) -> None:
    """List labels that are probably wrong, the surest first.

    A classifier on the features says of each labelled image what it is without having been trained on it; where it is sure of
    another class, the label is suspect. Nothing is changed: look at the images, they may as well be hard ones.
    """
    from headstart.experiments.audit.label_errors import audit_labels
    from headstart.pipeline.text import plural, printable

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    audit = audit_labels(chosen_workspace(workspace), encoder)
    if as_json:
        click.echo(json.dumps(asdict(audit), indent=1))
        return
    if as_csv:
        write_line(["path", "label", "suggested", "split", "confidence", "suggested_confidence"])
        for each in audit.suspects:
            numbers = [f"{each.confidence:.6f}", f"{each.suggested_confidence:.6f}"]
            write_line([each.path, each.label, each.suggested, each.split, *numbers])
        return
    click.echo(
        f"{plural(audit.images, 'labelled image')}, {audit.right * 100:.1f} % called the same by a classifier that did not see "
        f"them; {plural(len(audit.suspects), 'label')} suspect"
    )
    rows = [["image", "label", "rather", "split", "label's", "rather's"]]
    for each in audit.suspects[:_SHOWN]:
        names = [printable(each.path), printable(each.label), printable(each.suggested), each.split or "-"]
        rows.append([*names, f"{each.confidence:.4f}", f"{each.suggested_confidence:.4f}"])
    if audit.suspects:
        for line in aligned(rows, "<<<<>>"):
            click.echo(line)
    if len(audit.suspects) > _SHOWN:
        click.echo(f"and {len(audit.suspects) - _SHOWN:,} more; all of them: headstart audit --csv > suspects.csv")
