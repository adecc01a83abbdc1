"""The page itself: its parts in their order, its data, and a policy under which nothing but its own script and style runs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

from headstart.experiments.report.figures.charts import NARROW, WIDE, Chart
from headstart.experiments.report.figures.thumbnails import Sheets

from .markup import embedded_json, tag, text
from .verdict import Phrase


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: what the navigation calls it, one word; '' where it has none.
        heading, how: a question or claim, and how to read what is below.
        content: markup.
        is_half: whether it stands beside another one where there is room.
    """

    anchor: str
    heading: str
    how: str
    content: str
    is_half: bool = False


@dataclass(frozen=True)
class Headline:
    """The top of the page: the number, what it is of, the verdict, and what a reader should know besides."""

    about: str
    number: str
    of: str
    verdict: Sequence[Phrase]
    notes: Sequence[str]
    chart: Chart | None


@dataclass(frozen=True)
class Page:
    """Attributes:
    facts, names, sheets: what the script draws from; None for a page without images.
    made_of: what it was made of, for the foot.
    pen: lines that the script draws stroke by stroke, see `pen_section`.
    """

    title: str
    answer: Headline
    sections: Sequence[Section]
    made_of: Mapping[str, str]
    facts: Mapping[str, Any] | None = None
    names: Sequence[str] = ()
    sheets: Sheets | None = None
    pen: Sequence[Mapping[str, Any]] = ()


def render(page: Page) -> str:
    """HTML, complete in itself."""
    script, style = _shipped("page.js"), _shipped("page.css")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    links = "".join(f'<li><a href="#{section.anchor}">{section.anchor}</a></li>' for section in page.sections if section.anchor)
    return Template(_shipped("page.html")).substitute(
        policy=policy,
        title=text(page.title),
        style=style,
        links=links,
        body=_answer(page.answer) + _sections(page.sections),
        footer=_made_of(page.made_of),
        data=_data(page),
        script=script,
    )


def chart_markup(chart: Chart) -> str:
    """Twice: wide and narrow, of which the style shows one."""
    assert chart.draw is not None
    return f'<div class="chart">{chart.draw(WIDE).inline("wide")}{chart.draw(NARROW).inline("narrow")}</div>'


def full_width_chart(chart: Chart) -> str:
    assert chart.draw is not None
    return f'<div class="chart">{chart.draw(1120.0).inline("wide")}{chart.draw(NARROW).inline("narrow")}</div>'


def mistake_markup(
    picture: str,
    beside: str | None,
    caption: str,
    alternative: str,
    is_beside: str = "nearest training image",
    spoke: str | None = None,
) -> str:
    """Args: picture, beside, spoke: JPEG in base64; caption: markup; alternative, is_beside: what two of them show, plain.

    `spoke`: what in the picture spoke for the answer.
    """
    images = [(picture, alternative), (spoke, f"what spoke for it: {alternative}"), (beside, is_beside)]
    shown = "".join(
        tag("img", {"src": f"data:image/jpeg;base64,{image}", "alt": words, "loading": "lazy"}).removesuffix("</img>")
        for image, words in images
        if image is not None
    )
    return f'<li><figure><div class="pair">{shown}</div><figcaption>{caption}</figcaption></figure></li>'


def matrix_markup(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """A table in which a click opens the images of a cell."""
    most = max((count for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j), default=0)
    is_long = any(len(name) > 2 for name in names)
    head = "".join(f'<th scope="col"><span>{text(name, 24)}</span></th>' for name in names)
    rows = []
    for true, row in enumerate(matrix):
        cells = []
        for said, count in enumerate(row):
            if not count:
                cells.append("<td></td>")
                continue
            style = "ok" if true == said else "w3" if count > most * 0.66 else "w2" if count > most * 0.33 else "w1"
            label = f"{names[true]} said to be {names[said]}: {count}"
            button = tag(
                "button", {"type": "button", "data-true": true, "data-said": said, "aria-label": _attribute(label)}, f"{count:,}"
            )
            cells.append(f'<td class="{style}">{button}</td>')
        rows.append(f'<tr><th scope="row">{text(names[true], 24)}</th>{"".join(cells)}</tr>')
    kind = "matrix long" if is_long else "matrix"
    corner = '<td><span class="quiet">true, down; said, across</span></td>'
    table = f'<table class="{kind}"><thead><tr>{corner}{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll" tabindex="0" role="region" aria-label="confusion matrix">{table}</div>'


def confusions_markup(names: Sequence[str], matrix: Sequence[Sequence[int]], most: int = 20) -> str:
    """The most frequent confusions as a list, for more classes than a table can show."""
    pairs = [(count, i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j and count]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    items = [
        "<li>"
        + tag(
            "button",
            {"type": "button", "data-true": true, "data-said": said},
            f"<b>{count:,}</b> {text(names[true], 40)} taken for {text(names[said], 40)}",
        )
        + "</li>"
        for count, true, said in pairs[:most]
    ]
    rest = len(pairs) - most
    more = f'<p class="soft">and {rest:,} more pairs, in the numbers beside this page</p>' if rest > 0 else ""
    return f'<ul class="confusions">{"".join(items)}</ul>{more}'


def map_markup(maps: Sequence[tuple[str, str]], choices: Sequence[tuple[str, str]]) -> str:
    """Args: maps: what each is called; choices: what colours may stand for, by their value."""
    layouts = "".join(f'<option value="{i}">{text(name)}</option>' for i, (name, _) in enumerate(maps))
    colours = "".join(f'<option value="{value}">{text(name)}</option>' for value, name in choices)
    hows = "".join(
        f'<p class="how" data-layout="{i}"{" hidden" if i else ""}>{text(how, 400)}</p>' for i, (_, how) in enumerate(maps)
    )
    controls = (
        f'<div class="controls" id="controls" hidden><label>map <select id="layout">{layouts}</select></label>'
        f'<label>colour <select id="by">{colours}</select></label>'
        '<button type="button" id="lasso" aria-pressed="false">draw around images</button>'
        "<span>Drag around some to see them. By keyboard: arrows walk, Enter shows the neighbours.</span></div>"
    )
    return (
        f'{hows}{controls}<div id="map"><canvas id="points" tabindex="0" role="img" aria-label="map of the images: arrow keys '
        'walk from image to image, Enter shows the neighbours">The map needs JavaScript; a picture of it lies beside.</canvas>'
        '<canvas id="over" aria-hidden="true"></canvas>'
        '<div id="tip" hidden><canvas></canvas><span></span><br><span class="soft"></span><br><span class="soft"></span></div>'
        "</div>"
        '<ul class="keys" id="keys"></ul>'
    )


def _answer(answer: Headline) -> str:
    words = "".join(f"<b>{text(part.words, 400)}</b>" if part.is_claim else text(part.words, 400) for part in answer.verdict)
    notes = "".join(f"<li>{text(note, 400)}</li>" for note in answer.notes)
    return (
        f'<div class="hero"><div><h1>{text(answer.about, 300)}</h1><p class="big">{text(answer.number)}</p>'
        f'<p class="sub">{text(answer.of, 300)}</p><p class="lead">{words}</p>'
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
        + f"</div>{chart_markup(answer.chart) if answer.chart is not None else ''}</div>"
    )


def _sections(sections: Sequence[Section]) -> str:
    parts, waiting = [], []
    for section in sections:
        identity = f' id="{section.anchor}"' if section.anchor else ""
        how = f"<p>{text(section.how, 600)}</p>" if section.how else ""
        markup = f"<section{identity}><h2>{text(section.heading)}</h2>{how}{section.content}</section>"
        if section.is_half:
            waiting.append(markup)
            if len(waiting) == 2:
                parts.append(f'<div class="two">{"".join(waiting)}</div>')
                waiting = []
            continue
        if waiting:
            parts.append(f'<div class="two">{"".join(waiting)}</div>')
            waiting = []
        parts.append(markup)
    if waiting:
        parts.append(f'<div class="two">{"".join(waiting)}</div>')
    return "\n".join(parts)


def _made_of(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{text(key)}</dt><dd>{text(value, 400)}</dd>" for key, value in facts.items())
    return f'<h2>What this was made of</h2><dl class="facts">{rows}</dl>'


def _data(page: Page) -> str:
    if page.facts is None:
        return _json("pen-lines", list(page.pen)) if page.pen else ""
    parts = [_json("facts", page.facts), _json("names", list(page.names))]
    for number, image in enumerate(page.sheets.images if page.sheets is not None else ()):
        parts.append(f'<script type="text/plain" id="sheet-{number}">{image}</script>')
    return "\n".join(parts)


def _json(identity: str, facts: Any) -> str:
    return f'<script type="application/json" id="{identity}">{embedded_json(facts)}</script>'


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode('ascii')}"


def _shipped(name: str) -> str:
    return (resources.files("headstart.experiments.report") / name).read_text(encoding="utf-8").rstrip("\n")


def _attribute(value: str) -> str:
    from .markup import plain

    return plain(value, 120)
