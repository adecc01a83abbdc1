"""Options of a recipe or a kind of job: one frozen dataclass says each once; flags, YAML keys, help and checks come from it.

Imports nothing heavy: a command line is parsed before torch is needed.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import math
import operator
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from headstart.pipeline.doors import reading
from headstart.pipeline.doors.yaml_files import parse_yaml
from headstart.pipeline.errors import HeadstartError


@dataclass(frozen=True)
class About:
    """What `option` says besides the default.

    Attributes:
        help: one line.
        at_least, at_most, below: bounds of a number, or of each of several.
        choices: all values that are allowed, () for no such list.
        separator: between several values in one text.
    """

    help: str
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    separator: str = ","


def option(
    default: Any,
    help: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    separator: str = ",",
) -> Any:
    """A field of an options class. Its type may be int, float, str, bool, Path, a tuple of numbers, or one of these or None.

    A `Path` is a file of the user's: its bytes are part of what a training is, and it is kept with the training.
    """
    return dataclasses.field(default=default, metadata={"about": About(help, at_least, at_most, below, choices, separator)})


@dataclass(frozen=True)
class CheckedOptions:
    """Options of a user's file, each made by `option`. Raises: HeadstartError for a value that its field does not allow."""

    def __post_init__(self) -> None:
        for field in fields_of(type(self)):
            flaw = _flaw(getattr(self, field.name), field)
            if flaw is not None:
                raise HeadstartError(f"{field.name} is {getattr(self, field.name)!r}, expected {flaw}")


@dataclass(frozen=True)
class RecipeOptions(CheckedOptions):
    """What every training can be told; a recipe adds its own and gives others of these defaults.

    Attributes:
        PRESETS: of a recipe that has some: other defaults by the name that `preset` gives, in a file or as a flag. What they say
            is taken in before there are options, so an experiment has plain values, whatever the presets of a later version are.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    epochs: int = option(10, "times that every training row is seen", at_least=1)
    max_steps: int = option(0, "steps after which training ends all the same; 0: epochs alone decide", at_least=0)
    batch_size: int = option(64, "rows at once", at_least=1)
    accumulation: int = option(1, "batches whose gradients are averaged before a step", at_least=1)
    optimizer: str = option("adamw", "how weights are changed", choices=("adamw", "adam", "sgd"))
    learning_rate: float = option(1e-3, "at its highest", at_least=0)
    weight_decay: float = option(0.01, "decay of weights; biases and normalization have none", at_least=0)
    momentum: float = option(0.9, "of sgd", at_least=0, below=1)
    schedule: str = option("cosine", "of the learning rate", choices=("cosine", "linear", "step", "plateau", "constant"))
    warmup: float = option(0.05, "part of all steps over which the learning rate rises", at_least=0, at_most=1)
    clip: float = option(0.0, "largest norm of a gradient; 0: any", at_least=0)
    amp: str = option("none", "precision of products", choices=("none", "bfloat16", "float16"))
    ema: float = option(
        0.0, "decay of a running mean of the weights, rising to it, which is then judged and kept; 0: none", at_least=0, below=1
    )
    evaluate_every: int = option(0, "steps between evaluations; 0: an epoch", at_least=0)
    evaluate_rows: int = option(0, "validation rows, drawn once, that training is watched by; 0: all", at_least=0)
    judge_start: bool = option(False, "judge the model before its first step, too; it is kept if no step beats it")
    patience: int = option(0, "evaluations without a better one after which training ends; 0: it goes on", at_least=0)
    gradient_checkpointing: bool = option(False, "less memory for more time, where the model offers it")
    threads: int = option(0, "of torch on a CPU, another number of them rounds otherwise; 0: one a core", at_least=0)
    seed: int = option(0, "of everything that is drawn", at_least=0)


@dataclass(frozen=True)
class SampleOptions(CheckedOptions):
    """What every sampling can be told; a recipe that samples subclasses it as `Sampling`."""

    seed: int = option(0, "of everything that is drawn: the same seed, the same samples", at_least=0)


@dataclass(frozen=True)
class Field:
    """One option. `type` is without None, of a tuple that of its members; `is_many`: a tuple; `may_be_none`."""

    name: str
    type: type
    default: Any
    about: About
    is_many: bool
    may_be_none: bool

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


AnyOptions = TypeVar("AnyOptions", bound=CheckedOptions)
_TYPES = (int, float, str, bool, Path)


def fields_of(options: type[CheckedOptions]) -> list[Field]:
    """Every option, the recipe's own first. Raises: HeadstartError if the class declares one that cannot be a flag."""
    shared = {field.name for field in dataclasses.fields(RecipeOptions)}
    bases: list[type[CheckedOptions]] = [RecipeOptions]
    bases += [base for base in reversed(options.__mro__) if issubclass(base, CheckedOptions)]
    # Who gives another default keeps what the nearest base says of it.
    said = {
        field.name: field.metadata["about"] for base in bases for field in dataclasses.fields(base) if "about" in field.metadata
    }
    try:
        hints = typing.get_type_hints(options)
    except (NameError, TypeError) as error:
        raise HeadstartError(f"Options of {options.__module__}: {error}. Name a type that its module imports") from None
    declared = dataclasses.fields(options)
    ordered = [field for field in declared if field.name not in shared] + [field for field in declared if field.name in shared]
    return [_field(field, hints[field.name], said.get(field.name, About(""))) for field in ordered]


def _field(field: dataclasses.Field[Any], hint: Any, about: About) -> Field:
    if field.default is dataclasses.MISSING:
        raise HeadstartError(f"option {field.name} has no default. Write {field.name}: ... = option(DEFAULT, 'what it is')")
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    may_be_none = type(None) in members
    (hint, *others) = [member for member in members if member is not type(None)]
    is_many = typing.get_origin(hint) is tuple
    kind = typing.get_args(hint)[0] if is_many else hint
    if others or kind not in _TYPES:
        raise HeadstartError(f"option {field.name} is of type {hint}, expected int, float, str, bool, Path or a tuple of them")
    return Field(field.name, kind, field.default, about, is_many, may_be_none)


def options_from(options: type[AnyOptions], values: Mapping[str, Any], where: str = "") -> AnyOptions:
    """Options from keys and values, as a file or flags have them; text is taken for the number that it says.

    Args:
        where: the file they stand in, for messages.

    Raises: HeadstartError that offers the nearest name for an unknown key, or says which value does not fit.
    """
    known = {field.name: field for field in fields_of(options)}
    converted: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise HeadstartError(f"{_prefix(where)}unknown option '{key}'; {nearest(name, list(known))}")
        converted[name] = _converted(value, known[name], where)
    try:
        return options(**converted)
    except HeadstartError as error:
        raise HeadstartError(f"{_prefix(where)}{error}") from None


def nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(names)}"


def _prefix(where: str) -> str:
    return f"{where}: " if where else ""


def _converted(value: Any, field: Field, where: str) -> Any:
    if value is None and field.may_be_none:
        return None
    if field.is_many:
        parts = value.split(field.about.separator) if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            parts = [value]
        return tuple(_single(part, field, where) for part in parts)
    return _single(value, field, where)


def _single(value: Any, field: Field, where: str) -> Any:
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "the path of a file"}
    try:
        if field.type is bool:
            return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).casefold()]
        if isinstance(value, bool) or value is None or isinstance(value, list | dict):
            raise ValueError
        if field.type is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        return field.type(value)
    except (ValueError, KeyError, OverflowError):
        raise HeadstartError(f"{_prefix(where)}{field.name} is {value!r}, expected {expected[field.type]}") from None


def _flaw(value: Any, field: Field) -> str | None:
    about = field.about
    if value is None:
        return None if field.may_be_none else "a value"
    for one in value if field.is_many else (value,):
        if about.choices and one not in about.choices:
            return f"one of {', '.join(about.choices)}"
        if isinstance(one, bool) or not isinstance(one, int | float):
            continue
        if not math.isfinite(one):
            return "a finite number"
        for bound, is_kept, words in (
            (about.at_least, operator.ge, "{:g} or more"),
            (about.at_most, operator.le, "at most {:g}"),
            (about.below, operator.lt, "less than {:g}"),
        ):
            if bound is not None and not is_kept(one, bound):
                return words.format(bound)
    return None


def as_values(options: CheckedOptions) -> dict[str, Any]:
    """For JSON; `options_from` reads it back."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def option_files(options: CheckedOptions) -> dict[str, Path]:
    """The user's files among the options, by the name of the option. Raises: HeadstartError if one is not there."""
    files: dict[str, Path] = {}
    for field in fields_of(type(options)):
        value = getattr(options, field.name)
        if field.type is Path and isinstance(value, Path):
            if not value.is_file():
                raise HeadstartError(
                    f"{field.flag} {value}: {'it is a folder, expected a file' if value.is_dir() else 'there is no such file'}"
                )
            files[field.name] = value
    return files


def sha256_of_file(path: Path) -> str:
    """sha256 (hex) of its bytes."""
    with reading.opened_given(path, reading.WEIGHTS_BYTES) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def merged_options(options: type[AnyOptions], values: Mapping[str, Any], config: Path | None = None) -> AnyOptions:
    """Options from a YAML file and `values`, which go before it; before both stands what a `preset` among them says.

    Raises as `options_from` and `read_config`.
    """
    written = {} if config is None else read_config(config)
    where = "" if config is None else str(config)
    options_from(options, _with_preset(options, written, where), where)  # its mistakes are its own, whatever values say
    both = {**{key.replace("-", "_"): value for key, value in written.items()}, **values}
    return options_from(options, _with_preset(options, both))


def _with_preset(options: type[CheckedOptions], values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    presets = options.PRESETS if issubclass(options, RecipeOptions) else {}
    if not presets or "preset" not in values:
        return dict(values)
    name = str(values["preset"])
    if name not in presets:
        raise HeadstartError(f"{_prefix(where)}preset is '{name}', expected one of {', '.join(presets)}")
    return {**presets[name], **{key: value for key, value in values.items() if key != "preset"}}


def read_config(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file. Raises: HeadstartError if it is none, or says a key twice."""
    import yaml

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        """Refuses what YAML forbids and PyYAML takes: the same key twice."""
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key, line = loader.construct_object(key_node), key_node.start_mark.line + 1
            if key in seen:
                raise HeadstartError(f"{path} says '{key}' in line {seen[key]} and again in line {line}. Leave one of them out")
            seen[key] = line
        return dict(loader.construct_pairs(node))

    try:
        config = parse_yaml(reading.read_given(path, reading.GRID_BYTES).decode(), mapping)
    except RecursionError:
        raise HeadstartError(f"{path} is nested too deep. Write lines such as 'epochs: 20'") from None
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" in line {place.line + 1}" if place else ""
        raise HeadstartError(f"{path} is no YAML{where}: {getattr(error, 'problem', None) or 'it does not parse'}") from None
    except (OSError, ValueError, TypeError) as error:
        raise HeadstartError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise HeadstartError(f"{path} is a {type(config).__name__}, expected lines such as 'epochs: 20'")
    return config
