"""What a head is worth, as lines for a person: numbers with their intervals, baselines beside, classes and confusions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from headstart.pipeline.text import printable

from .terminal import aligned

if TYPE_CHECKING:
    from headstart.experiments.evaluation.evaluate_run import Judged

_MANY = 25  # classes beyond which only the worst are listed
_WORST = 10


def describe(judged: Judged) -> Iterator[str]:
    """Lines for a terminal of this width."""
    yield f"{judged.chosen.words} on {judged.metrics['images']:,} images of the split '{judged.split}'"
    if judged.chosen.run.task == "regression":
        yield from _numbers(judged)
        return
    metrics = judged.metrics
    yield ""
    yield from aligned([["", "accuracy", "95 % interval", "macro F1"], *_standings(judged)], "<>>>")
    yield ""
    top = [f"top-{key.split('_')[1]} {value:.4f}" for key, value in metrics.items() if key.startswith("top_")]
    yield "  ".join([*top, f"log-loss {metrics['log_loss']:.4f}", f"calibration error (ECE) {metrics['ece']:.4f}"])
    yield ""
    yield from _classes(metrics)
    yield ""
    yield from _confusions(list(metrics["per_class"]), metrics["confusion_matrix"])


def interval_text(interval: Sequence[float | None] | None) -> str:
    if interval is None or interval[0] is None or interval[1] is None:
        return "-"
    return f"{interval[0]:.4f} to {interval[1]:.4f}"


def _standings(judged: Judged) -> Iterator[list[str]]:
    rows = {judged.chosen.run.head: judged.metrics, **{f"baseline {name}": found for name, found in judged.baselines.items()}}
    for name, found in rows.items():
        yield [name, f"{found['accuracy']:.4f}", interval_text(found["accuracy_interval"]), f"{found['macro_f1']:.4f}"]
    images = [found["images"] for found in judged.metrics["per_class"].values()]
    yield ["always the commonest class", f"{max(images) / sum(images):.4f}", "", ""]


def _numbers(judged: Judged) -> Iterator[str]:
    for target, found in judged.metrics["targets"].items():
        yield ""
        yield f"target {printable(target)}"
        rows = [["", "MSE", "MAE", "R2", "Pearson", "95 % interval", "Spearman"]]
        rows.append(_target_row(judged.chosen.run.head, found))
        for name, other in judged.baselines.items():
            rows.append(_target_row(f"baseline {name}", other["targets"][target]))
        yield from aligned(rows, "<>>>>>>")
        within = found.get("within_groups")
        if within:
            means = f"Pearson {_number(within['pearson'])}, Spearman {_number(within['spearman'])}"
            yield f"within {within['groups']:,} groups on average: {means}"


def _target_row(name: str, found: dict[str, Any]) -> list[str]:
    return [
        name,
        f"{found['mse']:.4g}",
        f"{found['mae']:.4g}",
        _number(found["r2"]),
        _number(found["pearson"]),
        interval_text(found["pearson_interval"]),
        _number(found["spearman"]),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _classes(metrics: dict[str, Any]) -> Iterator[str]:
    found = sorted(metrics["per_class"].items(), key=lambda item: item[1]["f1"]) if len(metrics["per_class"]) > _MANY else None
    if found:
        yield f"the {_WORST} hardest of {len(found)} classes (--json has all)"
    rows = [["class", "precision", "recall", "F1", "images"]]
    for name, each in found[:_WORST] if found else metrics["per_class"].items():
        numbers = [f"{each[key]:.4f}" for key in ("precision", "recall", "f1")]
        rows.append([printable(name), *numbers, f"{each['images']:,}"])
    yield from aligned(rows, "<>>>>")


def _confusions(names: list[str], matrix: list[list[int]]) -> Iterator[str]:
    table = [["", *map(printable, names)]]
    table += [
        [printable(name), *(str(count) if count else "." for count in row)] for name, row in zip(names, matrix, strict=True)
    ]
    lines = list(aligned(table, "<" + ">" * len(names)))
    if max(map(len, lines)) <= shutil.get_terminal_size((100, 24)).columns:
        yield "confusion matrix: a line for each true class, a column for each answer"
        yield from lines
        return
    pairs = [
        (count, names[true], names[said])
        for true, row in enumerate(matrix)
        for said, count in enumerate(row)
        if true != said and count
    ]
    yield f"most frequent confusions, of {sum(count for count, _, _ in pairs):,} (--json has the whole matrix)"
    for count, true, said in sorted(pairs, key=lambda pair: -pair[0])[:_WORST]:
        yield f"{count:>6,}  {printable(true)} taken for {printable(said)}"
