"""What `train-head` shows when it is done: each head and each baseline, with an interval, and where everything is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.experiments.evaluation.publish import headline
from headstart.experiments.runs.experiment import METRICS, REPORT
from headstart.experiments.runs.head_experiment import best_head_path
from headstart.pipeline.text import printable

from .terminal import interval_text

if TYPE_CHECKING:
    from headstart.experiments.runs.head_experiment import HeadExperiment

_ROWS = 20


def training_lines(experiment: HeadExperiment, judged: Mapping[str, Any], database: Path) -> list[str]:
    """A table for people. Args: judged: what its `metrics.json` says; database: where all runs are, for the last line."""
    heads = [(entry["head"], headline(entry), entry["head"] == judged["selected"]) for entry in judged["heads"]]
    heads.sort(key=lambda row: _value(row[1], "val"), reverse=True)
    shown = heads[:_ROWS]
    baselines = [(entry["baseline"], headline(entry), False) for entry in judged["baselines"]]
    name_width = max(len(name) for name, _, _ in [*shown, *baselines])
    metric = "accuracy" if experiment.task == "classification" else "Pearson r"
    result = [
        f"{experiment.folder.name}: {metric} on {judged['rows']['val']:,} validation and {judged['rows']['test']:,} test images"
    ]
    result.append(f"  {'':{name_width}}  validation    test  95 % interval")
    result += [_row(name, headlines, is_best, name_width) for name, headlines, is_best in shown]
    if len(heads) > len(shown):
        result.append(f"  and {len(heads) - len(shown):,} more heads in {METRICS}")
    result += [_row(name, headlines, is_best, name_width) for name, headlines, is_best in baselines]
    result += [_cross_validation(entry) for entry in judged["baselines"] if "cross_validation" in entry]
    result += [f"note: {note}" for note in judged["notes"]]
    result.append("best on validation is marked *; baselines are trained on the same rows without a gradient")
    result.append(f"heads    {best_head_path(experiment)}")
    result.append(f"numbers  {experiment.folder / METRICS}" + (f", {REPORT}" if experiment.task == "classification" else ""))
    result.append(f"all runs {database}")
    return [printable(line) for line in result]


def _row(name: str, headlines: dict[str, Any], is_best: bool, width: int) -> str:
    test = headlines.get("test")
    interval = "" if test is None or test["interval"][0] is None else interval_text(test["interval"])
    validation = _shown(headlines, "val") if headlines else "diverged"
    return f"{'*' if is_best else ' '} {name:{width}}  {validation:>10}  {_shown(headlines, 'test'):>6}  {interval}".rstrip()


def _cross_validation(entry: dict[str, Any]) -> str:
    folds = entry["cross_validation"]
    metric = {"r2": "R2"}.get(folds["metric"], folds["metric"])
    return (
        f"{entry['baseline']}: {metric} {folds['mean']:.4f} on average over {folds['folds']} folds of the training images, "
        f"standard deviation {folds['spread']:.4f}"
    )


def _shown(headlines: dict[str, Any], split: str) -> str:
    value = headlines.get(split, {}).get("value")
    return "none" if value is None else f"{value:.4f}"


def _value(headlines: dict[str, Any], split: str) -> float:
    value = headlines.get(split, {}).get("value")
    return float("-inf") if value is None else float(value)
