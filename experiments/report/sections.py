"""The parts of a page about a trained head, in their order: what each asks, how to read it, what it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headstart.experiments.data.pictures import Pictures
from headstart.experiments.report.figures.charts import (
    Chart,
    anytime_chart,
    classes_chart,
    learning_chart,
    reliability_chart,
    residuals_chart,
    scatter_chart,
    timeline_chart,
)
from headstart.experiments.report.figures.thumbnails import jpeg, squared
from headstart.experiments.runs.database.rows import HISTORY, run_numbers
from headstart.experiments.runs.head_experiment import HeadExperiment
from headstart.pipeline.doors.records import DamagedError, read_record
from headstart.pipeline.text import plural

from . import page as pages
from .answers import Neighbour, nearest_training_images
from .anytime import AnytimePoint
from .audit_section import audit_section
from .markup import plain, text
from .mistakes_seen import overlay_words, overlays_of
from .projection import Map
from .subject import MISTAKES_SHOWN, SPLIT_NAMES, Subject, own_metrics
from .timeline import Timeline

_PAIR_EDGE = 112
_MANY_CLASSES = 25
_SCATTERED = 2000


def sections_of(
    subject: Subject,
    maps: Sequence[Map],
    pictures: Pictures,
    timeline: Timeline,
    anytime: Sequence[AnytimePoint],
    charts: list[Chart],
    report: Callable[[str], None],
) -> list[pages.Section]:
    """The parts of the page in their order; what they draw is added to `charts`, and `report` told what takes a while."""
    sections = [_mistakes_section(subject, pictures, report)]
    doubts = audit_section(subject, pictures)
    sections += [doubts] if doubts is not None else []
    sections.append(_map_section(subject, maps))
    detail = _class_sections(subject, charts) if subject.is_classes else _number_sections(subject, charts)
    sections += detail
    learning = learning_chart(_history(subject.experiment), subject.shown, _best_epochs(subject.metrics))
    halves = []
    if learning is not None:
        charts.append(learning)
        metric = {"accuracy": "accuracy in per cent", "pearson": "correlation", "loss": "loss"}[learning.numbers["metric"]]
        how = f"Validation {metric} after each epoch; a dot is the epoch that was kept of a head. Small ups and downs are chance."
        if subject.shown not in learning.numbers["heads"]:
            how += f" {plain(subject.shown, 40)} has no epochs."
        halves.append(pages.Section("learning", "How it learned", how, pages.chart_markup(learning), True))
    if len(anytime) > 1:
        chart = anytime_chart(anytime)
        charts.append(chart)
        after = ", ".join(f"{each.images:,}" for each in anytime)
        how = (
            f"Accuracy in per cent of ridge regression, which learns at once, after {after} images: "
            "it learned from those of training among them and was tried on those of validation. The band is the 95 % interval, "
            "wide while images are few. If the end is flat, more images of this kind will bring little."
        )
        halves.append(
            pages.Section("" if halves else "learning", "Would more images help?", how, pages.chart_markup(chart), True)
        )
    sections += halves
    if timeline.jobs:
        chart = timeline_chart(timeline)
        charts.append(chart)
        is_half = (len(halves) + len(detail)) % 2 == 1  # else one of them would stand alone
        markup = pages.chart_markup(chart) if is_half else pages.full_width_chart(chart)
        sections.append(pages.Section("run", "The run", _run_words(timeline), markup, is_half))
    sections.append(pages.Section("next", "What next", "", _next_markup(subject)))
    return sections


def _next_markup(subject: Subject) -> str:
    number = run_numbers(subject.experiment).get(subject.shown)
    run = f" --run {number}" if number is not None else ""
    doubts = "labels that may be wrong, " if subject.is_classes else ""
    return (
        f'<ul class="how"><li><code>headstart predict IMAGES{run}</code>: what it says of other images</li>'
        f"<li><code>headstart audit --corrections doubts.csv</code> writes down {doubts}images that are there twice or in two "
        "splits; correct the column label of that table</li>"
        "<li><code>headstart enqueue --labels doubts.csv</code> takes what you corrected, and <code>headstart train-head</code> "
        "trains again; nothing is extracted anew</li></ul>"
    )


def _mistakes_section(subject: Subject, pictures: Pictures, report: Callable[[str], None]) -> pages.Section:
    shown = subject.mistakes[:MISTAKES_SHOWN]
    where = SPLIT_NAMES[subject.split]
    if not len(shown):
        return pages.Section("mistakes", "What it gets wrong", f"Nothing: every {where} image is right.", "")
    data, train = subject.data.data, subject.data.data.train
    neighbours = nearest_training_images(data.source, train, shown)
    own = pictures.take(shown, _PAIR_EDGE)
    near = pictures.take([each.position for each in neighbours], _PAIR_EDGE)
    overlays = overlays_of(subject, pictures, shown, report)
    items = []
    for position, neighbour, one, other, spoke in zip(
        shown.tolist(), neighbours, own, near, overlays or [None] * len(shown), strict=True
    ):
        caption, alternative = _caption(subject, position, neighbour)
        over = None if spoke is None else jpeg(squared(spoke, _PAIR_EDGE))
        items.append(pages.mistake_markup(jpeg(one), jpeg(other), caption, alternative, spoke=over))
    middle = "" if overlays is None else f"Middle: {overlay_words(subject)}. "
    total, judged = len(subject.mistakes), len(subject.answers.judged)
    if subject.is_classes:
        counted = f"{total:,} of {judged:,} {where} images wrong" + (f", {len(shown)} of them here" if total > len(shown) else "")
        how = (
            f"{counted}. Left: the image. {middle}Right, fainter: the training image nearest to it, its label and the cosine of "
            "their features (1: the same). Where that one looks alike and bears the label that was said, the image's own may be "
            "wrong."
        )
        heading = "What it gets wrong, most certain first"
    else:
        how = (
            f"The largest errors of {judged:,} {where} images. Left: the image. {middle}Right, fainter: the training image "
            "nearest to it, with its value."
        )
        heading = "Where it errs most"
    kind = "mistakes" if overlays is None else "mistakes three"
    return pages.Section("mistakes", heading, how, f'<ul class="{kind}">{"".join(items)}</ul>')


def _caption(subject: Subject, position: int, neighbour: Neighbour) -> tuple[str, str]:
    targets, answers = subject.data.data.targets, subject.answers
    if subject.is_classes:
        true, said = targets.names[targets.codes[position]], targets.names[answers.said[position]]
        near = targets.names[targets.codes[neighbour.position]]
        caption = (
            f'<b class="bad">{text(said, 40)}</b> instead of <b>{text(true, 40)}</b>, {_sure(answers.confidence[position])} sure'
            f"<br><span>nearest: {text(near, 40)}, {neighbour.cosine:.2f}</span>"
        )
        return caption, plain(f"{true}, said to be {said}")
    true_words = ", ".join(f"{value:.4g}" for value in targets.values[position])
    said_words = ", ".join(f"{value:.4g}" for value in answers.predicted[position])
    near = ", ".join(f"{value:.4g}" for value in targets.values[neighbour.position])
    caption = (
        f'<b class="bad">{text(said_words)}</b> instead of <b>{text(true_words)}</b><br>'
        f"<span>nearest: {text(near)}, {neighbour.cosine:.2f}</span>"
    )
    return caption, plain(f"{true_words}, said to be {said_words}")


def _sure(confidence: float) -> str:
    return f"{min(99.9, confidence * 100):.1f} %" if confidence > 0.985 else f"{confidence * 100:.0f} %"


def _map_section(subject: Subject, maps: Sequence[Map]) -> pages.Section:
    described = []
    for each in maps:
        if each.explained is None:
            ring = " Rings are mistakes." if subject.is_classes else ""
            how = (
                f"t-SNE of the features of {len(each.positions):,} images.{ring} Neighbours are alike; distances between groups "
                "mean little."
            )
        else:
            how = (
                f"The two directions in which the features of {len(each.positions):,} images differ most; they hold "
                f"{each.explained * 100:.0f} % of the variance, so what lies together here may be apart."
            )
        described.append((f"{each.name}, {plural(len(each.positions), 'image')}", how))
    if subject.is_classes:
        choices = [("class", "class"), ("answer", "right or wrong"), ("split", "split")]
    else:
        choices = [("value", f"value of {plain(subject.head.names[0], 30)}"), ("split", "split")]
    return pages.Section("map", "Where images lie", "", pages.map_markup(described, choices))


def _class_sections(subject: Subject, charts: list[Chart]) -> list[pages.Section]:
    metrics = own_metrics(subject)
    names, matrix = list(metrics["per_class"]), metrics["confusion_matrix"]
    if len(names) <= _MANY_CLASSES:
        how = "Rows are true, columns are predicted classes. What is right is grey. A click shows the images."
        confusions = pages.matrix_markup(names, matrix)
    else:
        how = "The most frequent confusions. A click shows the images."
        confusions = pages.confusions_markup(names, matrix)
    classes = classes_chart(metrics["per_class"], matrix)
    charts += [classes, Chart("confusions", {"classes": names, "matrix": matrix}, None)]
    images = sorted(each["images"] for each in metrics["per_class"].values())
    middle = images[len(images) // 2]
    listed = len(classes.numbers)
    worst = f"the {min(20, listed)} worst of {listed}" if listed > 20 else "the worst first"
    how_classes = (
        f"F1 on {SPLIT_NAMES[subject.split]} images, {worst}: 1 where all images of the class are recognized and no others taken "
        "for it (2 x right / (images of it + images said to be it)); the line is its 95 % interval, "
        f"about {middle:,} images a class. "
        "Orange: below the mean of all classes, even at the interval's upper end."
    )
    judged, answers, targets = subject.answers.judged, subject.answers, subject.data.data.targets
    is_right = answers.said[judged] == targets.codes[judged]
    reliability = reliability_chart(answers.confidence[judged].tolist(), is_right.tolist())
    charts.append(reliability)
    return [
        pages.Section("classes", "Which are taken for which", how, confusions, True),
        pages.Section("", "Class by class", how_classes, pages.chart_markup(classes), True),
        pages.Section(
            "certainty", "Can its certainty be believed?", _certainty(subject, metrics), pages.chart_markup(reliability), True
        ),
    ]


def _certainty(subject: Subject, metrics: Mapping[str, Any]) -> str:
    judged, answers, targets = subject.answers.judged, subject.answers, subject.data.data.targets
    gap = float(answers.confidence[judged].mean() - (answers.said[judged] == targets.codes[judged]).mean())
    lean = "it says too much" if gap > 0.01 else "it says too little" if gap < -0.01 else "no lean to either side"
    return (
        f"Of what it says with 80 % certainty about 80 % should be right: dots on the line. On average it is off by "
        f"{metrics['ece'] * 100:.1f} points ({lean}). Larger dots are more images, lines 95 % intervals."
    )


def _number_sections(subject: Subject, charts: list[Chart]) -> list[pages.Section]:
    metrics = own_metrics(subject)
    sections = []
    for place, name in enumerate(subject.head.names):
        judged = subject.answers.judged
        if len(judged) > _SCATTERED:
            random = np.random.Generator(np.random.Philox(0))
            judged = np.sort(random.choice(judged, _SCATTERED, replace=False))
        true = subject.data.data.targets.values[judged, place].astype(float)
        said = subject.answers.predicted[judged, place].astype(float)
        scatter, residuals = scatter_chart(name, true.tolist(), said.tolist()), residuals_chart(name, (said - true).tolist())
        charts += [scatter, residuals]
        measured = metrics["targets"][name]
        how = f"{_target_words(measured)} On the dotted line the two are equal." + (
            f" {_SCATTERED:,} images, drawn at random." if len(subject.answers.judged) > _SCATTERED else ""
        )
        anchor = "numbers" if not place else ""
        sections += [
            pages.Section(anchor, f"{plain(name, 40)}: said against true", how, pages.chart_markup(scatter), True),
            pages.Section("", f"{plain(name, 40)}: how far off", _within_words(measured), pages.chart_markup(residuals), True),
        ]
    return sections


def _target_words(measured: Mapping[str, Any]) -> str:
    low, high = measured["pearson_interval"]
    sure = f" ({low:.3f} to {high:.3f})" if low is not None else ""
    r = "none" if measured["pearson"] is None else f"{measured['pearson']:.3f}{sure}"
    return f"Pearson's r {r}, mean absolute error {measured['mae']:.4g}."


def _within_words(measured: Mapping[str, Any]) -> str:
    within = measured.get("within_groups")
    if not within or within["pearson"] is None:
        return "Said less true; images by how much."
    return (
        f"Said less true; images by how much. Within {within['groups']:,} groups Pearson's r is {within['pearson']:.3f} on "
        "average: where that is far below the other, it tells groups apart and not what is in them."
    )


def _history(experiment: HeadExperiment) -> Mapping[str, Any]:
    try:
        return read_record(experiment.folder / HISTORY, None)
    except (FileNotFoundError, DamagedError):  # a page without curves says the rest
        return {}


def _best_epochs(metrics: Mapping[str, Any]) -> dict[str, int | None]:
    return {entry["head"]: entry.get("best_epoch") for entry in metrics["heads"]}


def _run_words(timeline: Timeline) -> str:
    rate = timeline.images / timeline.busy_s if timeline.busy_s > 0 else 0.0
    who = "one worker" if timeline.workers == 1 else f"{timeline.workers} workers, a row each"
    pause = timeline.span_s - timeline.busy_s
    idle = f", {pause:,.0f} s of them without any" if pause > 0.05 * timeline.span_s and pause > 5 else ""
    failed = sum(job.failed for job in timeline.jobs)
    budget = " The dotted line is the budget." if timeline.budget_bytes else ""
    peak = max(job.memory_bytes for job in timeline.jobs) / 1e6
    return (
        f"{plural(len(timeline.jobs), 'job')}, {plural(timeline.images, 'image')} "
        f"by {who} in {timeline.span_s:,.0f} seconds{idle}; "
        f"{rate:,.0f} images a second{' while at work' if idle else ''}. "
        f"Each block is a job, its height the memory, at most {peak:,.0f} MB.{budget}"
        + (f" {plural(failed, 'image')} failed, in the orange jobs." if failed else "")
    )
