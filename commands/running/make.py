"""`headstart make`: whatever a file of one's own makes, as jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.options import Duration, as_json, option_of, workspace_option
from headstart.commands.output.terminal import say

if TYPE_CHECKING:
    from headstart.experiments.make_items import NamedKind


class _Files(click.Group):
    """One command a file, with that file's options; it is loaded only when it is named."""

    def list_commands(self, context: click.Context) -> list[str]:
        return []

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return _command_of(name)


@click.group("make", cls=_Files, subcommand_metavar="FILE [OPTIONS]")
def command() -> None:
    """Make anything item by item, by a file of your own: pictures, results of a program, a synthetic world.

    FILE says its options, how many items there are, and what one becomes; docs/making.md shows a whole one. Items are made as
    jobs: kill it whenever you must, the same command goes on, and `headstart work` in another terminal helps.
    `headstart make FILE --help` has the file's options.
    """


def _command_of(name: str) -> click.Command:
    from headstart.experiments.make_items import named_kind
    from headstart.experiments.training.options import fields_of

    named = named_kind(name)
    fields = fields_of(named.kind.Options)

    def run(**given: Any) -> int:
        return _run(named, {field.name: given[field.name] for field in fields if given[field.name] is not None}, given)

    for option in reversed(_RUNNING):
        run = option(run)
    for field in reversed(fields):  # the first to be shown
        run = option_of(field)(run)
    return click.Command(name, callback=run, params=run.__click_params__[::-1], help=named.kind.__doc__)  # type: ignore[attr-defined]


_RUNNING = (
    click.option(
        "--config", type=click.Path(path_type=Path), metavar="FILE.yaml", help="Options from a file; flags go before it."
    ),
    click.option("--enqueue-only", is_flag=True, help="Queue the jobs and leave them to `headstart work`."),
    click.option(
        "--time-limit", type=Duration(), metavar="55m", help="Leave by then, with exit code 10; the same command goes on."
    ),
    as_json,
    workspace_option,
)


def _run(named: NamedKind, values: dict[str, Any], given: dict[str, Any]) -> int:
    from headstart.commands.output.progress import ProgressDisplay
    from headstart.experiments.make_items import make_items
    from headstart.experiments.training.options import merged_options
    from headstart.pipeline.workspace import find_root, open_or_create_workspace

    merged_options(named.kind.Options, values, given["config"])  # before there is a workspace
    workspace = open_or_create_workspace(find_root(given["workspace"]))
    with ProgressDisplay(workspace) as progress:
        made = make_items(
            named,
            values,
            workspace,
            config=given["config"],
            time_limit_s=given["time_limit"],
            is_only_queued=given["enqueue_only"],
            report=say,
            heard=progress.show,
        )
    if given["as_json"]:
        facts = {"folder": str(made.folder), "items": made.items, "ok": made.ok, "failed": made.failed}
        click.echo(json.dumps({**facts, "is_finished": made.is_finished}, indent=1))
        return made.exit_code
    if made.is_finished:
        click.echo(f"made {made.ok:,} of {made.items:,} items")
        click.echo(f'read them  headstart.open_made("{made.folder}")')
    if made.failed:
        say(f"note: {made.failed:,} items could not be made; why: headstart status --failed")
    return made.exit_code
