"""What a head is, how it is trained and what stands beside it, as data; and the names that heads may have."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from headstart.pipeline.errors import HeadstartError

ACTIVATIONS = ("relu", "gelu")
OUTPUTS = ("auto", "softmax", "sigmoid", "linear")
OPTIMIZERS = ("adamw", "sgd")
CLASS_WEIGHTS = ("none", "balanced")
MONITORS = ("auto", "accuracy", "loss", "pearson")
PRESETS = ("linear", "mlp", "quality")
DEFAULT_ABLATION = "default"
USUAL_STEPS = 1500
LINEAR_STEPS = 500  # of heads without hidden layers alone: their loss has one minimum
LINEAR_RATE = 3e-3
MOST_EPOCHS = 200  # however few rows an epoch has
PATIENCE = 0.07  # part of all epochs: four times as much finds next to nothing better, in two and a half times the time


@dataclass(frozen=True)
class HeadConfig:
    """One head. Heads of a pass differ in these and in nothing else.

    Attributes:
        name: unique in its pass.
        hidden: widths of the hidden layers; () is a linear head.
        activation: after each hidden layer, relu or gelu.
        batch_norm: between each hidden layer and its activation.
        dropout: part of each hidden layer's outputs that is dropped; one number for all layers or one a layer.
        output: softmax or sigmoid for classes, linear or sigmoid for numbers (sigmoid: targets from 0 to 1); auto: the first.
        optimizer: adamw or sgd (with `momentum`).
        learning_rate, weight_decay: decay is decoupled for adamw, as torch.optim has it; None: `decay` says which.
        label_smoothing: 0 to below 1.
        noise: standard deviation of Gaussian noise that is added to standardized features.
        mixup: alpha of the Beta distribution that neighbours in a batch are mixed with, 0 for none.
        clip_norm: largest norm of this head's gradient, 0 for no limit.
        class_weights: 'balanced' weighs a class by the inverse of its frequency.
        seed: of weights, dropout, noise and mixup.
    """

    name: str = "linear"
    hidden: tuple[int, ...] = ()
    activation: str = "relu"
    batch_norm: bool = False
    dropout: float | tuple[float, ...] = 0.0
    output: str = "auto"
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float | None = None
    label_smoothing: float = 0.0
    noise: float = 0.0
    mixup: float = 0.0
    clip_norm: float = 0.0
    class_weights: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = _flaw(self)
        if wrong:
            raise HeadstartError(f"head '{self.name}': {wrong}")

    @property
    def decay(self) -> float:
        """The weight decay: what was given, else what did best on validation in default ablations (adamw), or a little (sgd)."""
        if self.weight_decay is not None:
            return self.weight_decay
        return 0.3 if self.optimizer == "adamw" else 0.01

    @property
    def dropouts(self) -> tuple[float, ...]:
        """One a hidden layer."""
        return self.dropout if isinstance(self.dropout, tuple) else (self.dropout,) * len(self.hidden)

    def output_for(self, task: str) -> str:
        """The output with 'auto' resolved. Raises: HeadstartError if it does not fit the task."""
        allowed = ("softmax", "sigmoid") if task == "classification" else ("linear", "sigmoid")
        if self.output == "auto":
            return allowed[0]
        if self.output not in allowed:
            raise HeadstartError(
                f"head '{self.name}': output '{self.output}' does not fit {task}, expected {' or '.join(allowed)}"
            )
        return self.output


def idle_settings(heads: Sequence[HeadConfig], task: str) -> list[str]:
    """Settings that were changed and change nothing of a head, one line a setting and reason, with the heads it is said of."""
    usual, of = HeadConfig(), dict[tuple[str, str], list[str]]()
    for head in heads:
        for name, is_idle, reason in (
            ("activation", not head.hidden, _NO_LAYER),
            ("batch_norm", not head.hidden, _NO_LAYER),
            ("dropout", not head.hidden, _NO_LAYER),
            ("momentum", head.optimizer != "sgd", "that is of the optimizer sgd"),
            ("label_smoothing", task == "regression", "that is of classes, and these are numbers"),
            ("class_weights", task == "regression", "that is of classes, and these are numbers"),
        ):
            if is_idle and getattr(head, name) != getattr(usual, name):
                of.setdefault((name, reason), []).append(head.name)
    return [f"{name} does nothing for {_some(names)}: {reason}" for (name, reason), names in of.items()]


_NO_LAYER = "it is linear, and that is of hidden layers"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@dataclass(frozen=True)
class TrainingOptions:
    """What all heads of one pass share.

    Attributes:
        steps: of the optimizer; above 0: small sets are trained for so many at least, in more epochs than `epochs`, and stop when
            validation has not got better for long. 0: `epochs` alone says how long.
        epochs, batch_size: a batch of a single row, if one is left over, is skipped: BatchNorm has no variance for it.
        accumulation: batches whose gradients are averaged before a step.
        warmup: part of all steps over which the learning rate rises.
        patience: epochs without a better validation score after which a head stops, 0 for never.
        monitor: what validation is judged by: accuracy, loss or pearson; auto: accuracy for classes, loss for numbers.
        seed: of the order of rows.
        by_blocks: shuffle blocks of rows, for features that do not fit into memory.
        checkpoint_s: seconds between checkpoints.
        device: cpu or cuda.
        amp, float32: hidden layers multiply in bfloat16, or in float32. Neither: as `has_short_products` says where the training
            begins, and whoever goes on with it does the same.
        by_loss: an epoch is judged by the loss on validation, whatever the monitor is: accuracy on few images is luck.
    """

    epochs: int = 10
    batch_size: int = 128
    accumulation: int = 1
    warmup: float = 0.05
    patience: int = 0
    monitor: str = "auto"
    seed: int = 0
    by_blocks: bool = False
    checkpoint_s: float = 10.0
    device: str = "cpu"
    amp: bool = False
    steps: int = 0
    by_loss: bool = False
    float32: bool = False

    def settled(self, rows: int) -> "TrainingOptions":
        """What `steps` means for so many training rows, in epochs."""
        if not self.steps:
            return self
        an_epoch = max(1, rows // (self.batch_size * self.accumulation))
        epochs = max(self.epochs, min(MOST_EPOCHS, -(-self.steps // an_epoch)))
        patience = self.patience or (0 if epochs == self.epochs else max(10, round(PATIENCE * epochs)))
        is_small = epochs > self.epochs
        return replace(
            self, epochs=epochs, patience=patience, steps=0, by_loss=self.by_loss or (is_small and self.monitor == "auto")
        )

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise HeadstartError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not 0 <= self.warmup <= 1:
            raise HeadstartError(f"warmup is {self.warmup}, expected a part from 0 to 1")
        if self.monitor not in MONITORS:
            raise HeadstartError(f"monitor is '{self.monitor}', expected one of {', '.join(MONITORS)}")
        if self.amp and self.float32:
            raise HeadstartError("amp is bfloat16, which float32 excludes. Ask for one of them")


@dataclass(frozen=True)
class BaselineOptions:
    """Baselines that take longer than those that every experiment has.

    Attributes:
        logistic: the best logistic regression of a path of penalties.
        folds: of a cross-validation of ridge on the training rows, 0 for none.
    """

    logistic: bool = False
    folds: int = 0

    def __post_init__(self) -> None:
        if self.folds < 0 or self.folds == 1:
            raise HeadstartError(f"folds is {self.folds}, expected 2 or more, or 0 for none")


USUAL_BASELINES = BaselineOptions()


def linear_head() -> HeadConfig:
    """The head that is trained where none is asked for."""
    return HeadConfig(learning_rate=LINEAR_RATE)


def usual_steps(heads: Sequence[HeadConfig]) -> int:
    """`TrainingOptions.steps` where nobody says how long these are trained."""
    return USUAL_STEPS if any(head.hidden for head in heads) else LINEAR_STEPS


def default_ablation() -> tuple[HeadConfig, ...]:
    """Linear, MLP-512, MLP-512 with augmentation of the features."""
    mlp = HeadConfig(name="mlp-512", hidden=(512,), dropout=0.3)
    return linear_head(), mlp, HeadConfig(name="mlp-512-augmented", hidden=(512,), dropout=0.3, noise=0.3, mixup=0.2)


def quality_head() -> HeadConfig:
    """A score from 0 to 1: 1024 -> 512 -> 256 -> 1 with BatchNorm, dropout .3/.2/.1, sigmoid; for monitor 'pearson'."""
    return HeadConfig(name="quality", hidden=(1024, 512, 256), batch_norm=True, dropout=(0.3, 0.2, 0.1), output="sigmoid")


def head_config(facts: Mapping[str, Any]) -> HeadConfig:
    """A head from keys and values, as a grid file or a checkpoint has them.

    Raises: HeadstartError that offers the nearest name for an unknown key, or says which value does not fit.
    """
    known = {field.name: field for field in fields(HeadConfig)}
    for key in facts:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
            raise HeadstartError(f"unknown option '{key}' of a head; {hint}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    if isinstance(values.get("hidden"), int):
        values["hidden"] = (values["hidden"],)
    return HeadConfig(**values)


def as_facts(config: HeadConfig | TrainingOptions | BaselineOptions) -> dict[str, Any]:
    """For JSON; `head_config` reads a head back."""
    if isinstance(config, TrainingOptions):  # as before there were any, so that identities stay
        return {key: value for key, value in asdict(config).items() if value or key not in ("steps", "by_loss", "float32")}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}


def _flaw(config: HeadConfig) -> str | None:
    return _flaw_of_kinds(config) or _flaw_of_values(config)


def _flaw_of_kinds(config: HeadConfig) -> str | None:
    for name, kind, words in (
        ("name", str, "a text"),
        ("batch_norm", bool, "true or false"),
        ("hidden", tuple, "a list of widths"),
        ("seed", int, "a whole number"),
    ):
        if not isinstance(getattr(config, name), kind):
            return f"{name} is {getattr(config, name)!r}, expected {words}"
    for name, allowed in (
        ("activation", ACTIVATIONS),
        ("output", OUTPUTS),
        ("optimizer", OPTIMIZERS),
        ("class_weights", CLASS_WEIGHTS),
    ):
        if getattr(config, name) not in allowed:
            return f"{name} is {getattr(config, name)!r}, expected one of {', '.join(allowed)}"
    return None


def _flaw_of_values(config: HeadConfig) -> str | None:
    numbers = ("learning_rate", "momentum", "weight_decay", "label_smoothing", "noise", "mixup", "clip_norm")
    for name in numbers:
        value = config.decay if name == "weight_decay" else getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            return f"{name} is {value!r}, expected a number of 0 or more"
    if config.label_smoothing >= 1:
        return f"label_smoothing is {config.label_smoothing}, expected less than 1"
    if not all(isinstance(width, int) and width > 0 for width in config.hidden):
        return f"hidden is {config.hidden!r}, expected widths of 1 or more"
    if len(config.dropouts) != len(config.hidden) or not all(
        isinstance(part, int | float) and 0 <= part < 1 for part in config.dropouts
    ):
        return f"dropout is {config.dropout!r}, expected one part from 0 to below 1, or {len(config.hidden)} of them"
    return None


_HEAD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_RESERVED = ("best_head", "best", "final")


def flaw_of_head_names(heads: tuple[HeadConfig, ...]) -> str | None:
    """Why the files of these heads could not carry their names, None if they can."""
    taken: dict[str, str] = {}
    for head in heads:
        if not _HEAD.fullmatch(head.name) or head.name.casefold() in _RESERVED or head.name.startswith("step_"):
            return (
                f"a head is named {head.name!r}, expected up to 100 letters, digits, '.', '_', '+' or '-' (its file's name; "
                f"{', '.join(_RESERVED)}, step_... are taken)"
            )
        other = taken.setdefault(head.name.casefold(), head.name)
        if other != head.name:
            return f"heads '{other}' and '{head.name}' differ only in case, and so would their files not everywhere"
    return None
