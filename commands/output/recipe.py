"""What `train` shows when it is done: the numbers of each split with their intervals, and where everything is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headstart.commands.output.terminal import aligned, interval_text
from headstart.experiments.runs.experiment import METRICS, read_metrics
from headstart.pipeline.text import printable

if TYPE_CHECKING:
    from headstart.experiments.runs.recipe_experiment import RecipeExperiment
    from headstart.pipeline.workspace import Workspace


def lines(workspace: Workspace, experiment: RecipeExperiment, as_json: bool) -> list[str]:
    """For people, or one JSON object."""
    judged = read_metrics(experiment)
    if as_json:
        return [json.dumps({"experiment": experiment.folder.name, **judged}, indent=1)]
    best, chosen = judged["best"], judged["judged_by"]["metric"]
    result = [
        f"{experiment.folder.name}: best at step {best['step']:,} (epoch {best['epoch']:.4g}), judged by {chosen} on validation"
    ]
    splits = [split for split in ("val", "test") if split in judged]
    result += table({split: judged[split] for split in splits}, judged["rows"])
    result += heads_table(judged[splits[-1]])
    if "gain" in judged:
        result += _gain_lines(judged, splits[-1])
    result += [f"note: {note}" for note in judged["notes"]]
    result.append(f"weights  {experiment.final_weights}")
    result.append(f"numbers  {experiment.folder / METRICS}")
    result.append(f"all runs {workspace.database}")
    return [printable(line) for line in result]


def _gain_lines(judged: Mapping[str, Any], split: str) -> list[str]:
    gain, metric = judged["gain"][split], judged["gain"][split]["metric"]
    low, high = gain["interval"]
    interval = "" if low is None else f" (95 % interval, in pairs: {low:+.4f} to {high:+.4f})"
    lines = [
        f"before the first step {metric} was {judged['start'][split][metric]:.4f} on {split}: {gain['value']:+.4f}{interval}"
    ]
    if judged["best"]["step"] == 0:
        lines.append("no step beat what it started from on validation, so that is kept")
    return lines


def table(metrics: Mapping[str, Mapping[str, Any]], counts: Mapping[str, int]) -> list[str]:
    """Every number of these splits, and the interval on the last one."""
    *_, last = splits = list(metrics)
    rows = [["", *(f"{split} ({counts[split]:,})" for split in splits), f"95 % interval ({last})"]]
    for name in (name for name, value in metrics[last].items() if _is_number(name, value)):
        interval = metrics[last].get(f"{name}_interval") or [None, None]
        shown = "" if interval[0] is None else interval_text(interval)
        rows.append([name, *(_shown(metrics[split].get(name)) for split in splits), shown])
    return [f"  {line}".rstrip() for line in aligned(rows, "<" + ">" * len(splits) + "<")]


def heads_table(numbers: Mapping[str, Any]) -> list[str]:
    """What a recipe trained side by side, a line each, as its table `heads` says; nothing where it says none."""
    heads = numbers.get("heads")
    if not (isinstance(heads, list) and heads and all(isinstance(head, dict) for head in heads)):
        return []
    columns = list(dict.fromkeys(column for head in heads for column in head))
    rows = [columns, *([_cell(head.get(column)) for column in columns] for head in heads)]
    return [f"  {line}".rstrip() for line in aligned(rows, "<" + ">" * (len(columns) - 1))]


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(name: str, value: Any) -> bool:
    return (value is None or isinstance(value, int | float)) and not name.endswith("_interval")


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
