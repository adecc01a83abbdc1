"""`headstart allow`: lets a file that is code run for this user on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from headstart.commands.output.terminal import say


@click.command("allow")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def command(file: Path) -> None:
    """Let FILE, a recipe or a kind of job of your own or of somebody else's workspace, run on this machine. Read it first.

    Allowed are these bytes, with those of the modules beside it that it imports; once changed, it is asked about again.
    `headstart train ./mine.py` allows the file that it names by itself.
    """
    from headstart.pipeline.doors.code import allow_named

    code = allow_named(file)
    for name, _ in code.files:
        say(f"allowed: {code.path.parent / name}")
