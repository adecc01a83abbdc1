"""Predictions as a table for people, as CSV and as JSON; each line leaves as soon as it is known, JSON apart."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .terminal import write_line

if TYPE_CHECKING:
    from headstart.experiments.serving.predict import Prediction

_WIDEST = 60


@dataclass(frozen=True)
class PredictionLayout:
    """What is shown of each prediction.

    Attributes:
        task, names: of the head.
        top: classes an image.
        images: their names, for the width of a column.
    """

    task: str
    names: tuple[str, ...]
    top: int
    images: Sequence[str]

    @property
    def is_classes(self) -> bool:
        return self.task == "classification"


def write_table(predictions: Iterator[Prediction], layout: PredictionLayout) -> int:
    """Prints a line a prediction; returns how many images had none."""
    from headstart.pipeline.text import printable

    predictions = _begun(predictions)
    image_width = min(_WIDEST, max([5, *(len(printable(name)) for name in layout.images)]))
    label_width = max(5, *(len(printable(name)) for name in layout.names))
    if layout.is_classes:
        places = ["label", *(f"no. {place}" for place in range(2, layout.top + 1))]
        head = "  ".join(f"{place:<{label_width}}  {'prob.':>6}" for place in places)
    else:
        head = "  ".join(f"{printable(name):>{max(12, len(printable(name)))}}" for name in layout.names)
    click.echo(f"{'image':<{image_width}}  {head}".rstrip())
    failed = 0
    for item in predictions:
        if item.error is not None:
            failed += 1
            text = str(item.error)
        elif layout.is_classes:
            text = "  ".join(f"{printable(name):<{label_width}}  {number:6.4f}" for name, number in _best(item, layout))
        else:
            text = "  ".join(f"{number:>{max(12, len(printable(n)))}.6g}" for n, number in _best(item, layout))
        click.echo(f"{printable(item.name):<{image_width}}  {text}")
    return failed


def write_csv(predictions: Iterator[Prediction], layout: PredictionLayout) -> int:
    """Prints CSV that no spreadsheet runs as a formula, spelled as in manifests; returns how many images had no prediction."""
    from headstart.pipeline.text import number_text

    predictions = _begun(predictions)
    if layout.is_classes:
        columns = ["label", "probability"]
        columns += [f"{word}_{place}" for place in range(2, layout.top + 1) for word in ("label", "probability")]
    else:
        columns = list(layout.names)
    write_line(["path", *columns, "error"])
    failed = 0
    for item in predictions:
        failed += item.error is not None
        cells: list[str] = []
        for name, number in _best(item, layout):
            cells += [*([name] if layout.is_classes else []), number_text(number)]
        cells = cells or [""] * len(columns)
        write_line([item.name, *cells, str(item.error or "")])
    return failed


def write_json(predictions: Iterator[Prediction], layout: PredictionLayout, about: Mapping[str, Any]) -> int:
    """Prints one JSON object; returns how many images had no prediction."""
    rows: list[dict[str, Any]] = []
    failed = 0
    for item in predictions:
        best = _best(item, layout)
        if item.error is not None:
            failed += 1
            rows.append({"path": item.name, "error": {"code": item.error.code, "reason": item.error.reason}})
        elif layout.is_classes:
            top = [{"label": name, "probability": number} for name, number in best]
            rows.append({"path": item.name, **top[0], "top": top})
        else:
            rows.append({"path": item.name, "values": dict(best)})
        if item.overlay is not None:
            rows[-1]["overlay"] = str(item.overlay)
    click.echo(json.dumps({**about, "predictions": rows}, indent=1))
    return failed


def _begun(predictions: Iterator[Prediction]) -> Iterator[Prediction]:
    """The same ones, the first of them made: what refuses does so before a header stands there without a line."""
    return itertools.chain(list(itertools.islice(predictions, 1)), predictions)


def _best(item: Prediction, layout: PredictionLayout) -> list[tuple[str, float]]:
    """Names and numbers that are shown: the most probable classes first, or every target."""
    if item.answer is None:
        return []
    if not layout.is_classes:
        return [(name, float(number)) for name, number in zip(layout.names, item.answer, strict=True)]
    order = (-item.answer).argsort(kind="stable")[: layout.top]
    return [(layout.names[place], float(item.answer[place])) for place in order]
