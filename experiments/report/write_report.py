"""`headstart report` as one call: reads an experiment, looks at its images, writes the page and its figures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.config import TrainingOptions
from headstart.experiments.data.pictures import Pictures
from headstart.experiments.evaluation.intervals import Sample
from headstart.experiments.report.figures.charts import WIDE, Chart, standings_chart
from headstart.experiments.report.figures.map_picture import map_picture
from headstart.experiments.report.figures.thumbnails import Sheets, sheets_of, tile_edge
from headstart.experiments.runs.catalog import BEST
from headstart.experiments.runs.experiment import read_metrics
from headstart.experiments.runs.experiment_data import experiment_data
from headstart.experiments.runs.head_experiment import HeadExperiment
from headstart.experiments.runs.recipe_experiment import RecipeExperiment
from headstart.pipeline.doors.records import encode
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural
from headstart.pipeline.workspace import Workspace, as_workspace

from . import page as pages
from .answers import ask_head, mistakes_of
from .anytime import anytime_curve
from .map_data import map_facts, thumbnail_names
from .markup import plain
from .projection import Map, maps_of
from .recipe_page import recipe_meant_by, recipe_page
from .sections import sections_of
from .standings import Standings, standings_of
from .subject import SPLIT_NAMES, Subject, chosen_experiment, head_of, looked_at
from .timeline import Timeline, timeline_of
from .verdict import Difference, Judged, Phrase, rival_of, score_words, verdict_of

FOLDER = "report"
PAGE = "report.html"
LARGEST_PAGE = 10 * 1000 * 1000  # bytes of a page that a mail takes
_QUALITIES = (72, 55, 40, 25)


@dataclass(frozen=True)
class WrittenReport:
    """Attributes:
    path: of the page.
    figures: files beside it: each figure, and its numbers.
    verdict: the sentence at its top.
    missing: images that could not be read again, and are grey.
    """

    path: Path
    bytes: int
    figures: tuple[Path, ...]
    verdict: str
    missing: int


def write_report(
    what: str | int = BEST, workspace: Workspace | Path | str | None = None, report: Callable[[str], None] = lambda text: None
) -> WrittenReport:
    """Writes `report/report.html` in the folder of an experiment, its figures and their numbers beside it.

    Args:
        what: the number of a run, 'best', or an experiment by folder or name: that is about the head that validation chose.
        workspace: a folder; None is the one that every command would take, see `find_root`.
        report: told what is being done.

    Raises: HeadstartError if there is no such run or experiment, it is not finished, or its head or features are gone.
    """
    opened = as_workspace(workspace)
    recipe = recipe_meant_by(opened, str(what))
    if recipe is not None:
        return _written_recipe(opened, recipe, report)
    experiment, shown = chosen_experiment(opened, str(what))
    metrics = read_metrics(experiment)
    report("reading the features, and what the head predicts from them")
    head = head_of(experiment, metrics, shown)
    data = experiment_data(opened, experiment)
    answers = ask_head(head, data)
    subject = Subject(opened, experiment, metrics, head, data, answers, mistakes_of(answers, data))
    return _written(subject, report)


def _written(subject: Subject, report: Callable[[str], None]) -> WrittenReport:
    everything, sample = looked_at(subject)
    report(f"placing {plural(len(everything), 'image')} on a map, similar ones close together")
    maps = maps_of(subject.data.data.source, everything, sample)
    report(f"making thumbnails of {plural(len(sample), 'image')}")
    pictures = Pictures(subject.data.features)
    edge = tile_edge(len(sample))
    tiles = pictures.take(sample, edge)
    standings = standings_of(subject.metrics, subject.shown)
    judged = _judged(subject, standings)
    timeline = timeline_of(subject.workspace, subject.experiment.encoder)
    anytime = anytime_curve(subject.data.data, _arrival(subject, timeline))
    charts = [standings_chart(standings)]
    sections = sections_of(subject, maps, pictures, timeline, anytime, charts, report)
    answer = _answer(subject, standings, judged, charts[0])
    facts = map_facts(subject, maps, everything, sample)
    names = thumbnail_names(subject, sample)
    title = f"{subject.experiment.folder.name}: {answer.number}"
    content = ""
    for quality in _QUALITIES:
        sheets = sheets_of(tiles, edge, quality=quality)
        page = pages.Page(title, answer, sections, _made_of(subject), _with_sheets(facts, sheets), names, sheets)
        content = pages.render(page)
        if len(content.encode()) <= LARGEST_PAGE:
            break
    report("writing the page and its figures")
    folder = subject.experiment.folder / FOLDER
    subject.workspace.make_folder(folder)
    figures = list(_figures(subject, folder, charts, maps))
    path = folder / PAGE
    data = content.encode()
    subject.workspace.files.replace(path, data)
    words = "".join(part.words for part in answer.verdict)
    return WrittenReport(path, len(data), tuple(figures), words, pictures.missing)


def _written_recipe(workspace: Workspace, experiment: RecipeExperiment, report: Callable[[str], None]) -> WrittenReport:
    page, charts = recipe_page(experiment)
    report("writing the page and its figures")
    folder = experiment.folder / FOLDER
    workspace.make_folder(folder)
    written = _chart_files(workspace, folder, charts)
    path, data = folder / PAGE, pages.render(page).encode()
    workspace.files.replace(path, data)
    return WrittenReport(path, len(data), tuple(written), "".join(part.words for part in page.answer.verdict), 0)


def _judged(subject: Subject, standings: Standings) -> Judged:
    data, positions = subject.data, subject.answers.judged
    groups = data.features.groups[positions]
    sample = Sample(len(positions), groups)
    commonest, pairs = None, []
    if subject.is_classes:
        codes, names = data.data.targets.codes, data.data.targets.names
        most = int(np.bincount(codes[data.data.train], minlength=len(names)).argmax())
        commonest = names[most], float((codes[positions] == most).mean())
        pairs = [(names[codes[i]], names[subject.answers.said[i]]) for i in subject.mistakes.tolist()]
    return Judged(
        standings,
        sample.units,
        "groups" if sample.is_grouped else "images",
        commonest,
        _difference(subject, standings),
        pairs,
        subject.metrics["selected_by"].get("within_noise", ()),
    )


def _difference(subject: Subject, standings: Standings) -> Difference | None:
    """From `metrics.json`, where the selected head stands against each other one; None where that is not said."""
    rival = rival_of(standings)
    if rival is None or subject.shown != subject.metrics["selected"]:
        return None
    for compared in subject.metrics.get("comparisons", []):
        if compared["than"] == rival.name and compared["metric"] == "accuracy" and None not in compared["interval"]:
            return Difference(compared["difference"], *compared["interval"])
    return None


def _arrival(subject: Subject, timeline: Timeline) -> NDArray[np.float64]:
    """(n,) when the job of each position ended."""
    ended = {job.job_id: job.ended_s for job in timeline.jobs}
    parts = subject.data.features.parts
    physical = [np.full(shard.rows, ended.get(shard.job_id, 0.0)) for part in parts for shard in part.shards]
    return np.asarray(np.concatenate(physical)[subject.data.features.rows.physical])


def _answer(subject: Subject, standings: Standings, judged: Judged, chart: Chart) -> pages.Headline:
    shown, where = standings.shown, SPLIT_NAMES[standings.split]
    sure = ""
    if shown.low is not None and shown.high is not None:
        low, high = (score_words(standings.metric, end) for end in (shown.low, shown.high))
        sure = f", {low} to {high} (95\u00a0%\u00a0interval)"
    if subject.is_classes:
        right = standings.images - len(subject.mistakes)
        of = f"right on {right:,} of {standings.images:,} {where} images{sure}"
    else:
        of = f"correlation (Pearson's r) of what it says with what is true on {plural(standings.images, f'{where} image')}{sure}"
    about = " · ".join([subject.experiment.folder.name, _subject_words(subject), _model(subject.experiment)])
    said: Sequence[Phrase] = verdict_of(judged, is_selected=subject.shown == subject.metrics["selected"])
    return pages.Headline(
        about, score_words(standings.metric, shown.value), of, said, list(subject.metrics.get("notes", [])), chart
    )


def _model(experiment: HeadExperiment) -> str:
    return experiment.encoder.name.removeprefix("encoder_").rpartition("-")[0] or experiment.encoder.name


def _subject_words(subject: Subject) -> str:
    names = subject.head.names
    if subject.is_classes:
        return f"{len(names):,} classes"
    return f"{len(names)} numbers" if len(names) > 1 else plain(names[0], 40)


def _with_sheets(facts: dict[str, Any], sheets: Sheets) -> dict[str, Any]:
    return facts | {"sheets": {"edge": sheets.edge, "columns": sheets.columns, "of": sheets.of}}


def _made_of(subject: Subject) -> dict[str, str]:
    experiment, metrics = subject.experiment, subject.metrics
    counts = dict(metrics["rows"])
    whole = counts.pop("images", None)
    rows = ", ".join(f"{SPLIT_NAMES.get(name, name)} {count:,}" for name, count in counts.items())
    rows += "" if whole is None else f"; {whole:,} with features"
    spec = _encoder_facts(experiment)
    chosen, many = metrics["selected_by"], len(metrics["heads"]) + len(metrics["baselines"])
    return {
        "experiment": f"{experiment.folder.name}, identity {experiment.identity}",
        "images": rows,
        "digest of the data": experiment.data,
        "encoder": f"{experiment.encoder.name}, fingerprint {experiment.fingerprint}",
        **spec,
        "head": f"{subject.shown}, weights {subject.head.digest}",
        "chosen by": f"{chosen['metric']} on {SPLIT_NAMES[chosen['split']]}, of {many} heads and baselines",
        **_trained_for(experiment.options, metrics["rows"]["train"]),
    }


def _trained_for(asked: TrainingOptions, rows: int) -> dict[str, str]:
    options = asked.settled(rows)  # as jobs.train_head does
    epochs = f"{'at most ' if options.patience else ''}{options.epochs:,}"
    return {"epochs": epochs, "images a step": f"{options.batch_size:,}", "seed": f"{options.seed}"}


def _encoder_facts(experiment: HeadExperiment) -> dict[str, str]:
    from headstart.features.encoders.spec import read_encoder

    try:
        spec = read_encoder(experiment.encoder)
    except HeadstartError:  # the features are there, which is what this page is made of
        return {}
    return {"digest of the encoder's weights": spec.weights_sha256}


def _figures(subject: Subject, folder: Path, charts: Sequence[Chart], maps: Sequence[Map]) -> list[Path]:
    """Writes each figure as SVG or PNG, and its numbers as JSON."""
    written = _chart_files(subject.workspace, folder, charts)

    def write(name: str, data: bytes) -> None:
        subject.workspace.files.replace(folder / name, data)
        written.append(folder / name)

    for each in maps:
        name = f"map_{_file_name(each.name.lower())}"
        codes = subject.data.data.targets.codes[each.positions] if subject.is_classes else subject.answers.split[each.positions]
        picture = map_picture(each.points, codes, np.isin(each.positions, subject.mistakes) if subject.is_classes else None)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", optimize=True)
        write(f"{name}.png", buffer.getvalue())
        points = {"positions": each.positions.tolist(), "points": np.round(each.points.astype(float), 5).tolist()}
        write(f"{name}.json", encode({"format": 1, "figure": name, "numbers": points}, indent=None))
    return written


def _chart_files(workspace: Workspace, folder: Path, charts: Sequence[Chart]) -> list[Path]:
    written = []
    for chart in charts:
        name = _file_name(chart.name)
        files = {f"{name}.json": (json.dumps({"format": 1, "figure": name, "numbers": chart.numbers}, indent=1) + "\n").encode()}
        if chart.draw is not None:
            files[f"{name}.svg"] = chart.draw(WIDE).file().encode()
        for file, data in files.items():
            workspace.files.replace(folder / file, data)
            written.append(folder / file)
    return written


def _file_name(name: str) -> str:
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_" for letter in name)
    return kept[:60]
