"""The part of a page about what an audit doubts: the images themselves, because only a look tells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstart.experiments.audit.audit_record import read_audit
from headstart.experiments.audit.doubts import AuditedImage, DataAudit
from headstart.experiments.data.pictures import Pictures
from headstart.experiments.evaluation.intervals import wilson_interval
from headstart.experiments.report.figures.thumbnails import jpeg
from headstart.pipeline.text import plural, verb

from . import page as pages
from .answers import nearest_training_images
from .markup import plain, tag, text
from .subject import Subject

_SHOWN = 12  # of each kind of doubt
_EDGE = 112


def audit_section(subject: Subject, pictures: Pictures) -> pages.Section | None:
    """None where no audit was made."""
    audit = read_audit(subject.experiment.encoder)
    if audit is None:
        return None
    position_of = _positions(subject)
    parts = [
        _labels(audit, position_of, pictures, subject),
        _copies(audit, position_of, pictures),
        _odd(audit, position_of, pictures),
    ]
    content = "".join(part for part in parts if part) + _scores(audit)
    looked = {"labels": "labels", "duplicates": "copies", "leaks": "copies across splits", "outliers": "odd ones out"}
    names = ", ".join(looked[part] for part in audit.parts)
    earlier = "" if audit.digest == subject.data.features.digest else " The data changed since; headstart audit looks again."
    how = (
        f"What headstart audit doubts ({names}), the surest first. It may be wrong: look at each. "
        f"headstart audit --corrections FILE writes all as a table to correct.{earlier}"
    )
    return pages.Section("doubts", "What may be wrong with the data", how, content or "<p>Nothing.</p>")


_Positions = dict[tuple[str, int], int]


def _positions(subject: Subject) -> _Positions:
    rows = subject.data.features.rows
    names = [rows.datasets[code] for code in rows.dataset.tolist()]
    return {key: place for place, key in enumerate(zip(names, rows.index.tolist(), strict=True))}


def _labels(audit: DataAudit, position_of: _Positions, pictures: Pictures, subject: Subject) -> str:
    if audit.labels is None or not audit.labels.suspects:
        return ""
    known = [each for each in audit.labels.suspects if (each.dataset, each.row) in position_of][:_SHOWN]
    positions = np.array([position_of[each.dataset, each.row] for each in known], np.int64)
    data = subject.data.data
    nearest = [neighbour.position for neighbour in nearest_training_images(data.source, data.train, positions)]
    taken, beside = pictures.take(positions, _EDGE), pictures.take(nearest, _EDGE)
    items = []
    for each, pixels, near in zip(known, taken, beside, strict=True):
        caption = (
            f'<b class="bad">{text(each.label, 40)}</b>, rather <b>{text(each.suggested, 40)}</b>'
            f"<br><span>{each.suggested_confidence * 100:.0f} % sure, {text(each.split or 'no split')}</span>"
        )
        items.append(pages.mistake_markup(jpeg(pixels), jpeg(near), caption, plain(f"{each.label}, rather {each.suggested}")))
    return _list(
        f"{len(audit.labels.suspects):,} of {audit.labels.images:,} labels, each beside its nearest training image", items
    )


def _copies(audit: DataAudit, position_of: _Positions, pictures: Pictures) -> str:
    # Across splits first: these flatter the score.
    ordered = sorted(audit.copies, key=lambda pair: not pair.is_leak)
    known = [pair for pair in ordered if _key(pair.first) in position_of and _key(pair.second) in position_of][:_SHOWN]
    if not known:
        return ""
    taken = pictures.take([position_of[_key(image)] for pair in known for image in (pair.first, pair.second)], _EDGE)
    items = []
    for number, pair in enumerate(known):
        splits = " and ".join(dict.fromkeys(image.split or "no split" for image in (pair.first, pair.second)))
        labels = " and ".join(dict.fromkeys(image.label for image in (pair.first, pair.second)))
        mark = ' class="bad"' if pair.is_leak else ""
        caption = f"<b{mark}>{text(splits)}</b>, {text(pair.how)}<br><span>{text(labels, 60)}</span>"
        one, two = taken[2 * number : 2 * number + 2]
        items.append(pages.mistake_markup(jpeg(one), jpeg(two), caption, plain(f"{pair.how} copies in {splits}"), "its copy"))
    across = sum(pair.is_leak for pair in audit.copies)
    return _list(
        f"{plural(len(audit.copies), 'pair')} that {verb(len(audit.copies), 'show')} "
        f"one picture, {across:,} of them across splits",
        items,
        "mistakes copies",
    )


def _odd(audit: DataAudit, position_of: _Positions, pictures: Pictures) -> str:
    known = [odd for odd in audit.outliers if _key(odd.image) in position_of][:_SHOWN]
    if not known:
        return ""
    taken = pictures.take([position_of[_key(odd.image)] for odd in known], _EDGE)
    items = [
        pages.mistake_markup(
            jpeg(pixels),
            None,
            f"{text(odd.image.label or 'no label', 40)}<br><span>{odd.oddness:.1f} times the usual spread away</span>",
            plain(f"{odd.image.label or 'no label'}, unlike all others"),
        )
        for odd, pixels in zip(known, taken, strict=True)
    ]
    return _list(f"{len(audit.outliers):,} unlike all others", items)


def _key(image: AuditedImage) -> tuple[str, int]:
    return image.dataset, image.row


def _list(heading: str, items: Sequence[str], style: str = "mistakes") -> str:
    return f"<h3>{text(heading)}</h3>" + f'<ul class="{style}">{"".join(items)}</ul>'


def _scores(audit: DataAudit) -> str:
    if not audit.scores:
        return ""
    rows = []
    for score in audit.scores:
        low, high = (np.array(wilson_interval(score.right, score.images), float) * 100) if score.images else (np.nan, np.nan)
        share = f"{100 * score.right / score.images:.1f} % ({low:.1f} to {high:.1f})" if score.images else "none left"
        cells = f'<th scope="row">{text(score.without)}</th><td>{score.images:,}</td><td>{share}</td>'
        rows.append(f"<tr>{cells}</tr>")
    head = '<tr><th scope="col">ridge on test</th><th scope="col">images</th><th scope="col">right</th></tr>'
    note = tag("p", {"class": "how"}, "Without suspect labels a score is flattered: doubts are where a classifier errs.")
    return f'<div class="scroll"><table class="doubted"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>{note}'
