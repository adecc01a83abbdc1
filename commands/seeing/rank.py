"""`headstart rank`: sets of parameters for one image, best first."""

from __future__ import annotations

import json
from pathlib import Path

import click

from headstart.commands.options import as_json, chosen_workspace, run_option, workspace_option
from headstart.commands.output.terminal import aligned, say, write_line


@click.command("rank")
@click.argument("image", type=click.Path(path_type=Path))
@run_option
@click.option(
    "--grid", type=click.Path(path_type=Path), metavar="FILE.yaml", help="A list of values for each parameter; all combinations."
)
@click.option("--sets", "count", type=int, default=10_000, show_default=True, help="Drawn evenly, where no grid is given.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many are shown.")
@click.option("--lowest-first", is_flag=True, help="Where less is better.")
@click.option("--csv", "as_csv", is_flag=True, help="All of them as CSV.")
@as_json
@workspace_option
def command(
    image: Path,
    run: str,
    grid: Path | None,
    count: int,
    seed: int,
    top: int,
    lowest_first: bool,
    as_csv: bool,
    as_json: bool,
    workspace: str | None,
) -> None:
    """Sort sets of parameters for IMAGE by what a trained head predicts of them, without running what they are for.

    The run is one of the recipe quality, or of train-head with --aux. The encoder sees the image once.
    """
    from headstart.experiments.serving.rank import as_mapping, rank_parameters

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    ranking = rank_parameters(
        image, chosen_workspace(workspace), run=run, grid=grid, count=count, seed=seed, lowest_first=lowest_first
    )
    shown = range(min(top, len(ranking.sets)))
    if as_json:
        said = [{ranking.target: float(ranking.predicted[place]), "parameters": as_mapping(ranking, place)} for place in shown]
        seconds = {"encoder_s": ranking.encoder_s, "head_s": ranking.head_s}
        click.echo(json.dumps({"run": ranking.said_by, "sets": len(ranking.sets), **seconds, "best": said}, indent=1))
        return
    rows = [[ranking.target, *ranking.names]]
    if as_csv:
        write_line(rows[0])
        for predicted, values in zip(ranking.predicted.tolist(), ranking.sets.tolist(), strict=True):
            write_line([f"{predicted:.6f}", *(f"{value:g}" for value in values)])
        return
    rows += [[f"{ranking.predicted[place]:.4f}", *(f"{value:g}" for value in ranking.sets[place])] for place in shown]
    for line in aligned(rows, ">" * len(rows[0])):
        click.echo(line)
    say(
        f"{len(ranking.sets):,} sets by {ranking.said_by}: encoder {ranking.encoder_s:.2f} s, head {ranking.head_s:.2f} s, "
        f"predicted {ranking.predicted.min():.4f} to {ranking.predicted.max():.4f}"
    )
