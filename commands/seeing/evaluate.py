"""`headstart evaluate`: how good a trained head is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.options import as_json, chosen_workspace, workspace_option
from headstart.commands.output.terminal import say, write_line
from headstart.commands.training.train import judge_again

if TYPE_CHECKING:
    from headstart.experiments.evaluation.evaluate_run import Scored
    from headstart.pipeline.workspace import Workspace


@click.command("evaluate")
@click.argument("run", default="best", metavar="[best|N]")
@click.option("--split", type=click.Choice(["test", "val"]), default="test", show_default=True, help="Images to judge by.")
@click.option("--csv", "as_csv", is_flag=True, help="What it says of each image instead, and what is true; one line an image.")
@click.option(
    "--reader", metavar="N", help="Of a run of handwriting instead: how well this run of recogniser reads what it writes."
)
@click.option(
    "--seen-by", metavar="N", help="Of a run of abstractor instead: how good it is at what this run of unet sees of the designs."
)
@click.option("--judge", metavar="N", help="Of a run of diffusion instead: what this run of critic says of what it draws.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="With --judge: where to put some of these pictures."
)
@as_json
@workspace_option
def command(
    run: str,
    split: str,
    as_csv: bool,
    reader: str | None,
    seen_by: str | None,
    judge: str | None,
    output: Path | None,
    as_json: bool,
    workspace: str | None,
) -> None:
    """Judge a trained head again.

    It is read from its file, and the images' features from the cache. Baselines on the same features stand beside it.

    A run of `headstart train` is judged from its weights and its data. N is a run's number, see `headstart runs`. `best` is the
    head that did best on validation among the finished ones that share task and targets with the newest experiment of heads.
    """
    from headstart.commands.output.evaluation import evaluation_lines
    from headstart.experiments.evaluation.evaluate_run import evaluate_run, score_run
    from headstart.experiments.runs.catalog import choose_run, recipe_of_run

    others = {"--reader": reader, "--seen-by": seen_by, "--judge": judge}
    ways = [*(["--csv"] if as_csv else []), *(name for name, value in others.items() if value is not None)]
    if len(ways) > 1 or (as_csv and as_json):
        raise click.UsageError(f"{' and '.join(ways if len(ways) > 1 else ['--csv', '--json'])} exclude each other")
    if output is not None and judge is None:
        raise click.UsageError("--output is for --judge")
    opened_workspace = chosen_workspace(workspace)
    if ways and not as_csv:
        _evaluate_with(run, opened_workspace, split, as_json, reader, seen_by, judge, output)
        return
    experiment = recipe_of_run(opened_workspace, run)
    if experiment is not None:
        if as_csv:
            raise click.UsageError("--csv is for trained heads")
        judge_again(opened_workspace, experiment, split, as_json)
        return
    if as_csv:
        _write_csv(score_run(opened_workspace, choose_run(opened_workspace, run), split))
        return
    evaluation = evaluate_run(run, opened_workspace, split=split)
    if as_json:
        click.echo(json.dumps(evaluation.as_json(), indent=1))
    else:
        for line in evaluation_lines(evaluation):
            click.echo(line)
    if evaluation.is_as_noted is False:
        say("warning: these are not the numbers that training noted: other versions of a library, or another machine")


def _evaluate_with(
    run: str,
    workspace: Workspace,
    split: str,
    as_json: bool,
    reader: str | None,
    seen_by: str | None,
    judge: str | None,
    output: Path | None,
) -> None:
    """What another run says of it, or makes of its data."""
    from headstart.commands.output.evaluation import abstractor_lines, designs_lines, handwriting_lines

    lines: Iterator[str]
    if reader is not None:
        from headstart.experiments.evaluation.evaluate_handwriting import evaluate_handwriting

        read = evaluate_handwriting(run, reader, workspace, split=split)
        said, lines = read.as_json(), handwriting_lines(read)
    elif seen_by is not None:
        from headstart.experiments.evaluation.evaluate_abstractor import evaluate_abstractor

        seen = evaluate_abstractor(run, seen_by, workspace, split=split)
        said, lines = seen.as_json(), abstractor_lines(seen)
    else:
        from headstart.experiments.evaluation.evaluate_designs import evaluate_designs

        drawn = evaluate_designs(run, str(judge), workspace, split=split)
        said, lines = drawn.as_json(), designs_lines(drawn)
        if output is not None:
            _write_pictures(drawn.pictures, output)
    if as_json:
        click.echo(json.dumps(said, indent=1))
        return
    for line in lines:
        click.echo(line)


def _write_pictures(pictures: Iterable[tuple[str, Any]], output: Path) -> None:
    from headstart.experiments.serving.sample_run import write_samples
    from headstart.experiments.training.recipe import named_file

    for path in write_samples((named_file("evaluate", name, picture) for name, picture in pictures), output, force=True):
        say(f"{path} written")


def _write_csv(scored: Scored) -> None:
    from headstart.experiments.evaluation.evaluate_run import answers_of
    from headstart.pipeline.text import number_text

    names, is_classes = scored.head.names, scored.head.task == "classification"
    columns = ["label", "probability", "true_label"] if is_classes else [*names, *(f"true_{name}" for name in names)]
    write_line(["path", *columns])
    for path, said, true in answers_of(scored):
        cells = [names[said.argmax()], f"{said.max():.9g}"] if is_classes else list(map(number_text, said))
        write_line([path, *cells, *true])
