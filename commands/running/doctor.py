"""`headstart doctor`: is everything here that the work needs?"""

from __future__ import annotations

import json
from collections import Counter

import click

from headstart.commands.options import as_json, workspace_option
from headstart.commands.output.terminal import say


@click.command("doctor")
@as_json
@workspace_option
def command(as_json: bool, workspace: str | None) -> int:
    """Look at this machine and this workspace: each line is ok, or says its fix. Exits with 1 if something is wrong.

    A note is something that not everybody needs. It changes nothing and, without a GPU, loads no torch.
    """
    from headstart.features.planning.machine import WRONG, examine_machine
    from headstart.pipeline.text import one_line, plural
    from headstart.pipeline.workspace import find_root

    lines = examine_machine(find_root(workspace))
    counts = Counter(line.state for line in lines)
    if as_json:
        click.echo(json.dumps({"lines": [line.as_json() for line in lines], "wrong": counts[WRONG]}, indent=1))
        return int(counts[WRONG] > 0)
    width = max(len(line.subject) for line in lines)
    for line in lines:
        click.echo(one_line(f"{line.subject:<{width}}  {line.state:<5}  {line.text}"))
        if line.fix:
            click.echo(one_line(f"{'':<{width}}         fix: {line.fix}"))
    if counts[WRONG]:
        say(f"{plural(counts[WRONG], 'line')} wrong")
    return int(counts[WRONG] > 0)
