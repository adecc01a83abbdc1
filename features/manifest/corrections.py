"""Labels corrected by hand: taken from a table, put into a revision, and kept beside it, so that the next `enqueue` keeps them.

Nothing is computed again: a label is no part of a feature.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headstart.features.sources.read_table import TextTable, read_table
from headstart.features.sources.source import Source
from headstart.pipeline.doors import reading, records
from headstart.pipeline.enqueue import queue_lock
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, printable, unescape
from headstart.pipeline.workspace import Workspace

from .csv_lines import columns as columns_of
from .csv_lines import fields, line_of
from .reading import Columns, Manifest, list_datasets, open_manifest
from .revisions import RevisedRow, RevisedRows, publish_revision

CORRECTIONS = "corrections.csv"
_UNSEALED_HEADER = ("path", "image_digest", "was", "label")  # as earlier versions wrote it
_HEADER = (*_UNSEALED_HEADER, "seal")


@dataclass(frozen=True)
class Correction:
    """What an image is called in the data, and what its user said that it is ('' to leave it out)."""

    digest: str
    was: str
    label: str


@dataclass(frozen=True)
class CorrectedLabels:
    """Attributes:
    changed: images that have another label now; emptied: those of them that have none.
    same: lines whose image is called so already. gone: lines whose image is no longer in the data.
    """

    changed: int
    emptied: int
    same: int
    gone: int


def correct_labels(workspace: Workspace, table: Path, dataset: Path | None = None, new_classes: bool = False) -> CorrectedLabels:
    """Gives images the labels that a table says; its other columns do not matter, nor does an image that it does not name.

    Args:
        table: a CSV, TSV or Parquet file with `path` and `label`, as `audit --corrections` writes one; with `dataset` where a
            path is in several data sets. An empty label takes the image out of training and test.
        dataset: folder of the only manifest that is meant; None for all.
        new_classes: a label that no image has becomes a class; else it is refused, for it is likely to be misspelled.

    Raises: HeadstartError, before anything is changed, if a line names no image or an unknown class; TryLaterError if another
        enqueue is at work or the disk is full.
    """
    lines = read_table(table)
    for name in ("path", "label"):
        if name not in lines.columns:
            there = ", ".join(map(printable, lines.columns))
            raise HeadstartError(
                f"{lines.name} has no column '{name}', it has: {there}. `headstart audit --corrections` writes one"
            )
    with queue_lock(workspace):
        folders = [dataset] if dataset is not None else list_datasets(workspace.manifests)
        manifests = {workspace.relative(folder): open_manifest(folder) for folder in folders}
        before = {name: manifest.read_all() for name, manifest in manifests.items()}
        wanted, gone = _wanted(lines, before, new_classes)
        changed = emptied = 0
        for name, manifest in manifests.items():
            columns = before[name]
            labels = {row: label for row, label in wanted.get(name, {}).items() if columns.label[row] != label}
            if labels:
                _publish(workspace, manifest, columns, labels)
                changed += len(labels)
                emptied += sum(not label for label in labels.values())
    lines_meant = sum(map(len, wanted.values()))
    return CorrectedLabels(changed, emptied, lines_meant - changed, gone)


def as_corrected(folder: Path, source: Source) -> tuple[Source, int]:
    """`source` with the labels that were corrected by hand, and how many; where the data says another by now, that counts."""
    known = read_corrections(folder)
    if not known:
        return source, 0
    here = {image.path for image in source.images}
    by_digest = {each.digest: each for path, each in known.items() if each.digest and path not in here}
    images, count = list(source.images), 0
    for place, image in enumerate(images):
        correction = known.get(image.path) or by_digest.get(image.digest)
        if correction is not None and correction.was == image.label != correction.label:
            images[place] = image._replace(label=correction.label)
            count += 1
    return (replace(source, images=tuple(images)), count) if count else (source, 0)


def read_corrections(folder: Path) -> dict[str, Correction]:
    """By path. Raises: HeadstartError if a line is not what was written."""
    path = folder / CORRECTIONS
    try:
        data = reading.read(path, reading.TABLE_BYTES)
    except FileNotFoundError:
        return {}
    try:
        head, *lines = data.split(b"\n")
        header = tuple(next(fields(head + b"\n"), []))
        if header not in (_HEADER, _UNSEALED_HEADER) or not lines or lines.pop():
            raise ValueError
        texts = [records.unseal_line(line) if header == _HEADER else line for line in lines]
        if None in texts:
            raise ValueError
        names, *others = columns_of(b"".join(text + b"\n" for text in texts if text is not None), len(_UNSEALED_HEADER))
    except (ValueError, csv.Error):
        raise HeadstartError(
            f"{printable(str(path))} was changed or cut off. Restore it from a copy, or delete it to have the "
            "labels of the data again"
        ) from None
    return {name: Correction(*line) for name, *line in zip(names, *others, strict=True)}


def _wanted(lines: TextTable, before: Mapping[str, Columns], new_classes: bool) -> tuple[dict[str, dict[int, str]], int]:
    """By data set and row the label that the table says; and how many lines are of images that left the data."""
    places: dict[str, list[tuple[str, int]]] = {}
    for name, columns in before.items():
        for row, path in enumerate(columns.path):
            places.setdefault(path, []).append((name, row))
    classes = {label for columns in before.values() for label in columns.label}
    datasets = lines.columns.get("dataset", [""] * len(lines.row_numbers))
    wanted: dict[str, dict[int, str]] = {}
    gone = 0
    for number, said_path, said_label, dataset in zip(
        lines.row_numbers, lines.columns["path"], lines.columns["label"], datasets, strict=True
    ):
        where = f"{lines.name} row {number}"
        path = said_path if said_path in places else unescape(said_path)
        label = said_label if said_label in classes else unescape(said_label)
        meant = [place for place in places.get(path, []) if not dataset or place[0] == dataset]
        live = [(name, row) for name, row in meant if before[name].live[row]]
        if not meant:
            within = f" in {printable(dataset)}" if dataset else ""
            raise HeadstartError(
                f"{where}: there is no image '{printable(path)}'{within}. Paths are as "
                "`headstart audit` shows them, relative to the data"
            )
        if not live:
            gone += 1
            continue
        if len(live) > 1:
            raise HeadstartError(
                f"{where}: '{printable(path)}' is in {plural(len(live), 'data set')}. Name one: "
                "a column dataset, or DATA before --labels"
            )
        if label not in classes and label and not new_classes:
            raise HeadstartError(f"{where}: no image has the label '{printable(label)}' yet. {_nearest(label, classes)}")
        ((name, row),) = live
        if wanted.setdefault(name, {}).setdefault(row, label) != label:
            other = wanted[name][row]
            raise HeadstartError(
                f"{where}: '{printable(path)}' is called '{printable(label)}' here and '{printable(other)}' above. "
                "Keep one of the two"
            )
    return wanted, gone


def _nearest(label: str, classes: set[str]) -> str:
    import difflib  # not while a command starts

    near = difflib.get_close_matches(label, sorted(classes - {""}), 1)
    meant = f"Is '{printable(near[0])}' meant? " if near else ""
    return f"{meant}--new-classes makes it one"


def _publish(workspace: Workspace, manifest: Manifest, columns: Columns, labels: Mapping[int, str]) -> None:
    known = read_corrections(manifest.folder)
    for row, label in labels.items():
        path = columns.path[row]
        was = known[path].was if path in known and known[path].label == columns.label[row] else columns.label[row]
        known[path] = Correction(columns.digest[row], was, label)
    kept = [(path, each.digest, each.was, each.label) for path, each in sorted(known.items()) if each.was != each.label]
    # Before the revision: after a kill between the two, the next enqueue of the data takes them from here.
    lines = [records.seal_line(line_of(line).removesuffix(b"\n")) for line in kept]
    workspace.files.replace(manifest.folder / CORRECTIONS, b"".join([line_of(_HEADER), *lines]))
    earlier = manifest.revised()
    names = tuple(columns.extra)
    rows = {row: _as_now(columns, row, label, names) for row, label in labels.items()}
    revised = {row: _with_extra(old, columns, row, names) for row, old in earlier.rows.items()}
    publish_revision(workspace.files, manifest.folder, columns.revision + 1, RevisedRows(names, revised | rows))


def _as_now(columns: Columns, row: int, label: str, names: Sequence[str]) -> RevisedRow:
    facts = (columns.digest[row], columns.path[row], label, columns.split[row], columns.group[row])
    sizes = (str(columns.size[row]), str(columns.mtime_ns[row]))
    return RevisedRow(columns.retired[row], (*facts, *sizes, "", "", ""), tuple(columns.extra[name][row] for name in names))


def _with_extra(old: RevisedRow, columns: Columns, row: int, names: Sequence[str]) -> RevisedRow:
    return RevisedRow(old.retired, old.fixed, tuple(columns.extra[name][row] for name in names))
