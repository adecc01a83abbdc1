"""`headstart clean`: frees what can go without loss."""

from __future__ import annotations

import json
import sys

import click

from headstart.commands.options import as_json, chosen_workspace, workspace_option
from headstart.commands.output.terminal import say
from headstart.pipeline.text import plural


@click.command("clean")
@click.option("--dry-run", is_flag=True, help="Say what would go, and how much it takes.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--keep-caches", is_flag=True, help="Leave packed features, which the next training would have to pack again.")
@as_json
@workspace_option
def command(dry_run: bool, yes: bool, keep_caches: bool, as_json: bool, workspace: str | None) -> int:
    """Free what can go without loss: states of finished trainings, packed features, leftovers, what was removed by halves.

    Features, heads and numbers stay. Packed features are left alone while a worker runs.
    """
    from headstart.experiments.runs.cleaning import clean, spent
    from headstart.pipeline.errors import HeadstartError
    from headstart.pipeline.text import size_words

    opened_workspace = chosen_workspace(workspace)
    can_go = spent(opened_workspace, keep_caches)
    parts = can_go.parts
    for name, size in parts.items():
        if size:
            say(f"{name}: {size_words(size)}")
    for what in can_go.removals:
        say(f"unfinished: removal of {what}")
    total = sum(parts.values())
    if can_go.is_nothing:
        say("nothing can go")
    elif not dry_run:
        if not yes:
            if not sys.stdin.isatty():
                raise HeadstartError(f"nobody can be asked whether {size_words(total)} should go. Say so: --yes")
            click.confirm("Delete it?", abort=True, err=True)
        clean(opened_workspace, can_go)
        say(f"freed {size_words(total)}" + (f", {plural(len(can_go.removals), 'removal')} ended" if can_go.removals else ""))
    if as_json:
        click.echo(json.dumps({"bytes": total, **parts, "removals": list(can_go.removals), "cleaned": not dry_run}, indent=1))
    return 0
