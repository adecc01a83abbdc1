"""`headstart remove`: takes back a run, an experiment, an encoder's features or a data set."""

from __future__ import annotations

import json
import sys

import click

from headstart.commands.options import as_json, chosen_workspace, workspace_option
from headstart.commands.output.terminal import say
from headstart.pipeline.text import plural


@click.command("remove")
@click.argument("kind", type=click.Choice(["run", "experiment", "encoder", "activations", "made", "patches", "data"]))
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Say what would go, and how much it takes.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@as_json
@workspace_option
def command(kind: str, name: str, dry_run: bool, yes: bool, as_json: bool, workspace: str | None) -> int:
    """Take back what was made, for good.

    \b
    headstart remove run 3               one head; the experiment that it is the last of goes with it
    headstart remove experiment NAME     its heads, numbers and checkpoints
    headstart remove encoder FOLDER      the features of one encoder
    headstart remove activations FOLDER  what fine-tuning keeps of each image; it makes them again
    headstart remove made FOLDER         what `headstart make` made
    headstart remove patches FOLDER      a version of patches and their features
    headstart remove data NAME           a data set and its features; never your images

    A worker that is at it lets go first. Killed in the middle, nothing is half gone: the same command, or `headstart clean`,
    goes on.
    """
    from headstart.experiments.runs.removal import finish_removals, perform, plan_removal
    from headstart.pipeline.errors import HeadstartError
    from headstart.pipeline.text import size_words

    opened_workspace = chosen_workspace(workspace)
    plan = plan_removal(opened_workspace, kind, name)
    facts = {"what": plan.removal.what, "jobs": len(plan.jobs), "bytes": plan.size_bytes, "removed": not dry_run}
    jobs = f", {plural(len(plan.jobs), 'job')} of the queue" if plan.jobs else ""
    say(f"{plan.removal.what}: {size_words(plan.size_bytes)}{jobs}")
    for line in plan.consequences:
        say(f"note: {line}")
    if not dry_run:
        if not yes:
            if not sys.stdin.isatty():
                raise HeadstartError(f"nobody can be asked whether {plan.removal.what} should go for good. Say so: --yes")
            click.confirm("Remove it for good?", abort=True, err=True)
        finish_removals(opened_workspace)
        perform(opened_workspace, plan.removal)
        say(f"removed {plan.removal.what}")
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    return 0
