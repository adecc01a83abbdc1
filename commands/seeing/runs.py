"""`headstart runs`: trained heads and their numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.options import as_json, chosen_workspace, workspace_option
from headstart.commands.output.terminal import aligned, interval_text, say, write_line
from headstart.pipeline.text import plural

if TYPE_CHECKING:
    from headstart.experiments.runs.catalog import Line


@click.group("runs", invoke_without_command=True)
@click.option("--csv", "as_csv", is_flag=True, help="A line a run with all that the database knows of it.")
@click.option("--rebuild", is_flag=True, help="Make the database again from the folders of the experiments.")
@as_json
@workspace_option
@click.pass_context
def command(context: click.Context, as_csv: bool, rebuild: bool, as_json: bool, workspace: str | None) -> None:
    """List trained heads, the newest last.

    `runs show N` has all about one, `runs compare A B` says whether one is better than another. The numbers are those in the
    experiments' folders: where the database says something else, it is mended.
    """
    from headstart.experiments.runs.catalog import list_runs

    if context.invoked_subcommand is not None:
        return
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    if rebuild:
        from headstart.experiments.runs.database.synchronize import rebuild as make_again

        say(f"the database was made again: {plural(make_again(chosen_workspace(workspace)), 'run')}")
    if as_csv:
        _write_csv(workspace)
        return
    lines = list_runs(chosen_workspace(workspace), say)
    if as_json:
        click.echo(json.dumps({"runs": [line.as_json() for line in lines]}, indent=1))
        return
    head = ["run", "experiment", "head", "task", "images", "metric", "validation", "test", "95 % interval"]
    rows, alignment = [head, *map(_cells, lines)], ">" + "<<<><>><"
    if any(line.leaking is not None for line in lines):
        rows = [[*row, cell] for row, cell in zip(rows, ["leaking", *map(_leaking, lines)], strict=True)]
        alignment += ">"
    for text in aligned(rows, alignment):
        click.echo(text)


@command.command("show")
@click.argument("run", metavar="N|best")
@as_json
@workspace_option
def show(run: str, as_json: bool, workspace: str | None) -> None:
    """Show how a head was trained, epoch by epoch, and what was measured at the end, class by class."""
    from headstart.commands.output.recipe import lines as recipe_lines
    from headstart.commands.output.run import run_lines
    from headstart.experiments.evaluation.record import show_run
    from headstart.experiments.runs.recipe_experiment import RecipeExperiment

    opened_workspace = chosen_workspace(workspace)
    shown = show_run(run, opened_workspace)
    if as_json:
        click.echo(json.dumps(shown.record, indent=1))
        return
    if isinstance(shown.run, RecipeExperiment):
        lines = iter(recipe_lines(opened_workspace, shown.run, as_json=False))
    else:
        lines = run_lines(shown.run, shown.record)
    for line in lines:
        click.echo(line)


@command.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@as_json
@workspace_option
def compare(first: str, second: str, as_json: bool, workspace: str | None) -> None:
    """Say whether run A is better than run B on the same test images: two heads, or two trainings of recipes."""
    from headstart.commands.output.run import verdict
    from headstart.experiments.evaluation.evaluate_run import compare_runs

    compared = compare_runs(first, second, chosen_workspace(workspace))
    if as_json:
        click.echo(json.dumps(compared.as_json(), indent=1))
        return
    click.echo(f"A  {compared.first.words}\nB  {compared.second.words}")
    for result in compared.results:
        click.echo(verdict(result))


def _write_csv(workspace: str | None) -> None:
    from headstart.experiments.runs.database.synchronize import open_synchronized

    with open_synchronized(chosen_workspace(workspace)) as database:
        names, rows = database.wide()
    write_line(names)
    for row in rows:
        write_line(["" if value is None else str(value) for value in row])


def _leaking(line: Line) -> str:
    """What a split says that leaks: not to be taken for the number on test, so it stands last and is named so."""
    return "" if line.leaking is None else f"{line.leaking:.4f}"


def _cells(line: Line) -> list[str]:
    def shown(value: Any) -> str:
        return "-" if value is None else f"{value:.4f}"

    run = line.run
    images = "-" if line.images is None else f"{line.images:,}"
    return [
        str(run.run),
        run.experiment,
        run.head,
        run.task,
        images,
        line.metric,
        shown(line.validation),
        shown(line.test),
        interval_text(line.interval),
    ]
