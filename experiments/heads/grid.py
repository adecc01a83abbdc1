"""Many heads from few words: grid files whose lists multiply out, and seeds; refuses more than fits into memory."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.experiments.config import HeadConfig, head_config
from headstart.pipeline.doors import reading, records
from headstart.pipeline.doors.yaml_files import parse_yaml
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.text import plural, reason_of, rough_size_words, verb

MAX_HEADS = 1000
_COPIES = 8  # of each weight: values, gradient, two moments, the best, and what a checkpoint and its bytes take
_SHORT = {
    "hidden": "h",
    "learning_rate": "lr",
    "weight_decay": "wd",
    "dropout": "do",
    "label_smoothing": "ls",
    "batch_norm": "bn",
}


def read_grid(path: Path) -> tuple[HeadConfig, ...]:
    """Heads of a grid file in YAML or JSON.

    Each key is an option of a head. A list is tried value by value, and lists multiply out; a list inside a list is one value
    (`hidden: [0, 512, [512, 256]]`). Under `heads` stand whole heads, one after the other, each multiplied with the rest.

    Raises: HeadstartError for what is no grid, an unknown key (offering the nearest name), or too many heads.
    """
    facts = _read(path)
    if not isinstance(facts, dict) or not facts:
        raise HeadstartError(
            f"{path} holds {type(facts).__name__}, expected options of heads, such as `learning_rate: [0.001, 0.01]`"
        )
    listed = facts.pop("heads", [{}])
    if not isinstance(listed, list) or not listed or not all(isinstance(head, dict) for head in listed):
        raise HeadstartError(f"{path}: `heads` is no list of heads, each with its own options, such as `- hidden: 512`")
    axes = {str(key): value if isinstance(value, list) else [value] for key, value in facts.items()}
    empty = next((key for key, values in axes.items() if not values), None)
    if empty is not None:
        raise HeadstartError(f"{path}: `{empty}` is an empty list, expected at least one value")
    count = len(listed)
    for values in axes.values():
        count *= len(values)
    refuse_too_many(count)
    varied = [key for key, values in axes.items() if len(values) > 1]
    try:
        heads = [
            _head({**dict(zip(axes, chosen, strict=True)), **head}, varied)
            for head in listed
            for chosen in itertools.product(*axes.values())
        ]
    except HeadstartError as error:
        raise HeadstartError(f"{path}: {error}") from None
    return tuple(_renamed(heads))


def with_seeds(heads: Sequence[HeadConfig], count: int) -> tuple[HeadConfig, ...]:
    """Each head `count` times, with the seeds that follow its own."""
    if count == 1:
        return tuple(heads)
    return tuple(replace(head, name=f"{head.name}-s{seed}", seed=head.seed + seed) for head in heads for seed in range(count))


def named(head: HeadConfig) -> HeadConfig:
    """Called after its shape."""
    return replace(head, name=_shape(head))


def refuse_too_many(count: int) -> None:
    """Raises: HeadstartError if more heads are asked for than one pass takes."""
    if count > MAX_HEADS:
        raise HeadstartError(f"the grid has {count:,} heads, one experiment takes {MAX_HEADS:,}. Divide it among several files")


def refuse_too_large(heads: Sequence[HeadConfig], inputs: int, outputs: int, memory_bytes: int) -> None:
    """Raises: HeadstartError if the weights of all heads and what training keeps beside them exceed `memory_bytes`."""
    wanted = 4 * _COPIES * sum(_weights(head, inputs, outputs) for head in heads)
    if wanted > memory_bytes:
        fit = int(len(heads) * memory_bytes / wanted)
        some = (
            f"About {fit:,} of them {verb(fit, 'fit')}: divide the grid, or make `--hidden` narrower"
            if fit
            else "Make `--hidden` narrower"
        )
        raise HeadstartError(
            f"{plural(len(heads), 'head')} on {plural(inputs, 'input')} {verb(len(heads), 'need')} "
            f"about {rough_size_words(wanted, 'GB')}, "
            f"and {rough_size_words(memory_bytes, 'GB')} are free. {some}"
        )


def _read(path: Path) -> Any:
    try:
        with environment_faults(f"cannot read {path}"):
            text = reading.read_given(path, reading.GRID_BYTES).decode()
    except OSError as error:
        raise HeadstartError(f"{path}: {error.strerror}. Expected a grid file in YAML or JSON") from None
    except UnicodeDecodeError:
        raise HeadstartError(f"{path} is no text, expected a grid file in YAML or JSON") from None
    if path.suffix == ".json":
        try:
            return records.parse(text, path)
        except records.DamagedError as error:
            raise HeadstartError(f"{path} is no JSON: {error.why}") from None
    import yaml

    try:
        return parse_yaml(text)
    except RecursionError:
        raise HeadstartError(f"{path} is no grid file: it is nested too deep") from None
    except ValueError as error:  # of a number or date that is none
        raise HeadstartError(f"{path} is no YAML: {reason_of(error)}") from None
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" in line {place.line + 1}" if place else ""
        raise HeadstartError(f"{path} is no YAML{where}: {getattr(error, 'problem', None) or 'it does not parse'}") from None


def _head(facts: Mapping[str, Any], varied: Sequence[str]) -> HeadConfig:
    values = {key: _number(value) if isinstance(value, str) else value for key, value in facts.items() if key != "name"}
    if values.get("hidden") in (0, None) and "hidden" in values:
        values["hidden"] = ()
    config = head_config(values)
    base = str(facts["name"]) if "name" in facts else _shape(config)
    shown = [key for key in varied if key != "hidden" or "name" in facts]
    return replace(config, name="_".join([base, *(f"{_SHORT.get(key, key)}-{_word(getattr(config, key))}" for key in shown)]))


def _number(text: str) -> Any:
    """YAML takes 1e-3 for a word."""
    try:
        return float(text)
    except ValueError:
        return text


def _shape(config: HeadConfig) -> str:
    return "mlp-" + "-".join(map(str, config.hidden)) if config.hidden else "linear"


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(map(_word, value)) or "0"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _renamed(heads: Sequence[HeadConfig]) -> list[HeadConfig]:
    """Heads that differ in what their names do not tell are counted."""
    names = [head.name for head in heads]
    return [
        head if names.count(head.name) == 1 else replace(head, name=f"{head.name}-{names[: place + 1].count(head.name)}")
        for place, head in enumerate(heads)
    ]


def _weights(head: HeadConfig, inputs: int, outputs: int) -> int:
    widths = [inputs, *head.hidden, outputs]
    return sum((before + 1) * after for before, after in itertools.pairwise(widths))
