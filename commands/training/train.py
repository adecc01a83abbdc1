"""`headstart train`: any recipe's model, as a job that nothing can interrupt for good."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.options import Duration, as_json, device_option, option_of, ram_budget, vram_budget, workspace_option
from headstart.commands.output.terminal import Teller, aligned, say

if TYPE_CHECKING:
    from headstart.experiments.runs.recipe_experiment import RecipeExperiment
    from headstart.experiments.training.options import Field
    from headstart.experiments.training.recipe import NamedRecipe
    from headstart.pipeline.workspace import Workspace


class _Recipes(click.Group):
    """One command a recipe, with that recipe's options; a file is loaded only when it is named."""

    def list_commands(self, context: click.Context) -> list[str]:
        from headstart.experiments.training.recipe import known_recipes

        return sorted(known_recipes())

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return _command_of(name)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from headstart.experiments.training.recipe import known_recipes

        with formatter.section("Recipes"):
            formatter.write_dl(sorted(known_recipes().items()))


@click.group("train", cls=_Recipes, invoke_without_command=True, subcommand_metavar="RECIPE [DATA] [OPTIONS]")
@click.option("--list", "is_list", is_flag=True, help="List the recipes.")
@as_json
@click.pass_context
def command(context: click.Context, is_list: bool, as_json: bool) -> None:
    """Train a model of any kind, by a recipe.

    RECIPE is one of the recipes below, or a file of your own: ./mine.py. Kill it whenever you must: the same command, or
    `headstart work`, goes on from the last checkpoint and ends in the same bits. `headstart train RECIPE --help` has its options.
    """
    from headstart.experiments.training.recipe import known_recipes

    if context.invoked_subcommand is not None:
        return
    if not is_list:
        raise click.UsageError("name a recipe; headstart train --list has them")
    if as_json:
        click.echo(json.dumps({"recipes": known_recipes()}, indent=1))
        return
    for line in aligned([["recipe", "what it trains"], *([*one] for one in sorted(known_recipes().items()))], "<<"):
        click.echo(line)


def _command_of(name: str) -> click.Command:
    from headstart.experiments.training.options import fields_of
    from headstart.experiments.training.recipe import named_recipe

    named = named_recipe(name)
    fields = fields_of(named.recipe.Options)

    def run(**given: Any) -> int:
        return _run(named, fields, given)

    for option in reversed(_RUNNING):
        run = option(run)
    for field in reversed(fields):  # the first to be shown
        run = option_of(field)(run)
    if named.recipe.Options.PRESETS:
        run = _preset_option(named.recipe.Options.PRESETS)(run)
    return click.Command(name, callback=run, params=run.__click_params__[::-1], help=_help(named.recipe.__doc__))  # type: ignore[attr-defined]


def _help(said: str | None) -> str:
    """What a recipe says of itself; click would run its commands together, as it does the lines of a paragraph."""
    parts = inspect.cleandoc(said or "").split("\n\n")
    return "\n\n".join(f"\b\n{part}" if part.startswith("headstart ") else part for part in parts)


def _preset_option(presets: Mapping[str, Mapping[str, Any]]) -> Callable[..., Any]:
    said = "; ".join(f"{name}: {' '.join(itertools.starmap(_flag, values.items()))}" for name, values in presets.items())
    return click.option(
        "--preset", type=click.Choice(list(presets)), help=f"What it begins from; options below change it. {said}."
    )


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    return f"--{'' if value else 'no-'}{flag}" if isinstance(value, bool) else f"--{flag} {value}"


_RUNNING: tuple[Callable[..., Any], ...] = (
    click.option(
        "--config", type=click.Path(path_type=Path), metavar="FILE.yaml", help="Options from a file; flags go before it."
    ),
    click.option("--name", help="Of the experiment. The same options under a new name train anew."),
    click.option("--dry-run", is_flag=True, help="Train nothing: say what the data holds and what it would take."),
    click.option("--test-only", is_flag=True, help="Train nothing: judge what was trained again, from its weights."),
    click.option("--run", type=int, metavar="N", help="With --test-only: of that run, see `headstart runs`."),
    click.option(
        "--time-limit",
        type=Duration(),
        metavar="55m",
        help="Leave by then, with a checkpoint and exit code 10; the same command goes on.",
    ),
    device_option,
    click.option("--save-every", type=click.IntRange(0), default=0, metavar="N", help="Steps between checkpoints, besides time."),
    click.option("--save-seconds", type=Duration(), default=30.0, metavar="30s", help="Time between checkpoints. [default: 30s]"),
    click.option(
        "--data-workers",
        default="auto",
        metavar="N|auto",
        callback=lambda context, parameter, value: _workers(value),
        help="Processes that read ahead.",
    ),
    click.option("--tensorboard", is_flag=True, help="Write numbers for TensorBoard, too, into the experiment's folder."),
    click.option("--mlflow", metavar="URI", help="Send numbers and results to MLflow, too: the URI of its server."),
    ram_budget,
    vram_budget,
    as_json,
    workspace_option,
)


def _workers(value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a number nor 'auto'")
    return int(value)


def _run(named: NamedRecipe, fields: list[Field], given: dict[str, Any]) -> int:
    from headstart.commands.output.recipe import lines
    from headstart.experiments.train_recipe import plan_recipe, train_recipe, trained_recipe
    from headstart.experiments.training.conduct import Conduct
    from headstart.experiments.training.options import merged_options
    from headstart.pipeline.workspace import find_root, open_or_create_workspace

    names, config = ("preset", *(field.name for field in fields)), given["config"]
    values = {name: given[name] for name in names if given.get(name) is not None}
    merged_options(named.recipe.Options, values, config)  # before there is a workspace
    workspace = open_or_create_workspace(find_root(given["workspace"]))
    if given["run"] is not None and not given["test_only"]:
        raise click.UsageError("--run goes with --test-only")
    asked = {"config": config, "device": given["device"], "name": given["name"]}
    if given["dry_run"]:
        plan = plan_recipe(named, values, workspace, config=config, device=given["device"])
        click.echo(json.dumps(plan.as_json(), indent=1) if given["as_json"] else "\n".join(plan.lines))
        return 0
    if given["test_only"]:
        experiment = trained_recipe(named, values, workspace, **asked, run=given["run"])
        judge_again(workspace, experiment, "test" if "test" in experiment.counts else "val", given["as_json"])
        return 0
    conduct = Conduct(
        save_every=given["save_every"],
        save_s=given["save_seconds"],
        data_workers=given["data_workers"],
        tensorboard=given["tensorboard"],
        mlflow=given["mlflow"],
        ram_bytes=given["ram_budget"],
        vram_bytes=given["vram_budget"],
    )
    teller, limit_s = Teller(), given["time_limit"]
    trained = train_recipe(named, values, workspace, **asked, conduct=conduct, time_limit_s=limit_s, report=teller.say)
    if trained.experiment is None or not trained.is_finished:
        return trained.exit_code
    teller.show(lines(workspace, trained.experiment, given["as_json"]))
    return 0


def judge_again(workspace: Workspace, experiment: RecipeExperiment, split: str, as_json: bool) -> None:
    """Prints what a finished training's weights say of a split, and whether training noted the same."""
    from headstart.commands.output.recipe import heads_table, table
    from headstart.experiments.evaluation.evaluate_recipe import evaluate_recipe, is_as_noted

    metrics = evaluate_recipe(workspace, experiment, split)
    if as_json:
        click.echo(json.dumps({"experiment": experiment.folder.name, "split": split, **metrics}, indent=1))
    else:
        click.echo(f"{experiment.folder.name}, judged again from {experiment.final_weights}")
        for line in [*table({split: metrics}, {split: experiment.counts[split]}), *heads_table(metrics)]:
            click.echo(line)
    if is_as_noted(experiment, split, metrics) is False:
        say("warning: these are not the numbers that training noted: other versions of a library, or another machine")
