"""Options that say which heads `train-head` trains, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.options import ParamType, device_option
from headstart.experiments.config import ACTIVATIONS, CLASS_WEIGHTS, DEFAULT_ABLATION, MONITORS, OPTIMIZERS, OUTPUTS, PRESETS

if TYPE_CHECKING:
    from headstart.experiments.config import HeadConfig

_Command = Callable[..., Any]
_OF_EACH_HEAD = (
    "hidden", "activation", "batch_norm", "dropout", "output", "optimizer", "learning_rate", "momentum", "weight_decay",
    "label_smoothing", "noise", "mixup", "clip_norm", "class_weights",
)  # fmt: skip


class Widths(ParamType[tuple[int, ...]]):
    """`512` or `1024,512,256`; `0` for a linear head."""

    name = "widths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        if not all(word.strip().isdecimal() for word in words):
            self.fail(f"{value!r} is no list of widths, such as 512 or 1024,512,256 (0 for a linear head)", param, ctx)
        widths = tuple(int(word) for word in words)
        return () if widths == (0,) else widths


class Fractions(ParamType[float | tuple[float, ...]]):
    """`0.3`, or one a hidden layer: `0.3,0.2,0.1`."""

    name = "parts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | tuple[float, ...]:
        try:
            parts = tuple(float(word) for word in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is neither a part such as 0.3 nor one a hidden layer such as 0.3,0.2,0.1", param, ctx)
        return parts[0] if len(parts) == 1 else parts


def head_options(function: _Command) -> _Command:
    """What a head is."""
    for option in reversed(
        (
            click.option(
                "--ablation",
                is_flag=False,
                flag_value=DEFAULT_ABLATION,
                metavar="[GRID.yaml]",
                help="Several heads in one pass: those of a grid file, or linear, MLP-512 and MLP-512 with augmentation.",
            ),
            click.option("--preset", type=click.Choice(PRESETS), help="What one head begins from; options below change it."),
            click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Each head so many times."),
            click.option("--hidden", type=Widths(), metavar="N[,N]", help="Widths of hidden layers, 0 for a linear head."),
            click.option("--activation", type=click.Choice(ACTIVATIONS), help="After each hidden layer."),
            click.option("--batch-norm/--no-batch-norm", default=None, help="Between a hidden layer and its activation."),
            click.option(
                "--dropout", type=Fractions(), metavar="X[,X]", help="Part that is dropped, for all hidden layers or each."
            ),
            click.option("--output", type=click.Choice(OUTPUTS), help="auto: softmax for classes, linear for numbers."),
            click.option("--optimizer", type=click.Choice(OPTIMIZERS), help="What takes the steps."),
            click.option("--learning-rate", type=float, metavar="X", help="[default: 0.003 for a linear head, else 0.001]"),
            click.option("--momentum", type=float, metavar="X", help="Of sgd."),
            click.option("--weight-decay", type=float, metavar="X", help="[default: 0.3 for adamw, 0.01 for sgd]"),
            click.option("--label-smoothing", type=float, metavar="X", help="Part of each target that goes to all classes."),
            click.option("--noise", type=float, metavar="X", help="Standard deviation of noise on standardized features."),
            click.option("--mixup", type=float, metavar="X", help="Alpha of mixup."),
            click.option("--clip-norm", type=float, metavar="X", help="Largest norm of a head's gradient."),
            click.option(
                "--class-weights", type=click.Choice(CLASS_WEIGHTS), help="balanced: rare classes count more in the loss."
            ),
        )
    ):
        function = option(function)
    return function


def training_options(function: _Command) -> _Command:
    """What all heads of a pass share."""
    for option in reversed(
        (
            click.option(
                "--epochs",
                type=click.IntRange(min=1),
                help="[default: 10; small sets: up to 1,500 steps (a linear head: 500), while validation gets better]",
            ),
            click.option("--batch-size", type=click.IntRange(min=2), default=128, show_default=True, help="Rows a step."),
            click.option("--accumulation", type=click.IntRange(min=1), default=1, show_default=True, help="Batches a step."),
            click.option("--warmup", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="Part of all steps."),
            click.option(
                "--patience",
                type=click.IntRange(min=0),
                default=0,
                show_default=True,
                help="Epochs without a better validation score after which a head stops, 0 for never.",
            ),
            click.option(
                "--monitor",
                type=click.Choice(MONITORS),
                help="What validation is judged by. [default: accuracy for classes, loss for numbers, pearson for quality]",
            ),
            click.option("--seed", type=int, default=0, show_default=True, help="Of the order of rows and of each head."),
            click.option("--by-blocks", is_flag=True, help="Shuffle blocks of rows: for features larger than memory."),
            device_option,
            click.option(
                "--amp/--no-amp",
                default=None,
                help="Products of hidden layers in bfloat16. [default: yes for classes, on a CPU that has instructions for it]",
            ),
        )
    ):
        function = option(function)
    return function


def baseline_options(function: _Command) -> _Command:
    """What stands beside the heads."""
    logistic = click.option(
        "--logistic/--no-logistic",
        default=None,
        help="The best logistic regression of twelve penalties and two nearer to the best of these. [default: yes for classes]",
    )
    folds = click.option(
        "--folds",
        type=click.IntRange(min=2),
        metavar="K",
        help="Also ridge cross-validated in K folds of the training images, groups left whole.",
    )
    return logistic(folds(function))


def heads_of(ablation: str | None, preset: str | None, seeds: int, seed: int, given: dict[str, Any]) -> tuple[HeadConfig, ...]:
    """The heads that the options mean. Raises: UsageError if they contradict each other; HeadstartError for a bad value."""
    from headstart.experiments.heads.presets import ContradictionError, choose_heads

    changes = {name: given[name] for name in _OF_EACH_HEAD if given[name] is not None}
    try:
        return choose_heads(ablation, preset, seeds, seed, changes)
    except ContradictionError as error:
        raise click.UsageError(str(error)) from None
