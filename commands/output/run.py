"""One run, or two compared, as lines for a person."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from headstart.pipeline.text import printable

from .terminal import aligned

if TYPE_CHECKING:
    from headstart.experiments.runs.catalog import Chosen

_EPOCHS = 20  # of a long history, so many are shown


def run_lines(chosen: Chosen, record: dict[str, Any]) -> Iterator[str]:
    """Lines for a terminal."""
    yield f"{chosen.words}, {record['task']}"
    rows = ", ".join(f"{name} {count:,}" for name, count in record["rows"].items())
    yield f"  encoder  {record['encoder']}"
    yield f"  rows     {rows}"
    for word in ("targets", "auxiliary"):
        if record[word]:
            yield f"  {word:<8} {', '.join(map(printable, record[word]))}"
    config = {key: value for key, value in record["config"].items() if key not in ("name", "options")}
    yield from _settings("head", config)
    yield from _settings("training", record["config"].get("options", {}))
    yield ""
    yield from _history(record["history"])
    yield ""
    splits = [split for split in ("val", "test") if split in record["metrics"]]
    names = sorted({name for split in splits for name in record["metrics"][split]})
    table = [["metric", *splits]]
    for name in names:
        values = [record["metrics"][split].get(name) for split in splits]
        table.append([printable(name), *(f"{value:,.0f}" if name == "images" else _number(value) for value in values)])
    yield from aligned(table, "<" + ">" * len(splits))
    split = next((split for split in ("test", "val") if split in record["per_class"]), None)
    if split:
        yield ""
        table = [[f"class ({split})", "precision", "recall", "F1", "images"]]
        for name, each in record["per_class"][split].items():
            table.append([printable(name), *(_number(each[key]) for key in ("precision", "recall", "f1")), f"{each['images']:,}"])
        yield from aligned(table, "<>>>>")


def verdict(result: dict[str, Any]) -> str:
    """One comparison: of accuracies, or of squared errors, where less is better."""
    low, high = result["interval"]
    is_error = "p" not in result
    what = f"{result['metric']}, A minus B:"
    form = "+.4g" if is_error else "+.4f"
    line = f"{what} {result['difference']:{form}}, 95 % interval {low:{form}} to {high:{form}}"
    if not is_error:
        line += f"\nonly A right on {result['only_first_right']:,} images, only B on {result['only_second_right']:,}; "
        line += f"McNemar's exact p {result['p']:.3g}"
    if low <= 0 <= high:
        return f"{line}\nThe interval holds 0: these images do not tell them apart."
    is_less_better = result.get("better", "lower" if is_error else "higher") == "lower"
    better = "A" if (result["difference"] > 0) != is_less_better else "B"
    return f"{line}\n{better} is better on these images."


def _history(history: list[dict[str, Any]]) -> Iterator[str]:
    if not history:
        return
    every = -(-len(history) // _EPOCHS)
    shown = [entry for number, entry in enumerate(history) if (number + 1) % every == 0 or number + 1 == len(history)]
    columns = [name for name in history[-1] if name != "step"]
    rows = [["step", *(name.replace("_", " ") for name in columns)]]
    rows += [[f"{entry['step']:,}", *(_number(entry.get(name)) for name in columns)] for entry in shown]
    if every > 1:
        yield f"every {every} epochs of {len(history)} (--json has all)"
    yield from aligned(rows, ">" * (len(columns) + 1))


def _settings(word: str, settings: dict[str, Any]) -> Iterator[str]:
    text = ", ".join(f"{key} {value}".replace(" ", "\xa0") for key, value in settings.items())  # breaks between settings only
    width = shutil.get_terminal_size((100, 24)).columns
    for line in textwrap.wrap(text, width, initial_indent=f"  {word:<9}", subsequent_indent=" " * 11, break_on_hyphens=False):
        yield line.replace("\xa0", " ")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:#.4g}"
