"""`headstart watch`: a live view of who works, how fast, and what the features are worth so far."""

from __future__ import annotations

import sys
import time

import click

from headstart.commands.options import chosen_workspace, workspace_option


@click.command("watch")
@click.option("--every", "every_s", type=click.FloatRange(min=0.2), default=1.0, show_default=True, help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Look once and leave; so does output that is no terminal.")
@workspace_option
def command(every_s: float, once: bool, workspace: str | None) -> None:
    """Watch the work: the score so far, the rate, workers with their memory, failures. ^C leaves; it changes nothing.

    It ends by itself when nothing is left to do and nobody is at work. Colours are never the only sign, and NO_COLOR
    turns them off.
    """
    from rich.console import Console
    from rich.live import Live

    from headstart.commands.output.live import Rates, draw_snapshot, take_snapshot

    opened_workspace = chosen_workspace(workspace)
    root, rates = str(opened_workspace.root), Rates()
    # Past the escaping of every stream, because rich draws with escape sequences; texts from data are escaped one by one.
    console = Console(file=getattr(sys.stdout, "unguarded", sys.stdout), highlight=False)
    begun = time.monotonic()
    snapshot = take_snapshot(opened_workspace)
    rates.add(snapshot)
    if once or not console.is_terminal:
        console.print(draw_snapshot(root, snapshot, rates))
        return
    with Live(draw_snapshot(root, snapshot, rates), console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while not snapshot.is_over:
            # A look at a huge queue takes seconds; it may cost a tenth of the time at most.
            time.sleep(max(every_s, 9 * (time.monotonic() - begun)))
            begun = time.monotonic()
            snapshot = take_snapshot(opened_workspace)
            rates.add(snapshot)
            live.update(draw_snapshot(root, snapshot, rates), refresh=True)
