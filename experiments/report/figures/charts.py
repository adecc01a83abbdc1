"""The charts of a report, each drawn for a width: wide beside another, narrow on a telephone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.experiments.report.anytime import AnytimePoint
from headstart.experiments.report.standings import Standing, Standings, share_interval
from headstart.experiments.report.timeline import Timeline
from headstart.experiments.report.verdict import score_words
from headstart.pipeline.text import plural

from .svg import Drawing, Scale, apart, bounds, ticks

WIDE, NARROW = 540.0, 340.0
_LABELLED = 5  # lines that are labelled at their end, beyond which only the chosen one is
_ROWS = 20
_BINS = 10


@dataclass(frozen=True)
class Chart:
    """Attributes:
    name: of its files.
    numbers: what it draws, ready for JSON.
    draw: a drawing of that width; None for numbers without one.
    """

    name: str
    numbers: Any
    draw: Callable[[float], Drawing] | None


def standings_chart(standings: Standings) -> Chart:
    """Each head and baseline as a dot with its interval, the best first."""
    rows = [standings.shown, *standings.others]
    rows = [row for row in sorted(rows, key=lambda each: -(each.value or -2)) if row.value is not None]
    left_out = max(0, len(rows) - _ROWS)
    kept = rows[:_ROWS]
    if standings.shown in rows and standings.shown not in kept:
        kept[-1] = standings.shown
    numbers = [_standing_facts(row, standings) for row in rows]

    def draw(width: float) -> Drawing:
        longest = max((len(row.name) for row in kept), default=0)
        left, right, height = min(width * 0.46, 16 + 8.4 * longest), 52.0, 28 * len(kept) + 30
        title = f"{_metric_words(standings.metric)} on {standings.split} with 95 % intervals: " + ", ".join(
            f"{row.name} {score_words(standings.metric, row.value)}" for row in kept
        )
        on = "validation" if standings.split == "val" else standings.split
        below = f"{_metric_words(standings.metric)} on {on} images"
        below += "; grey: baselines" if any(row.is_baseline for row in kept) else ""
        drawing = Drawing(width, height + 18 + (18 if left_out else 0), title)
        drawing.text(width, height + 14, below, "soft end")
        ends = [end for row in kept for end in (row.value, row.low, row.high) if end is not None]
        low, high = bounds(ends or [0.0, 1.0])
        scale = Scale(low, min(high, 1.0), left, width - right)
        for tick in ticks(low, min(high, 1.0), 5 if width > 400 else 3):
            drawing.line(scale(tick), 0, scale(tick), height - 20)
            drawing.text(scale(tick), height - 4, _tick(standings.metric, tick), "soft mid")
        for number, row in enumerate(kept):
            y = 14 + 28 * number
            is_shown = row.name == standings.shown.name
            style = "chosen" if is_shown else "rest" if row.is_baseline else "dot"
            if row.low is not None and row.high is not None:
                drawing.line(scale(row.low), y, scale(row.high), y, "chosen" if is_shown else "axis", 2 if is_shown else 1.5)
            drawing.circle(scale(row.value or 0.0), y, 5 if is_shown else 4, style)
            label = "chosen bold end" if is_shown else "soft end" if row.is_baseline else "end"
            drawing.text(left - 12, y + 4, row.name, label, max(8, int((left - 14) / 8.2)))
            drawing.text(width, y + 4, _value(standings.metric, row.value), label)
        if left_out:
            drawing.text(width, height + 32, f"and {left_out} more heads", "soft end")
        return drawing

    return Chart("standings", numbers, draw)


def learning_chart(history: Mapping[str, Any], shown: str, best_epochs: Mapping[str, int | None]) -> Chart | None:
    """Validation score after each epoch of each head; None if nothing was trained by epochs."""
    metric = str(history.get("monitor", "loss"))
    curves: dict[str, list[tuple[int, float]]] = {}
    for name, course in history.get("heads", {}).items():
        points = [(int(each["epoch"]) + 1, each.get("val_score")) for each in course["epochs"]]
        sign = -1.0 if metric == "loss" else 1.0
        known = [(epoch, sign * float(value)) for epoch, value in points if value is not None]
        if known:
            curves[name] = known
    if not curves:
        return None
    is_labelled = len(curves) <= _LABELLED

    def draw(width: float) -> Drawing:
        height, left, bottom = 232.0, 40.0, 200.0
        named = list(curves) if is_labelled else [name for name in curves if name == shown]
        right = min(width * 0.44, 14 + 8.4 * max((len(name) for name in named), default=0))
        drawing = Drawing(width, height, f"Validation {metric} by epoch of {', '.join(list(curves)[:10])}")
        low, high = bounds([value for points in curves.values() for _, value in points])
        high = min(high, 1.0) if metric in ("accuracy", "pearson") else high
        last = max(points[-1][0] for points in curves.values())
        across, up = Scale(1, max(last, 2), left, width - right), Scale(low, high, bottom, 10)
        for tick in ticks(low, high, 4):
            drawing.line(left, up(tick), width - right, up(tick))
            drawing.text(left - 8, up(tick) + 4, _tick(metric, tick), "soft end")
        drawing.text(left, height - 8, "epoch 1", "soft")
        drawing.text(width - right, height - 8, str(last), "soft end")
        # Each that is named has a colour of its own, so that its line, its dot and its name are seen to belong together.
        hues = {name: f"hue{number}" for number, name in enumerate(name for name in named if name != shown)} | {shown: "chosen"}
        ordered = sorted(curves, key=lambda name: name == shown)
        for name in ordered:
            points = [(across(epoch), up(value)) for epoch, value in curves[name]]
            drawing.path(points, hues.get(name, ""), 2.2 if name == shown else 1.4)
            best = best_epochs.get(name)
            if best is not None and name in named and best < len(points):
                drawing.circle(*points[best], 4.5 if name == shown else 4, hues[name], note=f"kept: epoch {best + 1}")
        places = apart([up(curves[name][-1][1]) + 4 for name in named], 15, 12, bottom + 8)
        for name, place in zip(named, places, strict=True):
            drawing.text(
                width - right + 8, place, name, f"{hues[name]}{' bold' if name == shown else ''}", max(8, int(right / 8.2))
            )
        return drawing

    return Chart("learning", {"metric": metric, "heads": {name: dict(points) for name, points in curves.items()}}, draw)


def course_chart(name: str, lines: Mapping[str, Sequence[tuple[float, float]]], kept: float) -> Chart | None:
    """A number by epoch on training and validation, and the epoch that was kept; None if there is nothing to draw.

    Args:
        lines: (epoch, value) by split.
    """
    known = {split: points for split, points in lines.items() if points}
    if not known or all(len(points) < 2 for points in known.values()):
        return None
    words = {"train": "training", "val": "validation"}

    def draw(width: float) -> Drawing:
        height, left, right, bottom = 232.0, 52.0, 84.0, 200.0
        drawing = Drawing(width, height, f"{name} by epoch, on {' and '.join(words.get(split, split) for split in known)}")
        low, high = bounds([value for points in known.values() for _, value in points])
        epochs = [epoch for points in known.values() for epoch, _ in points]
        across, up = Scale(min(epochs), max(epochs), left, width - right), Scale(low, high, bottom, 10)
        for tick in ticks(low, high, 4):
            drawing.line(left, up(tick), width - right, up(tick))
            drawing.text(left - 8, up(tick) + 4, f"{tick:g}", "soft end")
        drawing.text(left, height - 8, f"epoch {min(epochs):.4g}", "soft")
        drawing.text(width - right, height - 8, f"{max(epochs):.4g}", "soft end")
        for split, points in known.items():
            is_val = split == "val"
            drawing.path(
                [(across(epoch), up(value)) for epoch, value in points], "chosen" if is_val else "", 2.2 if is_val else 1.2
            )
        if "val" in known:
            epoch, value = min(known["val"], key=lambda point: abs(point[0] - kept))
            drawing.circle(across(epoch), up(value), 4, "chosen", note=f"kept: epoch {epoch:.4g}")
        places = apart([up(points[-1][1]) + 4 for points in known.values()], 15, 12, bottom + 8)
        for split, place in zip(known, places, strict=True):
            drawing.text(width - right + 8, place, words.get(split, split), "chosen bold" if split == "val" else "soft")
        return drawing

    return Chart(f"course_{name}", {split: list(points) for split, points in known.items()}, draw)


def followed_chart(name: str, lines: Mapping[str, Sequence[tuple[float, float]]], kept: float) -> Chart | None:
    """Many numbers by epoch, a thin line each, and the epoch that was kept; None where none was seen twice.

    Args: lines: (epoch, value) by the number's name.
    """
    known = {each: points for each, points in lines.items() if len(points) > 1}
    if not known:
        return None

    def draw(width: float) -> Drawing:
        height, left, bottom = 232.0, 52.0, 200.0
        drawing = Drawing(width, height, f"{plural(len(known), 'number')} of {name} by epoch")
        low, high = bounds([value for points in known.values() for _, value in points])
        epochs = [epoch for points in known.values() for epoch, _ in points]
        across, up = Scale(min(epochs), max(epochs), left, width - 10), Scale(low, high, bottom, 10)
        for tick in ticks(low, high, 4):
            drawing.line(left, up(tick), width - 10, up(tick))
            drawing.text(left - 8, up(tick) + 4, f"{tick:g}", "soft end")
        drawing.line(across(kept), 10, across(kept), bottom, "axis", 1)
        drawing.text(left, height - 8, f"epoch {min(epochs):.4g}", "soft")
        drawing.text(width - 10, height - 8, f"{max(epochs):.4g}", "soft end")
        for points in known.values():
            drawing.path([(across(epoch), up(value)) for epoch, value in points], "", 1.2)
        return drawing

    return Chart(f"followed_{name}", {each: list(points) for each, points in known.items()}, draw)


def classes_chart(per_class: Mapping[str, Mapping[str, Any]], matrix: Sequence[Sequence[int]]) -> Chart:
    """F1 of each class, the worst first, with its interval; at most so many rows."""
    rows: list[dict[str, Any]] = []
    for number, (name, each) in enumerate(per_class.items()):
        right = matrix[number][number]
        union = sum(matrix[number]) + sum(row[number] for row in matrix) - right
        if not union:
            continue  # never true and never said: there is nothing to score
        # F1 is 2p / (1 + p) of the part p of images where it was true or said that were both: so are the bounds.
        low, high = (2 * bound / (1 + bound) for bound in share_interval(right, union))
        rows.append({"class": name, "f1": float(each["f1"]), "low": low, "high": high, "images": int(each["images"])})
    rows.sort(key=lambda row: row["f1"])
    mean = sum(row["f1"] for row in rows) / max(1, len(rows))
    kept = rows[:_ROWS]

    def draw(width: float) -> Drawing:
        longest = max((min(24, len(row["class"])) for row in kept), default=0)
        left, right = min(width * 0.36, 14 + 7.2 * longest), 112.0
        height = 26.0 * len(kept) + 26
        drawing = Drawing(
            width, height, "F1 by class, the worst first: " + ", ".join(f"{r['class']} {r['f1']:.2f}" for r in kept)
        )
        scale = Scale(0, 1, left, width - right)
        for number, row in enumerate(kept):
            y = 26.0 * number + 12
            is_bad = row["high"] < mean
            drawing.text(left - 10, y + 4, row["class"], "end", max(6, int((left - 12) / 7)))
            drawing.rectangle(left, y - 6, scale(row["f1"]) - left, 12, "bar wrong" if is_bad else "bar")
            drawing.line(scale(row["low"]), y, scale(row["high"]), y, "whisker", 1.5)
            drawing.text(width - right + 10, y + 4, f"{row['f1']:.2f}", "bold" if is_bad else "")
            drawing.text(width, y + 4, f"of {row['images']:,}", "soft end")
        drawing.text(left, height - 6, "0", "soft mid")
        drawing.text(scale(1), height - 6, "1", "soft mid")
        return drawing

    return Chart("classes", rows, draw)


def reliability_chart(confidence: Sequence[float], is_right: Sequence[bool]) -> Chart:
    """Part that is right among images with about the same certainty, in bins of equal width."""
    bins: list[list[int]] = [[] for _ in range(_BINS)]
    for number, value in enumerate(confidence):
        bins[min(_BINS - 1, int(value * _BINS))].append(number)
    points = []
    for members in bins:
        if not members:
            continue
        right = sum(is_right[i] for i in members)
        low, high = share_interval(right, len(members))
        mean = sum(confidence[i] for i in members) / len(members)
        points.append({"says": mean, "right": right / len(members), "low": low, "high": high, "images": len(members)})

    def draw(width: float) -> Drawing:
        height, left, bottom = 272.0, 40.0, 236.0
        drawing = Drawing(width, height, "Reliability: what it says against how often it is right")
        first = min((point["says"] for point in points), default=0.0)
        across, up = Scale(min(first - 0.03, 0.95), 1.0, left + 8, width - 14), Scale(0, 1, bottom, 26)
        for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
            drawing.line(left, up(tick), width - 8, up(tick))
            drawing.text(left - 8, up(tick) + 4, f"{tick * 100:.0f}", "soft end")
        for tick in ticks(across.low, 1.0, 4):
            drawing.text(across(tick), height - 18, f"{tick * 100:.0f}", "soft mid")
        drawing.text(width - 8, height - 2, "it says, %", "soft end")
        drawing.text(0, 12, "right, %", "soft")
        start = max(0.0, across.low)
        drawing.line(across(start), up(start), across(1), up(1), "axis", 1, "3 4")
        most = max((point["images"] for point in points), default=1)
        for point in points:
            x = across(point["says"])
            drawing.line(x, up(point["low"]), x, up(point["high"]), "axis", 1)
            share = (point["images"] / most) ** 0.5
            note = f"says {point['says'] * 100:.0f} %, right {point['right'] * 100:.0f} % of {point['images']:,} images"
            drawing.circle(x, up(point["right"]), 3 + 9 * share, "chosen", 0.8, note)
        return drawing

    return Chart("reliability", points, draw)


def timeline_chart(timeline: Timeline) -> Chart:
    """Jobs side by side as they ended, a row a worker; height is memory."""
    jobs = timeline.jobs
    most = max([job.memory_bytes for job in jobs] + [timeline.budget_bytes or 0, 1])
    shown = range(min(timeline.workers, 12))

    def draw(width: float) -> Drawing:
        row = 44.0
        height = row * len(shown) + 24
        drawing = Drawing(
            width,
            height,
            f"{plural(len(jobs), 'job')} over {timeline.span_s:.0f} seconds by {plural(timeline.workers, 'worker')}",
        )
        across = Scale(0, max(timeline.span_s, 1e-9), 0, width)
        step = max(1, len(jobs) // 3000)  # of very many, every so manieth: the picture is the same
        for job in jobs[::step]:
            if job.worker not in shown:
                continue
            base = row * (job.worker + 1) - 4
            tall = (row - 10) * job.memory_bytes / most
            begin = across(max(0.0, job.ended_s - job.seconds))
            note = f"{job.job_id}: {job.images} images in {job.seconds:.2f} s, {job.memory_bytes / 1e6:,.0f} MB" + (
                f", {job.failed} failed" if job.failed else ""
            )
            style = "bar wrong" if job.failed else "bar chosen"
            drawing.rectangle(begin, base - tall, max(0.6, across(job.ended_s) - begin - 0.6), tall, style, note, 1)
        for worker in shown:
            base = row * (worker + 1) - 4
            drawing.line(0, base, width, base, "grid")
            if timeline.budget_bytes:
                drawing.line(
                    0,
                    base - (row - 10) * timeline.budget_bytes / most,
                    width,
                    base - (row - 10) * timeline.budget_bytes / most,
                    "axis",
                    1,
                    "3 4",
                )
        drawing.text(0, height - 4, "0 s", "soft")
        drawing.text(width, height - 4, f"{timeline.span_s:,.0f} s", "soft end")
        return drawing

    return Chart("jobs", [vars(job) for job in jobs], draw)


def anytime_chart(points: Sequence[AnytimePoint]) -> Chart:
    """Score of a simple head against how many images had features."""

    def draw(width: float) -> Drawing:
        height, left, bottom = 232.0, 40.0, 200.0
        drawing = Drawing(width, height, "Validation accuracy of ridge by images that had features")
        low, high = bounds([bound for point in points for bound in (point.low, point.high)])
        across = Scale(math.log(points[0].images), math.log(points[-1].images), left + 6, width - 46)
        up = Scale(max(0.0, low), min(1.0, high), bottom, 10)
        for tick in ticks(up.low, up.high, 4):
            drawing.line(left, up(tick), width - 40, up(tick))
            drawing.text(left - 8, up(tick) + 4, f"{tick * 100:g}", "soft end")
        places = [(across(math.log(point.images)), point) for point in points]
        drawing.area([(x, up(p.high)) for x, p in places] + [(x, up(p.low)) for x, p in reversed(places)], "chosen")
        drawing.path([(x, up(p.accuracy)) for x, p in places], "chosen", 2)
        for x, point in places:
            note = f"{point.images:,} images: {point.accuracy * 100:.1f} % of {point.judged:,} validation images"
            drawing.circle(x, up(point.accuracy), 3, "chosen", note=note)
        drawing.text(width - 34, up(points[-1].accuracy) + 4, f"{points[-1].accuracy * 100:.1f}", "chosen bold")
        drawing.text(left, height - 8, f"{points[0].images:,} images", "soft")
        drawing.text(width - 40, height - 8, f"{points[-1].images:,}", "soft end")
        return drawing

    return Chart("anytime", [vars(point) for point in points], draw)


def scatter_chart(name: str, true: Sequence[float], said: Sequence[float]) -> Chart:
    """Predicted against true; on the dotted line they are equal."""

    def draw(width: float) -> Drawing:
        height, left, bottom = 280.0, 48.0, 244.0
        drawing = Drawing(width, height, f"{name}: predicted against true, {plural(len(true), 'image')}")
        low, high = bounds([*true, *said] or [0.0, 1.0])
        across, up = Scale(low, high, left, width - 10), Scale(low, high, bottom, 8)
        for tick in ticks(low, high, 4):
            drawing.line(left, up(tick), width - 10, up(tick))
            drawing.text(left - 8, up(tick) + 4, f"{tick:g}", "soft end")
            drawing.text(across(tick), height - 20, f"{tick:g}", "soft mid")
        drawing.line(across(low), up(low), across(high), up(high), "axis", 1, "3 4")
        for x, y in zip(true, said, strict=True):
            drawing.circle(across(x), up(y), 2.6, "chosen", 0.5)
        drawing.text(width - 10, height - 4, "true", "soft end")
        drawing.text(0, 8, "said", "soft")
        return drawing

    return Chart(f"predicted_{name}", {"true": list(true), "said": list(said)}, draw)


def residuals_chart(name: str, residuals: Sequence[float]) -> Chart:
    """How often it errs by how much."""
    low, high = bounds(residuals or [0.0, 1.0])
    width_of = (high - low) / 24 or 1.0
    counts = [0] * 24
    for value in residuals:
        counts[min(23, int((value - low) / width_of))] += 1

    def draw(width: float) -> Drawing:
        height, bottom = 280.0, 244.0
        drawing = Drawing(width, height, f"{name}: predicted less true, {plural(len(residuals), 'image')}")
        across, up = Scale(low, high, 8, width - 8), Scale(0, max(counts), bottom, 12)
        for number, count in enumerate(counts):
            begin, end = across(low + number * width_of), across(low + (number + 1) * width_of)
            drawing.rectangle(begin + 0.5, up(count), end - begin - 1, bottom - up(count), "bar", plural(count, "image"))
        if low < 0 < high:
            drawing.line(across(0), 8, across(0), bottom, "axis", 1, "3 4")
        for tick in ticks(low, high, 5):
            drawing.text(across(tick), height - 20, f"{tick:g}", "soft mid")
        drawing.text(width - 8, height - 4, "said less true", "soft end")
        return drawing

    return Chart(f"residuals_{name}", {"low": low, "high": high, "counts": counts}, draw)


def _standing_facts(row: Standing, standings: Standings) -> dict[str, Any]:
    return {
        "name": row.name,
        "is_baseline": row.is_baseline,
        "metric": standings.metric,
        "split": standings.split,
        "value": row.value,
        "interval": [row.low, row.high],
        "validation": row.on_validation,
    }


def _metric_words(metric: str) -> str:
    return "Accuracy" if metric == "accuracy" else "Pearson's r"


def _tick(metric: str, value: float) -> str:
    return f"{value * 100:g}" if metric == "accuracy" else f"{value:g}"


def _value(metric: str, value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.1f}" if metric == "accuracy" else f"{value:.3f}"
