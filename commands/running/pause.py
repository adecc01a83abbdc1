"""`headstart pause`: stops a training that is queued or running, until it is to go on."""

from __future__ import annotations

import click

from headstart.commands.options import chosen_workspace, workspace_option
from headstart.commands.output.terminal import say


@click.command("pause")
@click.argument("experiment")
@click.option(
    "--cancel", is_flag=True, help="For good: no hint that it waits is shown any more. Its checkpoints stay until removed."
)
@click.option("--undo", is_flag=True, help="Let it go on: the next worker takes it from its last checkpoint.")
@workspace_option
def command(experiment: str, cancel: bool, undo: bool, workspace: str | None) -> int:
    """Stop a training that is queued or running; a worker that is at it leaves it with a checkpoint.

    EXPERIMENT is its folder, number or name. The same train-head command lets it go on, too.
    """
    from headstart.experiments.runs.withdrawal import set_state
    from headstart.pipeline.retire import CANCELLED, LIVE, PAUSED

    if cancel and undo:
        raise click.UsageError("--cancel and --undo exclude each other")
    state = LIVE if undo else CANCELLED if cancel else PAUSED
    name = set_state(chosen_workspace(workspace), experiment, state)
    goes_on = "goes on with the next: headstart work" if undo else f"was {state}; go on: headstart pause {name} --undo"
    say(f"{name} {goes_on}")
    return 0
