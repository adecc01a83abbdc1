"""`headstart audit` as one call: what is probably wrong with the data, and how much of the score hangs on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from headstart.experiments.data.pictures import Pictures
from headstart.features.encoders.folder import chosen_encoder
from headstart.features.store.cached_features import CachedFeatures
from headstart.features.store.packing import open_cache
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.output_files import refuse_place, write_output
from headstart.pipeline.text import plural, verb
from headstart.pipeline.workspace import Workspace, as_workspace

from .audit_record import write_audit
from .clean_score import clean_scores
from .corrections import corrections_table
from .doubts import DUPLICATES, LABELS, LEAKS, OUTLIERS, PARTS, AuditedImage, CopyPair, DataAudit, OddImage
from .label_errors import audit_labels
from .near_duplicates import Copies, find_copies
from .neighbours import nearest_images
from .outliers import odd_places, oddness


def audit_data(
    workspace: Workspace | Path | str | None = None,
    encoder: str | None = None,
    parts: Sequence[str] = PARTS,
    check: Callable[[], None] = lambda: None,
    report: Callable[[str], None] = lambda text: None,
    corrections: Path | None = None,
    force: bool = False,
) -> DataAudit:
    """Looks for what `parts` name among all images that have features; labels and images are not changed.

    It is kept beside the features, in place of the one before: the report shows it.

    Args:
        workspace: a folder; None is the one that every command would take, see `find_root`.
        encoder: its folder or model; None where there is only one.
        check: called before each pass over the features; may raise to leave.
        report: told what is being done.
        corrections: where a table of all doubts goes, to be corrected and given to `correct_labels`.
        force: replace what stands there.

    Raises: HeadstartError if there are too few features or, for labels, too few labels, or another file stands at `corrections`:
        somebody may have corrected it.
    """
    if corrections is not None:
        refuse_place(corrections, "--corrections", "doubts.csv")
    opened = as_workspace(workspace)
    folder = chosen_encoder(opened, encoder)
    cached = open_cache(folder)
    labels = None
    if LABELS in parts:
        labels = audit_labels(opened, folder.name, check, report)
    copies, unread, odd = Copies((), 0), 0, []
    if set(parts) & {DUPLICATES, LEAKS, OUTLIERS}:
        positions = np.arange(len(cached))
        if len(positions) < 2:
            raise HeadstartError(
                f"{plural(len(positions), 'image')} {verb(len(positions), 'have')} "
                "features, expected 2 or more. Make more: headstart work"
            )
        report(f"looking for the neighbours of {len(positions):,} images")
        neighbours = nearest_images(cached, positions, check=check)
        if OUTLIERS in parts:
            values = oddness(neighbours)
            odd = [(int(place), float(values[place])) for place in odd_places(neighbours)]
        if DUPLICATES in parts or LEAKS in parts:
            report("comparing pictures")
            copies = find_copies(neighbours, cached.digests, positions, Pictures(cached))
            unread = copies.unread
    image = _images(cached)
    pairs = [CopyPair(image(c.first), image(c.second), _known(c.cosine), c.likeness, c.how) for c in copies.pairs]
    shown = [pair for pair in pairs if DUPLICATES in parts or pair.is_leak]
    doubts = {
        "copies across splits": _both(cached, [pair for pair in pairs if pair.is_leak]),
        "suspect labels": _positions(cached, [(s.dataset, s.row) for s in labels.suspects] if labels else []),
        "odd ones out": [place for place, _ in odd],
    }
    scores = clean_scores(cached, cached.labels, cached.splits, doubts, check) if any(doubts.values()) else ()
    outliers = tuple(OddImage(image(place), value) for place, value in odd)
    audit = DataAudit(
        cached.digest, len(cached), tuple(part for part in PARTS if part in parts), labels, tuple(shown), unread, outliers, scores
    )
    write_audit(opened, folder, audit)
    if corrections is not None:
        remedy = (
            f"It may be corrected already: take it with headstart enqueue --labels {corrections}, name another, or pass --force"
        )
        write_output(corrections, corrections_table(audit), force, remedy)
    return audit


def _known(cosine: float) -> float | None:
    return None if np.isnan(cosine) else cosine


def _images(cached: CachedFeatures) -> Callable[[int], AuditedImage]:
    paths, splits, labels = cached.paths, cached.splits, cached.labels
    rows = cached.rows

    def image(position: int) -> AuditedImage:
        dataset = rows.datasets[int(rows.dataset[position])]
        row = int(rows.index[position])
        return AuditedImage(dataset, row, paths[position], str(splits[position]), str(labels[position]))

    return image


def _both(cached: CachedFeatures, pairs: Sequence[CopyPair]) -> list[int]:
    return _positions(cached, [(image.dataset, image.row) for pair in pairs for image in (pair.first, pair.second)])


def _positions(cached: CachedFeatures, rows: Sequence[tuple[str, int]]) -> list[int]:
    """Positions of (data set, row of its manifest), those that have features."""
    wanted = set(rows)
    names = [cached.rows.datasets[code] for code in cached.rows.dataset.tolist()]
    return [place for place, key in enumerate(zip(names, cached.rows.index.tolist(), strict=True)) if key in wanted]
