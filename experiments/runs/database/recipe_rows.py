"""The database's rows of a recipe's experiment, made of the files in its folder alone. Imports no numpy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from headstart.experiments.runs.experiment import METRICS, read_metrics
from headstart.experiments.runs.recipe_experiment import RecipeExperiment
from headstart.pipeline.errors import HeadstartError

from .database import MadeRun, MetricRow
from .rows import HISTORY, Report, begun_at, ignored, noted_versions, read_json, require_description, run_numbers, stamp_of

TASK = "recipe"


def made_recipe_runs(experiment: RecipeExperiment, report: Report = ignored) -> list[MadeRun]:
    """One, or none while it is not finished. Args and raises: as `made_runs`."""
    stamp = stamp_of(experiment)
    judged = read_metrics(experiment)
    if stamp is None or not judged:
        return []
    require_description(experiment, judged)
    history, numbers = read_json(experiment, HISTORY, report), run_numbers(experiment, report)
    name = experiment.recipe.removesuffix(".py")
    try:
        config = {"recipe": experiment.recipe, "options": dict(experiment.values), **judged["judged_by"]}
        metrics = [*_course(history.get("entries", [])), *_final(experiment, judged)]
        return [MadeRun(numbers.get(name), name, TASK, config, _about(experiment, stamp), tuple(metrics))]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise HeadstartError(
            f"{experiment.folder / METRICS} is damaged. The same {experiment.COMMAND} command writes it again"
        ) from None


def _about(experiment: RecipeExperiment, stamp: str) -> dict[str, Any]:
    counts = {split: int(experiment.counts.get(split, 0)) for split in ("train", "val", "test")}
    return {
        "date": begun_at(experiment),
        "encoder": "",
        "fingerprint": experiment.code,
        "dataset": experiment.values.get("data"),
        "data": experiment.data,
        **counts,
        "images": sum(counts.values()),
        "groups": None,
        "method": TASK,
        "is_baseline": 0,
        "is_chosen": 1,
        "versions": json.dumps(noted_versions(experiment), sort_keys=True),
        "stamp": stamp,
    }


def _course(entries: list[dict[str, Any]]) -> Iterator[MetricRow]:
    for entry in entries:
        for split in ("train", "val"):
            for name, value in entry[split].items():
                yield MetricRow(entry["step"], split, name if split == "train" else f"epoch_{name}", value)
        yield MetricRow(entry["step"], "train", "learning_rate", entry["learning_rate"])


def _final(experiment: RecipeExperiment, judged: Mapping[str, Any]) -> Iterator[MetricRow]:
    step = judged["steps"]
    for split in ("val", "test"):
        if split not in judged:
            continue
        yield MetricRow(step, split, "images", experiment.counts[split])
        for name, value in judged[split].items():
            if name.endswith("_interval"):
                yield from (
                    MetricRow(step, split, f"{name}_{side}", end) for side, end in zip(("low", "high"), value, strict=True)
                )
            elif value is None or isinstance(value, int | float):
                yield MetricRow(step, split, name, value)
