"""`headstart report`: a page to look at and to send."""

from __future__ import annotations

import json

import click

from headstart.commands.options import as_json, chosen_workspace, workspace_option
from headstart.commands.output.terminal import say, show_in_browser


@click.command("report")
@click.argument("what", default="best", metavar="[best|N|EXPERIMENT]")
@click.option("--open", "is_opened", is_flag=True, help="Show it in the browser.")
@as_json
@workspace_option
def command(what: str, is_opened: bool, as_json: bool, workspace: str | None) -> None:
    """Write what a training has to say as one page: the answer, its mistakes, a map of the images, charts.

    The page is one file that needs no network: open it, send it to a colleague, print it. Each figure lies beside it as a
    picture, its numbers as JSON.

    N is a run's number, see `headstart runs`; EXPERIMENT is a folder's name or what --name said, and shows the head that
    validation chose, or the recipe's model; one that still goes says where it is.
    """
    from headstart.experiments.report.write_report import write_report
    from headstart.pipeline.text import plural, printable, size_words

    written = write_report(what, chosen_workspace(workspace), say)
    if as_json:
        facts = {"page": str(written.path), "bytes": written.bytes, "verdict": written.verdict, "missing": written.missing}
        click.echo(json.dumps({**facts, "figures": [path.name for path in written.figures]}, indent=1))
    else:
        click.echo(printable(written.verdict))
        click.echo(f"page     {printable(str(written.path))} ({size_words(written.bytes)})")
        click.echo(f"figures  of the page, and their numbers, in {plural(len(written.figures), 'file')} beside it")
    if written.missing:
        say(f"warning: {plural(written.missing, 'picture')} could not be read again and are grey; is their disk mounted?")
    if is_opened:
        show_in_browser(written.path)
