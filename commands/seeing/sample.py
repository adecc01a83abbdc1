"""`headstart sample`: what a trained recipe makes when it is asked to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.options import as_json, chosen_workspace, option_of, workspace_option
from headstart.pipeline.errors import HeadstartError

if TYPE_CHECKING:
    from headstart.experiments.runs.recipe_experiment import RecipeExperiment
    from headstart.experiments.training.options import Field


@click.command(
    "sample",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    options_metavar="[OPTIONS]",
)
@click.argument("run", metavar="RUN", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path(), metavar="DIR", help="Where. [default: here]")
@click.option("--force", is_flag=True, help="Replace what lies there.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE.yaml", help="Options from a file; flags go before it.")
@click.option("-h", "--help", "is_help", is_flag=True, help="Show this message, with RUN also what its recipe can be told.")
@as_json
@workspace_option
@click.pass_context
def command(
    context: click.Context,
    run: str | None,
    output: Path,
    force: bool,
    config: Path | None,
    is_help: bool,
    as_json: bool,
    workspace: str | None,
) -> int:
    """Make samples by a trained recipe: RUN is its number, see `headstart runs`.

    `headstart sample RUN --help` has the options of that recipe. The same seed gives the same bytes.
    """
    from headstart.experiments.runs.catalog import recipe_of_run

    if run is None:
        if is_help:
            click.echo(context.get_help())
            return 0
        raise click.UsageError("name a run: headstart runs has their numbers")
    experiment = recipe_of_run(chosen_workspace(workspace), run)
    if experiment is None:
        raise HeadstartError(f"run {run} is no training of a recipe that samples. headstart runs lists them")
    values = _values(experiment, context, is_help)
    if values is None:
        return 0
    return _write(experiment, values, config, output, force, as_json)


def _values(experiment: RecipeExperiment, context: click.Context, is_help: bool) -> dict[str, Any] | None:
    """What the flags of that recipe say; None: its help was shown."""
    from headstart.experiments.serving.sample_run import sampling_fields

    fields, said = sampling_fields(experiment), dict[str, Any]()
    asking = click.Command(
        f"{context.command_path} RUN",
        params=[param for param in context.command.params if param.name not in ("run", "is_help")],
        callback=lambda **given: said.update(given),
        help=f"Make samples by {experiment.folder.name}, a training of the recipe {experiment.recipe}.",
    )
    for field in fields:
        asking = option_of(field)(asking)
    if is_help:
        with click.Context(asking, info_name=asking.name) as inner:
            click.echo(asking.get_help(inner))
        return None
    with asking.make_context(asking.name, _joined(context.args, fields)) as inner:
        asking.invoke(inner)
    return {field.name: said[field.name] for field in fields if said[field.name] is not None}


def _joined(words: Sequence[str], fields: Sequence[Field]) -> list[str]:
    """Several words behind a flag that takes several values are one: `--biases 1 2` says `--biases 1,2`."""
    separators = {field.flag: field.about.separator for field in fields if field.is_many}
    joined, flag = list[str](), ""
    for word in words:
        if word.startswith("--"):
            flag = word
        elif flag in separators and joined[-1] != flag:
            joined[-1] += separators[flag] + word
            continue
        joined.append(word)
    return joined


def _write(
    experiment: RecipeExperiment, values: dict[str, Any], config: Path | None, output: Path, force: bool, as_json: bool
) -> int:
    from headstart.experiments.serving.recipe_run import open_trained
    from headstart.experiments.serving.sample_run import sample_run, write_samples
    from headstart.pipeline.text import printable

    written = [str(path) for path in write_samples(sample_run(open_trained(experiment), values, config), output, force)]
    if as_json:
        click.echo(json.dumps({"experiment": experiment.folder.name, "files": written}, indent=1))
        return 0
    for path in written:
        click.echo(printable(path))
    return 0
