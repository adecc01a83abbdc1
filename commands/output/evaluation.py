"""What a head is worth, as lines for a person: numbers with their intervals, baselines beside, classes and confusions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from headstart.pipeline.text import plural, printable

from .terminal import aligned, interval_text

if TYPE_CHECKING:
    from headstart.experiments.evaluation.evaluate_abstractor import AbstractorEvaluation
    from headstart.experiments.evaluation.evaluate_designs import DesignsEvaluation
    from headstart.experiments.evaluation.evaluate_handwriting import HandwritingEvaluation
    from headstart.experiments.evaluation.evaluate_run import RunEvaluation

_MANY = 25  # classes beyond which only the worst are listed
_WORST = 10


def evaluation_lines(evaluation: RunEvaluation) -> Iterator[str]:
    """Lines for a terminal of this width."""
    yield f"{evaluation.chosen.words} on {evaluation.metrics['images']:,} images of the split '{evaluation.split}'"
    if evaluation.chosen.run.task == "regression":
        yield from _numbers(evaluation)
        return
    metrics = evaluation.metrics
    yield ""
    yield from aligned([["", "accuracy", "95 % interval", "macro F1"], *_standings(evaluation)], "<>>>")
    yield ""
    top = [
        f"top-{key.split('_')[1]} {metrics[key]:.4f}" for key in metrics if key.startswith("top_") and key.endswith("_accuracy")
    ]
    loss = f"log-loss {metrics['log_loss']:.4f}"
    if metrics["log_loss_interval"][0] is not None:
        narrow = " or wider: images are few" if "log_loss" in metrics.get("narrow_interval", ()) else ""
        loss += f" ({interval_text(metrics['log_loss_interval'])}{narrow})"
    yield "  ".join([*top, loss, f"calibration error (ECE) {metrics['ece']:.4f}"])
    yield ""
    yield from _classes(metrics)
    yield ""
    yield from _confusions(list(metrics["per_class"]), metrics["confusion_matrix"])


def handwriting_lines(evaluation: HandwritingEvaluation) -> Iterator[str]:
    """How well lines of people and of a network are read, a line of text a way of writing."""
    texts = plural(evaluation.lines, "text")
    yield f"{texts} of the split '{evaluation.split}', written by people and by {evaluation.run}, read by {evaluation.reader}"
    yield from evaluation.notes
    yield ""
    rows = [["", "characters wrong", "95 % interval", "first right", "last right", "lines mostly wrong", "slant r"]]
    for name, one in evaluation.numbers.items():
        interval = interval_text(one["character_error_rate_interval"])
        parts = (f"{one[key]:.4f}" for key in ("first_right", "last_right", "mostly_wrong"))
        leaning = "none" if one["slant_r"] is None else f"{one['slant_r']:.2f}"
        rows.append([name, f"{one['character_error_rate']:.4f}", interval, *parts, leaning])
    yield from aligned(rows, "<>>>>>>")
    yield ""
    yield "slant r: how far the slant of lines goes with that of the lines that prime, which only those named primed have seen"


def designs_lines(evaluation: DesignsEvaluation) -> Iterator[str]:
    """What drawn pictures are worth, a line of text for each kind that they are compared with."""
    yield (
        f"{evaluation.images:,} pictures that {evaluation.run} drew from descriptions of the split '{evaluation.split}', beside "
        f"the real ones, judged by {evaluation.judge}"
    )
    yield ""
    rows = [["", "right goal", "right format", "tone error", "score", "distance", "diversity", "flatness", "nearest"]]
    for name, one in evaluation.numbers.items():
        parts = [f"{one[key]:.3f}" for key in ("goal_accuracy", "format_accuracy", "tone_error", "score")]
        near = f"{one['nearest']:.1f}" if "nearest" in one else ""
        apart = "none" if one["diversity"] is None else f"{one['diversity']:.2f}"
        rows.append([name, *parts, f"{one['distance']:.2f}", apart, f"{one['flatness']:.3f}", near])
    yield from aligned(rows, "<>>>>>>>>")
    yield ""
    counts = ", ".join(
        f"{one['drawn']:.2f} and {one['real']:.2f} of {count:,}" for count, one in evaluation.distance_by_count.items()
    )
    yield f"distance: Fréchet's, of what the judge sees in them and in other real designs. Drawn and real ones have {counts}"
    yield "diversity: how far pictures of the same goal and format are from each other, as a part of the real ones' distance"
    yield "flatness: the part of neighbouring pixels that are alike (4 of 255)"
    yield (
        "nearest: the distance, in levels of 255, of the one that comes nearest to a training image; a copy has 0. "
        "Of real: of all real designs that no training saw"
    )


def abstractor_lines(evaluation: AbstractorEvaluation) -> Iterator[str]:
    """Numbers of the same designs by their true structure and by what a U-Net sees of them."""
    yield f"{plural(evaluation.designs, 'design')} of the split '{evaluation.split}', judged by {evaluation.run}"
    yield f"by their true structure, and by what {evaluation.eyes} sees of them"
    yield ""
    true, seen = evaluation.numbers["true"], evaluation.numbers["seen"]
    rows = [["", "true", "95 % interval", "seen", "95 % interval"]]
    for name in (name for name in true if f"{name}_interval" in true):
        cells = [(f"{one[name]:.4f}", interval_text(one[f"{name}_interval"])) for one in (true, seen)]
        rows.append([name.replace("_", " "), *cells[0], *cells[1]])
    yield from aligned(rows, "<>>>>")


def _standings(evaluation: RunEvaluation) -> Iterator[list[str]]:
    rows = {
        evaluation.chosen.run.head: evaluation.metrics,
        **{f"baseline {name}": metrics for name, metrics in evaluation.baselines.items()},
    }
    for name, metrics in rows.items():
        yield [name, f"{metrics['accuracy']:.4f}", interval_text(metrics["accuracy_interval"]), f"{metrics['macro_f1']:.4f}"]
    images = [metrics["images"] for metrics in evaluation.metrics["per_class"].values()]
    yield ["always the commonest class", f"{max(images) / sum(images):.4f}", "", ""]


def _numbers(evaluation: RunEvaluation) -> Iterator[str]:
    for target, metrics in evaluation.metrics["targets"].items():
        yield ""
        yield f"target {printable(target)}"
        rows = [["", "MSE", "MAE", "R2", "Pearson", "95 % interval", "Spearman", "95 % interval"]]
        rows.append(_target_row(evaluation.chosen.run.head, metrics))
        for name, other in evaluation.baselines.items():
            rows.append(_target_row(f"baseline {name}", other["targets"][target]))
        yield from aligned(rows, "<>>>>>>>")
        within = metrics.get("within_groups")
        if within:
            means = f"Pearson {_number(within['pearson'])}, Spearman {_number(within['spearman'])}"
            yield f"within {within['groups']:,} groups on average: {means}"


def _target_row(name: str, metrics: dict[str, Any]) -> list[str]:
    spearman = interval_text(metrics["spearman_interval"])
    if "spearman" in metrics.get("narrow_interval", ()):
        spearman += " or wider"
    return [
        name,
        f"{metrics['mse']:.4g}",
        f"{metrics['mae']:.4g}",
        _number(metrics["r2"]),
        _number(metrics["pearson"]),
        interval_text(metrics["pearson_interval"]),
        _number(metrics["spearman"]),
        spearman,
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _classes(metrics: dict[str, Any]) -> Iterator[str]:
    hardest = sorted(metrics["per_class"].items(), key=lambda item: item[1]["f1"]) if len(metrics["per_class"]) > _MANY else None
    if hardest:
        yield f"the {_WORST} hardest of {len(hardest)} classes (--json has all)"
    rows = [["class", "precision", "recall", "F1", "images"]]
    for name, each in hardest[:_WORST] if hardest else metrics["per_class"].items():
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
