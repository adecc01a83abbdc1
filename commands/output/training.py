"""What `train-head` shows when it is done: each head and each baseline, with an interval, and where everything is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.experiments.evaluation.publish import headline
from headstart.experiments.linear.method import title_of_baseline
from headstart.experiments.runs.experiment import METRICS, REPORT
from headstart.experiments.runs.head_experiment import best_head_path
from headstart.pipeline.text import plural, printable

from .terminal import interval_text

if TYPE_CHECKING:
    from headstart.experiments.runs.head_experiment import HeadExperiment

_ROWS = 20
_INTERVAL_WIDTH = len("95 % interval of test")


def training_lines(
    experiment: HeadExperiment, judged: Mapping[str, Any], database: Path, runs: Mapping[str, int] | None = None
) -> list[str]:
    """A table for people.

    Args: judged: what its `metrics.json` says; database: where all runs are, for the last line; runs: numbers by head.
    """
    numbers = runs or {}
    rows = [(name, headline(entry), name == judged["selected"]) for name, entry in _entries(judged).items()]
    rows.sort(key=lambda row: (_value(row[1], "val"), row[2]), reverse=True)
    shown = rows[:_ROWS] if any(is_best for *_, is_best in rows[:_ROWS]) else [*rows[: _ROWS - 1], *(r for r in rows if r[2])]
    name_width = max(len(name) for name, _, _ in shown)
    metric = "accuracy" if experiment.task == "classification" else "Pearson r"
    result = [f"note: {note}" for note in judged["notes"]]  # first of all: they say what the numbers below are worth
    result.append(
        f"{experiment.folder.name}: {metric} on {plural(judged['rows']['val'], 'validation image')}, "
        f"by which heads are compared and the rows are sorted, and {plural(judged['rows']['test'], 'test image')}"
    )
    number_width = max([3, *(len(str(number)) for number in numbers.values())]) if numbers else 0
    run = f"{'run':>{number_width}}  " if numbers else ""
    result.append(f"  {run}{'':{name_width}}  validation    test  95 % interval of test")
    baselines = {entry["baseline"] for entry in judged["baselines"]}
    for name, headlines, is_best in shown:
        run = f"{numbers.get(name, ''):>{number_width}}  " if numbers else ""
        what = f"baseline: {title_of_baseline(name) or name}" if name in baselines else ""
        result.append(_row(f"{run}{name:{name_width}}", headlines, is_best, what))
    if len(rows) > len(shown):
        result.append(f"  and {plural(len(rows) - len(shown), 'more head')} in {METRICS}")
    result += _leaks(judged)
    result += [_cross_validation(entry) for entry in judged["baselines"] if "cross_validation" in entry]
    result += _reasons(judged)
    result.append(f"chosen   {judged['selected']}, saved as {best_head_path(experiment)}")
    result.append(f"numbers  {experiment.folder / METRICS}" + (f", {REPORT}" if experiment.task == "classification" else ""))
    result.append(f"all runs {database} (headstart runs lists them)")
    if judged["selected"] in numbers:
        result.append(f"use it:  headstart predict IMAGES --run {numbers[judged['selected']]}")
        result.append("next: headstart report --open")
    return [printable(line) for line in result]


def _entries(judged: Mapping[str, Any]) -> dict[str, Any]:
    """By the name of the head."""
    return {entry.get("head") or entry["baseline"]: entry for entry in (*judged["heads"], *judged["baselines"])}


def _leaks(judged: Mapping[str, Any]) -> Iterator[str]:
    """The score without what is in training, too, beside the plain one."""
    aware = judged.get("leak_aware")
    if aware is None:
        return
    left_out = plural(aware["left_out"], "test image")
    said = f"{left_out} of {aware['left_out'] + aware['images']:,}: a copy, the scene or the group is in training"
    if not aware["images"]:
        yield f"{said}; no other is left, so no score here is of new scenes"
        return
    yield (
        f"{said}; on the other {aware['images']:,} {judged['selected']} has {aware['accuracy']:.4f}, "
        f"{interval_text(aware['accuracy_interval'])}"
    )


def _reasons(judged: Mapping[str, Any]) -> Iterator[str]:
    by = judged["selected_by"]
    heads = f"of {plural(by['of'], 'head')} " if "of" in by else ""
    if by.get("within_noise"):
        scores = {name: _shown(headline(entry), "val") for name, entry in _entries(judged).items()}
        chosen = judged["selected"]
        others = ", ".join(f"{name} ({scores[name]})" for name in by["within_noise"][:5])
        yield (
            f"chosen is marked *: {chosen}; {others} did better on {plural(judged['rows']['val'], 'validation image')} than "
            f"{chosen} ({scores[chosen]}), but a lead that small may be luck, so the simpler one is taken"
        )
    else:
        yield f"best on validation is marked *: {judged['selected']} has the best {by['metric']} {heads}on validation"
    if by.get("equals"):
        yield f"as good there: {', '.join(by['equals'][:5])}"
    corrected = judged.get("corrected_validation")
    if by.get("of", 1) > 1:
        # Where logistic regression is kept to, the best of all was not chosen, and what choosing it promises may be more.
        is_less = corrected is not None and corrected < _entries(judged)[judged["selected"]]["val"]["accuracy"]
        promise = f"; choosing by some of these images and judging by the others gives about {corrected:.4f}" if is_less else ""
        free = ". Test scores do not: nothing was chosen by them" if judged["rows"]["test"] else ""
        yield f"validation scores flatter a little, for heads were chosen by them{promise}{free}"


def _row(name: str, headlines: dict[str, Any], is_best: bool, what: str) -> str:
    test = headlines.get("test")
    interval = "" if test is None or test["interval"][0] is None else interval_text(test["interval"])
    validation = _shown(headlines, "val") if headlines else "diverged"
    mark = "*" if is_best else " "
    return f"{mark} {name}  {validation:>10}  {_shown(headlines, 'test'):>6}  {interval:{_INTERVAL_WIDTH}}  {what}".rstrip()


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
