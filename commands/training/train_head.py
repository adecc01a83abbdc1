"""`headstart train-head`: heads on the features that are there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.options import Duration, as_json, chosen_workspace, workspace_option
from headstart.commands.output.terminal import Teller

from .head_options import baseline_options, head_options, heads_of, training_options

if TYPE_CHECKING:
    from headstart.pipeline.workspace import Workspace


@click.command("train-head")
@click.option("--encoder", metavar="FOLDER|NAME", help="Whose features, if there are several encoders.")
@click.option("--data", metavar="NAME", help="Only the images of this data set: its name, or a part of it. [default: all]")
@click.option(
    "--task",
    type=click.Choice(["auto", "classification", "regression"]),
    default="auto",
    show_default=True,
    help="auto: several targets, fractions, or more than 100 different numbers are a regression.",
)
@click.option("--target", "targets", multiple=True, metavar="COLUMN", help="What to predict, instead of the label; repeatable.")
@click.option("--aux", "auxiliary", multiple=True, metavar="COLUMN", help="Numbers that stand after the features; repeatable.")
@click.option(
    "--val-part",
    type=click.FloatRange(0, 0.5, min_open=True),
    metavar="X",
    help="Part of the training images to choose heads by, if the data has no validation split. [default: 0.1]",
)
@click.option(
    "--quantum",
    type=click.IntRange(1, 12),
    metavar="N",
    help="A simulated circuit of N qubits, beside a linear and an equally large "
    "classical head: the recipe quantum, which headstart train quantum has with all its options.",
)
@click.option("--layers", type=click.IntRange(1, 64), default=3, show_default=True, help="Of the circuit.")
@head_options
@training_options
@baseline_options
@click.option("--name", help="Of the experiment. The same options under a new name train anew.")
@click.option(
    "--time-limit",
    type=Duration(),
    metavar="55m",
    help="Leave by then, with a checkpoint and exit code 10; the same command goes on.",
)
@as_json
@workspace_option
def command(
    encoder: str | None,
    data: str | None,
    task: str,
    targets: tuple[str, ...],
    auxiliary: tuple[str, ...],
    val_part: float | None,
    quantum: int | None,
    layers: int,
    name: str | None,
    time_limit: float | None,
    as_json: bool,
    workspace: str | None,
    **given: Any,
) -> int:
    """Train heads on the features that are there, all of them in one pass.

    Without options: one linear head, and what needs no gradient or hardly one: ridge, LDA, nearest class mean, and the best of
    twelve logistic regressions. All of them are runs; logistic regression is chosen unless another is better on validation
    beyond doubt, and the test split is read once, at the end. Kill it whenever you must: the same command, or `headstart work`,
    goes on from the last checkpoint and ends in the same bits. When it is done, it says so and trains nothing.

    \b
    headstart train-head --ablation              linear, MLP-512, MLP-512 with augmentation
    headstart train-head --ablation grid.yaml    every combination of, for example,
                                                     hidden: [0, 512, [1024, 256]]
                                                     learning_rate: [0.001, 0.003]
    headstart train-head --hidden 512 --dropout 0.3 --seeds 5
    headstart train-head --preset quality --target score --aux sharpness --aux exposure
    """
    from headstart.commands.output.training import training_lines
    from headstart.experiments.config import TrainingOptions, usual_steps
    from headstart.experiments.evaluation.record import as_record
    from headstart.experiments.runs.database.rows import run_numbers
    from headstart.experiments.runs.experiment import read_metrics
    from headstart.experiments.train_heads import train_heads

    opened_workspace, teller = chosen_workspace(workspace), Teller()
    if quantum is not None:
        return _quantum(opened_workspace, quantum, layers, encoder, name, time_limit, as_json, given)
    ablation, preset, seeds, seed = (given.pop(key) for key in ("ablation", "preset", "seeds", "seed"))
    shared = {key: given[key] for key in ("batch_size", "accumulation", "warmup", "patience", "by_blocks")}
    heads = heads_of(ablation, preset, seeds, seed, given)
    # Without a word on epochs, steps decide: ten epochs of a small set are too few.
    shared |= {"steps": usual_steps(heads)} if given["epochs"] is None else {"epochs": given["epochs"]}
    shared |= {"amp": given["amp"] is True, "float32": given["amp"] is False}
    monitor = given["monitor"] or ("pearson" if preset == "quality" else "auto")
    trained = train_heads(
        heads,
        opened_workspace,
        encoder=encoder,
        data=data,
        task=task,
        targets=targets,
        auxiliary=auxiliary,
        val_part=val_part,
        options=TrainingOptions(**shared, monitor=monitor, seed=seed, device=given["device"]),
        logistic=given["logistic"],
        folds=given["folds"] or 0,
        name=name,
        time_limit_s=time_limit,
        report=teller.say,
    )
    if not trained.is_finished:
        if as_json:
            unfinished = {"experiment": trained.experiment.folder.name, "finished": False}
            click.echo(json.dumps(unfinished, indent=1))
        return trained.exit_code
    experiment = trained.experiment
    if as_json:
        click.echo(json.dumps(as_record(opened_workspace, experiment), indent=1))
        return 0
    teller.show(training_lines(experiment, read_metrics(experiment), opened_workspace.database, run_numbers(experiment)))
    return 0


_OF_THE_CIRCUIT = ("epochs", "batch_size", "learning_rate", "weight_decay", "seed", "device")
_USUAL = {"batch_size": 128, "accumulation": 1, "warmup": 0.05, "patience": 0, "seed": 0, "seeds": 1, "device": "auto"}


def _quantum(
    workspace: Workspace,
    qubits: int,
    layers: int,
    encoder: str | None,
    name: str | None,
    time_limit: float | None,
    as_json: bool,
    given: dict[str, Any],
) -> int:
    """Trains the recipe quantum; options of other heads do not go with it."""
    from headstart.commands.output.recipe import lines
    from headstart.experiments.train_recipe import train_recipe

    changed = [
        key for key, value in given.items() if value not in (None, False, _USUAL.get(key)) or (key, value) == ("amp", False)
    ]
    others = [key for key in changed if key not in _OF_THE_CIRCUIT]
    if others:
        raise click.UsageError(
            f"--{others[0].replace('_', '-')} does not go with --quantum; headstart train quantum --help lists what does"
        )
    values = {key: given[key] for key in _OF_THE_CIRCUIT[:-1] if given[key] not in (None, _USUAL.get(key))}
    values |= {"qubits": qubits, "layers": layers} | ({} if encoder is None else {"data": encoder})
    teller = Teller()
    trained = train_recipe(
        "quantum", values, workspace, device=given["device"], name=name, time_limit_s=time_limit, report=teller.say
    )
    if trained.experiment is None or not trained.is_finished:
        return trained.exit_code
    teller.show(lines(workspace, trained.experiment, as_json))
    return 0
