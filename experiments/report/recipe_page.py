"""A page about the training of a recipe: what it scored and how sure that is, how it learned, what it chose to show."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.experiments.report.figures.charts import Chart, course_chart, followed_chart
from headstart.experiments.runs.catalog import BEST, read_runs
from headstart.experiments.runs.course import read_course
from headstart.experiments.runs.database.recipe_rows import TASK
from headstart.experiments.runs.database.rows import HISTORY
from headstart.experiments.runs.experiment import is_finished, list_experiments, read_metrics
from headstart.experiments.runs.head_experiment import HeadExperiment
from headstart.experiments.runs.recipe_experiment import RecipeExperiment, read_recipe_experiment
from headstart.features.images.decode import ImageError, open_rgb
from headstart.pipeline import paths
from headstart.pipeline.doors import reading
from headstart.pipeline.doors.records import DamagedError, read_record
from headstart.pipeline.text import span
from headstart.pipeline.workspace import Workspace

from . import page as pages
from .markup import plain, tag, text
from .pen_section import FILE, PenLines, pen_lines
from .verdict import Phrase

_PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}
_TEXTS = frozenset({".txt", ".csv", ".json", ".md", ".log"})
_MOST_SHOWN = 60
_MOST_BYTES = 6_000_000  # of all pictures together, so that the page stays one that a mail takes
_LARGE_BYTES, _LARGEST_EDGE = 150_000, 1000  # of a picture that the page has smaller, as JPEG
_MOST_LETTERS = 2000


def recipe_meant_by(workspace: Workspace, what: str) -> RecipeExperiment | None:
    """The training of a recipe that is meant; None where a head is, or nothing of that name is there.

    Args:
        what: the number of a run, a folder, a name; 'best' means one only where no heads were trained.
    """
    if what.isdecimal():
        runs = [run for run, _ in read_runs(workspace) if str(run.run) == what and run.task == TASK]
        return read_recipe_experiment(workspace, workspace.experiments / runs[0].experiment) if runs else None
    known = list_experiments(workspace, RecipeExperiment)
    if what != BEST:
        named = [each for each in known if what in (each.folder.name, each.name)]
        return named[-1] if named else None
    if any(is_finished(each) for each in list_experiments(workspace, HeadExperiment)):
        return None
    return next((each for each in reversed(known) if is_finished(each)), None)


def recipe_page(experiment: RecipeExperiment) -> tuple[pages.Page, list[Chart]]:
    """The page and the charts on it, of a training that is finished or still going. Raises: HeadstartError if it is damaged."""
    judged = read_metrics(experiment)
    charts: list[Chart] = []
    written = _written(experiment)
    if judged:
        answer, sections = _finished(experiment, judged, charts, written)
    else:
        answer, sections = _going(experiment)
    title = f"{experiment.folder.name}: {answer.number}"
    return pages.Page(title, answer, sections, _facts(experiment, judged), pen=() if written is None else written.lines), charts


def _written(experiment: RecipeExperiment) -> PenLines | None:
    from headstart.experiments.evaluation.publish_recipe import SHOWN

    try:
        return pen_lines(reading.read(experiment.folder / SHOWN / FILE))
    except (OSError, reading.UnreadableError, paths.LinkError):
        return None


def _finished(
    experiment: RecipeExperiment, judged: Mapping[str, Any], charts: list[Chart], written: PenLines | None
) -> tuple[pages.Headline, list[pages.Section]]:
    from headstart.experiments.evaluation.publish_recipe import SHOWN, recipe_headline  # loads torch, which no other page needs

    chosen = judged["judged_by"]
    headline = recipe_headline(judged)
    split, line = list(headline.items())[-1]
    rows = judged["rows"][split]
    low, high = line["interval"]
    sure = f", {_number(low)} to {_number(high)} (95\u00a0%\u00a0interval)" if low is not None else ""
    where = "test" if split == "test" else "validation"
    words = [
        Phrase("The weights of step "),
        Phrase(f"{judged['best']['step']:,} of {judged['steps']:,}", True),
        Phrase(
            f" are kept: there {chosen['metric']} on validation was {'highest' if chosen['better'] == 'higher' else 'lowest'}."
        ),
        *_gain(judged, split),
    ]
    if split != "test":
        words.append(Phrase(" There is no test split: the number is of what the weights were chosen by, so it flatters."))
    about = " · ".join(
        [experiment.folder.name, f"recipe {experiment.recipe}", f"{experiment.counts.get('train', 0):,} to train on"]
    )
    answer = pages.Headline(
        about, _number(line["value"]), f"{line['metric']} on {rows:,} {where} items{sure}", words, judged["notes"], None
    )
    shown = _shown(experiment.folder / SHOWN, "" if written is None else FILE)
    sections = [] if written is None else [written.section]
    sections += [] if shown is None else [shown]
    for name in dict.fromkeys([chosen["metric"], "loss"]):
        chart = course_chart(name, _course(experiment, name), judged["best"]["epoch"])
        if chart is not None:
            charts.append(chart)
            how = (
                "Training and validation after each part of the training; the dot is what was kept. "
                "Where validation turns and training goes on, it learns by heart."
            )
            heading = f"How {plain(name, 30)} went"
            sections.append(pages.Section("" if charts[1:] else "learning", heading, how, pages.chart_markup(chart), True))
    for name, lines in _followed(experiment).items():
        chart = followed_chart(name, lines, judged["best"]["epoch"])
        if chart is not None:
            charts.append(chart)
            how = (
                "A line for each number, evaluation by evaluation; the upright one is what was kept. Names and values lie beside."
            )
            sections.append(pages.Section("", f"How {plain(name, 30)} went", how, pages.chart_markup(chart), True))
    heads = _heads(judged[split])
    sections += [] if heads is None else [heads]
    sections.append(_numbers(judged))
    return answer, sections


def _gain(judged: Mapping[str, Any], split: str) -> list[Phrase]:
    if "gain" not in judged or split not in judged["gain"]:
        return []
    gain = judged["gain"][split]
    low, high = gain["interval"]
    if low is None:
        return []
    is_better, is_worse = (low > 0, high < 0) if judged["judged_by"]["better"] == "higher" else (high < 0, low > 0)
    claim = "better than" if is_better else "worse than" if is_worse else "no better than"
    return [
        Phrase(" It is "),
        Phrase(f"{claim} what it started from", True),
        Phrase(f": on the same rows the difference is {gain['value']:+.4f}, {low:+.4f} to {high:+.4f}."),
    ]


def _going(experiment: RecipeExperiment) -> tuple[pages.Headline, list[pages.Section]]:
    course = read_course(experiment.folder) or {}
    step, steps = course.get("step"), course.get("steps")
    number = f"{step / steps:.0%}" if isinstance(step, int) and isinstance(steps, int) and steps else "begun"
    of = f"step {step:,} of {steps:,} as of {course.get('time')}" if number != "begun" else "nothing of it was kept yet"
    seconds = course.get("seconds_a_step")
    left = (
        f" About {span((steps - step) * seconds)} are left at that pace."
        if isinstance(seconds, int | float) and isinstance(step, int) and isinstance(steps, int)
        else ""
    )
    words = [Phrase("It is not finished", True), Phrase(f", so there is no answer yet.{left} Go on with it: headstart work")]
    sections = []
    last = course.get("last_evaluation")
    if isinstance(last, Mapping):
        splits = {split: last[split] for split in ("train", "val") if isinstance(last.get(split), Mapping)}
        how = f"After step {last.get('step')}. They choose the weights, so they say little of new images."
        sections.append(pages.Section("numbers", "The last look", how, _table(splits, {})))
    about = " · ".join([experiment.folder.name, f"recipe {experiment.recipe}"])
    return pages.Headline(about, number, of, words, [], None), sections


def _course(experiment: RecipeExperiment, name: str) -> dict[str, list[tuple[float, float]]]:
    """(epoch, value) by split, of each evaluation that gave a number."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for entry in _entries(experiment):
        for split in ("train", "val"):
            _add_point(lines, split, entry, (entry.get(split) or {}).get(name))
    return lines


def _followed(experiment: RecipeExperiment) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Of each table that the history keeps, (epoch, value) by the number's name."""
    tables: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for entry in _entries(experiment):
        for name, numbers in (entry.get("followed") or {}).items():
            for one, value in numbers.items() if isinstance(numbers, Mapping) else ():
                _add_point(tables.setdefault(name, {}), one, entry, value)
    return tables


def _add_point(lines: dict[str, list[tuple[float, float]]], name: str, entry: Mapping[str, Any], value: Any) -> None:
    if isinstance(value, int | float) and math.isfinite(value):
        lines.setdefault(name, []).append((float(entry["epoch"]), float(value)))


def _entries(experiment: RecipeExperiment) -> list[Any]:
    try:
        return list(read_record(experiment.folder / HISTORY, None)["entries"])
    except (FileNotFoundError, DamagedError, KeyError):
        return []


def _shown(folder: Path, elsewhere: str) -> pages.Section | None:
    """Pictures and texts but the file `elsewhere`, each by its file's name; what is neither is named."""
    files = sorted((path for path in paths.matching(folder, "*") if path.name != elsewhere), key=lambda path: path.name)
    if not files:
        return None
    items: list[str] = []
    others: list[str] = []
    left = _MOST_BYTES
    for path in files:
        suffix = path.suffix.lower()
        kind = _PICTURES.get(suffix, "")
        try:
            data = reading.read(path) if len(items) < _MOST_SHOWN and suffix in {*_PICTURES, *_TEXTS} else None
            if data is not None and kind in ("image/png", "image/jpeg") and len(data) > _LARGE_BYTES:
                data, kind = _smaller(data), "image/jpeg"
        except (OSError, reading.UnreadableError, paths.LinkError, ImageError):
            data = None
        if data is None or (suffix in _PICTURES and len(data) > left):
            others.append(path.name)
        elif suffix in _PICTURES:
            left -= len(data)
            source = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
            image = tag("img", {"src": source, "alt": plain(path.stem), "loading": "lazy"}).removesuffix("</img>")
            items.append(f"<li><figure>{image}<figcaption>{text(path.stem)}</figcaption></figure></li>")
        else:
            words = data.decode("utf-8", "replace")
            lines = "\n".join(text(line, 200) for line in words[:_MOST_LETTERS].splitlines())
            more = "\n…" if len(words) > _MOST_LETTERS else ""
            block = f'<pre tabindex="0">{lines}{more}</pre><figcaption>{text(path.stem)}</figcaption>'
            items.append(f'<li class="words"><figure>{block}</figure></li>')
    rest = f" Beside them lie {', '.join(plain(name, 40) for name in others[:5])}." if others else ""
    more_words = f" and {len(others) - 5:,} more files" if len(others) > 5 else ""
    lie = f"the files lie in {folder.name}/, large ones as they were made"
    how = f"What the recipe chose to show of its best weights; {lie}.{rest}{more_words}"
    return pages.Section("shown", "What it makes", how, f'<ul class="shown">{"".join(items)}</ul>')


def _smaller(data: bytes) -> bytes:
    """A picture as a JPEG of 1,000 pixels at most. Raises: ImageError if it is none."""
    image = open_rgb(data)
    image.thumbnail((_LARGEST_EDGE, _LARGEST_EDGE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _heads(numbers: Mapping[str, Any]) -> pages.Section | None:
    """What a recipe trained side by side, as its table `heads` says: each stands there, better or worse."""
    rows = numbers.get("heads")
    if not (isinstance(rows, list) and rows and all(isinstance(row, Mapping) and "head" in row for row in rows)):
        return None
    columns = list(dict.fromkeys(column for row in rows for column in row))
    score = next((column for column in columns if all(isinstance(row.get(column), float) for row in rows)), None)
    how = "Trained side by side and judged on the same rows."
    if score is not None:
        first, best = rows[0], max(rows, key=lambda row: float(row[score]))
        how += f" The best is {plain(str(best['head']), 40)} with {_number(best[score])}"
        how += f"; {plain(str(first['head']), 40)} is {best[score] - first[score]:.4f} behind it." if first is not best else "."
    if "leaking" in columns:
        how += (
            " Leaking is what a split of rows says that lets the same image into both sides: "
            "the number to distrust, here to be compared with."
        )
    head = "".join(f'<th scope="col">{text(column.replace("_", " "), 40)}</th>' for column in columns)
    body = "".join(f"<tr>{''.join(_cell(row.get(column)) for column in columns)}</tr>" for row in rows)
    table = f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    markup = f'<div class="scroll" tabindex="0" role="region" aria-label="heads">{table}</div>'
    return pages.Section("heads", "Head beside head", how, markup)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f'<th scope="row">{text(value.replace("_", " "), 60)}</th>'
    if isinstance(value, bool):
        return f"<td>{'yes' if value else ''}</td>"
    return f"<td>{f'{value:,}' if isinstance(value, int) else '' if value is None else _number(value)}</td>"


def _numbers(judged: Mapping[str, Any]) -> pages.Section:
    splits = {split: judged[split] for split in ("val", "test") if split in judged}
    how = "Each with its 95 % interval where it has one. Validation chose the weights; test was read once."
    return pages.Section("numbers", "All numbers", how, _table(splits, judged["rows"]))


def _table(splits: Mapping[str, Mapping[str, Any]], rows: Mapping[str, int]) -> str:
    names = dict.fromkeys(name for numbers in splits.values() for name, value in numbers.items() if _is_number(name, value))
    head = "".join(f'<th scope="col">{text(split)}{f" ({rows[split]:,})" if split in rows else ""}</th>' for split in splits)
    lines = []
    for name in names:
        cells = []
        for numbers in splits.values():
            low, high = numbers.get(f"{name}_interval") or [None, None]
            sure = f' <span class="soft">{_number(low)} to {_number(high)}</span>' if low is not None else ""
            cells.append(f"<td>{_number(numbers.get(name))}{sure}</td>")
        lines.append(f'<tr><th scope="row">{text(name, 60)}</th>{"".join(cells)}</tr>')
    table = f'<table class="numbers"><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return f'<div class="scroll" tabindex="0" role="region" aria-label="all numbers">{table}</div>'


def _is_number(name: str, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (value is None or is_number) and not name.endswith("_interval")


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:.4g}"


def _facts(experiment: RecipeExperiment, judged: Mapping[str, Any]) -> dict[str, str]:
    counts = ", ".join(f"{split} {count:,}" for split, count in experiment.counts.items())
    options = ", ".join(f"{name} {value}" for name, value in experiment.values.items())
    facts = {
        "experiment": f"{experiment.folder.name}, identity {experiment.identity}",
        "recipe": f"{experiment.recipe}, digest of its source {experiment.code}",
        "rows": counts,
        "digest of the data": experiment.data,
        "options": options,
        "device": str(judged.get("device") or experiment.device or "not known before it is judged"),
    }
    if judged:
        facts["chosen by"] = f"{judged['judged_by']['metric']} on validation"
    return facts
