"""Keeps the manifest of a data set as the data is: adds what is new, revises what changed, retires what left.

Reading it is `reading`'s concern. An image that is known is never computed again, whatever it is called and wherever it lies.
"""

import contextlib
import hashlib
import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headstart.features.sources.image_table import table_of
from headstart.features.sources.source import MISSING, Image, Source
from headstart.features.sources.spellings import SPLITS
from headstart.pipeline import paths
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, printable, verb
from headstart.pipeline.workspace import Workspace

from .corrections import CORRECTIONS, as_corrected
from .dataset_matching import dataset_of, place_of
from .image_matching import NO_ROW, Matching, match_images, sizes_and_times
from .parts import publish_part
from .reading import DATASET_FILE, Columns, Dataset, Manifest, list_datasets, open_manifest, read_columns
from .revisions import RevisedRow, RevisedRows, publish_revision
from .splits import assign_splits, split_notes

# Why a row is retired.
GONE = "gone"  # no longer in the data
CHANGED = "changed"  # another row has what lies at its place now


@dataclass(frozen=True)
class Added:
    """What `add_images` did.

    Attributes:
        manifest: of the whole data set.
        new, known, changed: images never seen, seen, and seen with other bytes at the same place.
        moved, relabelled, returned: how many of the known ones lie elsewhere, have another label, or had been retired.
        retired: rows that left the data now.
        splits: images of the source in train, val and test.
        notes: decisions to print.
    """

    manifest: Manifest
    new: int
    known: int
    changed: int
    moved: int
    relabelled: int
    returned: int
    retired: int
    splits: dict[str, int]
    notes: tuple[str, ...]


def add_images(
    workspace: Workspace,
    source: Source,
    seed: int,
    keep_missing: bool = False,
    without_features: Callable[[Path], frozenset[int]] = lambda folder: frozenset(),
    known: Columns | None = None,
) -> Added:
    """Brings the manifest of the data set that `source` is up to date with it.

    New images become a part, in an order in which every prefix is a fair sample; what is known of other rows becomes a revision.
    Nothing is written if nothing changed. The seed of the first call stays. Two callers at once must hold a lock.

    Args:
        keep_missing: rows that left the data stay as they are.
        without_features: rows of a data set that a job found missing or changed: where such an image is there again, it is added
            again, for no job would look at its row any more.
        known: what was read of the manifest before the lock; it is read again only if it has changed since.

    Raises: HeadstartError if a part is damaged; TryLaterError if the disk is full.
    """
    manifest, notes = _opened_or_new(workspace, source, seed)
    source, by_hand = as_corrected(manifest.folder, source)
    if by_hand:
        notes.append(f"{by_hand:,} labels are as corrected by hand ({CORRECTIONS} of {manifest.folder.name})")
    before = known if known is not None and manifest.is_as_in(known) else manifest.read_all()
    matching = match_images(source.images, before)
    in_place = _in_place(source.images, before, matching.rows)
    matching = _renewed(source, matching, in_place, lambda: without_features(manifest.folder))
    elsewhere = _elsewhere(workspace, manifest.folder) if NO_ROW in matching.rows else {}
    splits = _splits(source, before, matching, manifest.dataset.seed, {d: split for d, (_, split) in elsewhere.items()})
    revision = _revision(source, before, matching, in_place, splits, manifest, keep_missing)
    # Also without new images: an enqueue may have been killed between the files, or allow links only now.
    if not _says(path := manifest.folder / DATASET_FILE, manifest.dataset.encode()):
        workspace.make_folder(manifest.folder)
        workspace.files.replace(path, manifest.dataset.encode())
    if revision.revised is not None:
        # Before the part: a row that moved away from a path must not be taken for an older state of what is there now.
        publish_revision(workspace.files, manifest.folder, before.revision + 1, revision.revised)
    table = table_of(source.images)
    every = range(len(matching.rows))
    chosen: Sequence[int] = every if not before.path else [i for i in every if matching.rows[i] == NO_ROW]
    if len(chosen):
        pairs: dict[tuple[str, str], tuple[str, str]] = {}
        strata = [pairs.setdefault(pair, pair) for pair in ((table.labels[i], splits[i]) for i in chosen)]
        lots = [source.lots[i] for i in chosen] if source.lots else []
        order = order_by_lots(strata, lots, manifest.dataset.seed, len(before.path))
        images = ((source.images[chosen[k]], splits[chosen[k]]) for k in order)
        publish_part(workspace.files, manifest.folder, _columns(source, before), _with_all_columns(source, before, images))
    workspace.files.sync_folder(manifest.folder)  # what was there may be of an enqueue killed before it did so
    in_split = Counter(splits)
    changed = len(matching.changed)
    return Added(
        manifest=manifest,
        new=len(chosen) - changed,
        known=len(source.images) - len(chosen),
        changed=changed,
        moved=revision.moved,
        relabelled=revision.relabelled,
        returned=revision.returned,
        retired=revision.retired,
        splits={name: in_split[name] for name in SPLITS},
        notes=(*notes, *revision.notes, *_copy_notes(source, splits, elsewhere), *split_notes(source.images, splits)),
    )


@dataclass(frozen=True)
class _Revision:
    """What is to be written (None for nothing), and what it says in numbers."""

    revised: RevisedRows | None
    moved: int
    relabelled: int
    returned: int
    retired: int
    notes: tuple[str, ...]


def _revision(
    source: Source,
    before: Columns,
    matching: Matching,
    in_place: npt.NDArray[np.bool_],
    splits: Sequence[str],
    manifest: Manifest,
    keep_missing: bool,
) -> _Revision:
    columns = _columns(source, before)
    empty = [""] * len(before.path)
    extra_before = [before.extra.get(name, empty) for name in columns]
    place = {name: k for k, name in enumerate(source.columns)}
    rows: dict[int, RevisedRow] = {}
    moved = relabelled = returned = other = 0

    def state(row: int) -> RevisedRow:
        facts = (before.path[row], before.label[row], before.split[row], before.group[row])
        sizes = (str(before.size[row]), str(before.mtime_ns[row]))
        extra = tuple(values[row] for values in extra_before)
        return RevisedRow(before.retired[row], (before.digest[row], *facts, *sizes, "", "", ""), extra)

    every = range(len(matching.rows))
    for i in every if columns else _differing(source.images, splits, before, matching.rows, in_place):
        image, row = source.images[i], matching.rows[i]
        if row == NO_ROW:
            continue
        was = state(row)
        sizes = was.fixed[5:7] if image.size == MISSING else (str(image.size), str(image.mtime_ns))
        fixed = (image.digest or before.digest[row], image.path, image.label, splits[i], image.group, *sizes, "", "", "")
        extra = tuple(image.extra[place[name]] if name in place else was.extra[k] for k, name in enumerate(columns))
        now = RevisedRow("", fixed, extra)
        if now != was or not before.live[row]:
            rows[row] = now
            moved += image.path != before.path[row]
            relabelled += image.label != before.label[row]
            returned += not before.live[row]
            other += (fixed[3:5], extra) != (was.fixed[3:5], was.extra)
    is_left = before.live.copy()
    is_left[[row for row in matching.rows if row != NO_ROW]] = False
    left = is_left.nonzero()[0].tolist()
    here = {image.path: i for i, image in enumerate(source.images)} if left else {}
    gone = 0
    for row in left:
        successor = here.get(before.path[row])
        if successor is None and (keep_missing or any(before.path[row].startswith(f"{name}/") for name in source.unreadable)):
            continue
        is_changed = successor is not None and matching.rows[successor] == NO_ROW
        rows[row] = state(row)._replace(retired=CHANGED if is_changed else GONE)
        gone += not is_changed
    known = f"{plural(other, 'known image')} {verb(other, 'have')}"
    notes = [f"{known} another split, group or other column now, which is taken over"] if other else []
    counts = (moved, relabelled, returned, gone)
    earlier = manifest.revised()
    is_other_header = tuple(columns) != tuple(before.extra)
    if not rows and not (is_other_header and before.path):
        return _Revision(None, *counts, tuple(notes))
    kept = {row: RevisedRow(old.retired, old.fixed, state(row).extra) for row, old in earlier.rows.items()}
    return _Revision(RevisedRows(tuple(columns), kept | rows), *counts, tuple(notes))


def _in_place(images: Sequence[Image], before: Columns, rows: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Which images are rows that count, at their path, of their size and time."""
    if not before.path:
        return np.zeros(len(images), np.bool_)
    row = np.array(rows, np.int64)
    size, mtime_ns = sizes_and_times(images)
    is_same = (before.size[row] == size) & (before.mtime_ns[row] == mtime_ns) & before.live[row] & (row != NO_ROW)
    is_same &= _are_equal(table_of(images).paths, before.path, rows)
    return np.asarray(is_same)


def _differing(
    images: Sequence[Image], splits: Sequence[str], before: Columns, rows: Sequence[int], in_place: npt.NDArray[np.bool_]
) -> list[int]:
    """Positions of the images that are not in every respect as their rows, for rows without other columns."""
    if not before.path:
        return list(range(len(images)))
    table = table_of(images)
    is_same = in_place & _are_equal(table.labels, before.label, rows)
    is_same &= _are_equal(splits, before.split, rows) & _are_equal(table.groups, before.group, rows)
    digests = [digest or before.digest[row] for digest, row in zip(table.digests, rows, strict=True)]
    return [int(i) for i in np.flatnonzero(~(is_same & _are_equal(digests, before.digest, rows)))]


def _are_equal(texts: Sequence[str], column: Sequence[str], rows: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Which texts are as the column has them in these rows; what it says of NO_ROW means nothing."""
    there = list(map(column.__getitem__, rows))
    if texts == there:  # the usual case, in a fraction of the time
        return np.ones(len(there), np.bool_)
    return np.fromiter(map(operator.eq, texts, there), np.bool_, len(there))


def _columns(source: Source, before: Columns) -> list[str]:
    """The other columns from now on: those that were there and those of the table, without any that has a role by now."""
    roles = {column for _, column in source.roles}
    return [name for name in dict.fromkeys((*before.extra, *source.columns)) if name not in roles]


def _with_all_columns(source: Source, before: Columns, images: Iterable[tuple[Image, str]]) -> Iterable[tuple[Image, str]]:
    columns = _columns(source, before)
    if columns == list(source.columns):
        return images
    place = {name: k for k, name in enumerate(source.columns)}
    return (
        (image._replace(extra=tuple(image.extra[place[name]] if name in place else "" for name in columns)), split)
        for image, split in images
    )


def _renewed(
    source: Source, matching: Matching, in_place: npt.NDArray[np.bool_], without_features: Callable[[], frozenset[int]]
) -> Matching:
    """Images whose row no job would look at again, although they are there now, count as changed."""
    if matching.rows.count(NO_ROW) == len(matching.rows):
        return matching
    moved = [i for i in np.flatnonzero(~in_place).tolist() if source.images[i].size != MISSING]
    suspects = {row: i for i in moved if (row := matching.rows[i]) != NO_ROW}
    lacking = without_features() & suspects.keys() if suspects else frozenset()
    if not lacking:
        return matching
    rows = [NO_ROW if row in lacking else row for row in matching.rows]
    return Matching(rows, matching.changed | {suspects[row] for row in lacking})


def _splits(source: Source, before: Columns, matching: Matching, seed: int, elsewhere: Mapping[str, str]) -> list[str]:
    if NO_ROW not in matching.rows:
        given = table_of(source.images).splits
        kept = [split or before.split[row] for split, row in zip(given, matching.rows, strict=True)]
        if all(kept):  # nothing is to be drawn
            return kept
    if not before.path:
        return assign_splits(source.images, {}, seed, elsewhere)
    here = {image.path for image in source.images}
    taken = set(matching.rows)
    last = {path: row for row, path in enumerate(before.path) if row not in taken and path not in here}
    # Images that are gone still count: their classes must not be filled up, nor their groups drawn, a second time.
    gone = [Image(path, before.label[row], "", before.group[row], MISSING, MISSING) for path, row in last.items()]
    known = {path: before.split[row] for path, row in last.items()}
    at_path = {path: row for row, path in enumerate(before.path)}
    # Other bytes at a path take over its split, but not where they are in one already: copies are never divided.
    settled = {*elsewhere, *(image.digest for image, row in zip(source.images, matching.rows, strict=True) if row != NO_ROW)}
    for image, row in zip(source.images, matching.rows, strict=True):
        seen = row if row != NO_ROW else at_path.get(image.path, NO_ROW)
        if row == NO_ROW and image.digest:
            seen = NO_ROW if image.digest in settled else seen
            settled.add(image.digest)
        if seen != NO_ROW:
            known[image.path] = image.split or before.split[seen]
    return assign_splits([*source.images, *gone], known, seed, elsewhere)[: len(source.images)]


def _elsewhere(workspace: Workspace, folder: Path) -> dict[str, tuple[str, str]]:
    """Digest to (data set, split) of what counts in other data sets."""
    known: dict[str, tuple[str, str]] = {}
    for other in list_datasets(workspace.manifests):
        if other == folder:
            continue
        with contextlib.suppress(HeadstartError):  # one that is damaged must not hold up this one
            columns = read_columns(other)
            for row in columns.live.nonzero()[0].tolist():
                if columns.digest[row]:
                    known.setdefault(columns.digest[row], (other.name, columns.split[row]))
    return known


def _copy_notes(source: Source, splits: Sequence[str], elsewhere: Mapping[str, tuple[str, str]]) -> list[str]:
    notes: list[str] = []
    if not elsewhere and table_of(source.images).digests.are_distinct():
        return notes
    copies: dict[str, list[int]] = defaultdict(list)
    for i, image in enumerate(source.images):
        if image.digest:
            copies[image.digest].append(i)
    several = [members for members in copies.values() if len(members) > 1]
    if several:
        one, two = (printable(source.images[i].path) for i in several[0][:2])
        more = sum(len(members) - 1 for members in several)
        notes.append(f"{more:,} images are exact copies of others, for example {two} of {one}")
        labels = sum(len({source.images[i].label for i in members}) > 1 for members in several)
        if labels:
            notes.append(f"{labels:,} of these photos stand under more than one label")
        divided = sum(len({splits[i] for i in members}) > 1 for members in several)
        if divided:
            notes.append(
                f"{divided:,} of these photos are in more than one of the given splits; a test on them is too optimistic"
            )
    shared = Counter(elsewhere[digest][0] for digest in copies if digest in elsewhere)
    notes += [f"{count:,} of these photos are in data set {name}, too, byte for byte" for name, count in sorted(shared.items())]
    return notes


def order_by_lots(strata: Sequence[tuple[str, str]], lots: Sequence[int], seed: int, salt: int) -> Iterable[int]:
    """`fair_order` within each lot, lots one after the other, where `lots` names one for each of them; else over all."""
    if not lots:
        return map(int, _fair_places(strata, seed, salt))
    members: dict[int, list[int]] = defaultdict(list)
    for k in range(len(strata)):
        members[lots[k]].append(k)
    ordered = (members[lot] for lot in sorted(members))
    return [of_lot[k] for of_lot in ordered for k in fair_order([strata[k] for k in of_lot], seed, salt)]


def fair_order(strata: Sequence[tuple[str, str]], seed: int, salt: int) -> list[int]:
    """A seeded shuffle of range(len(strata)) in which every prefix holds its share of each (class, split) pair.

    The k-th of a class's n members, in an order that is itself fair to the splits, stands at (k + u) / n with u uniform.
    """
    return [int(i) for i in _fair_places(strata, seed, salt)]


def _fair_places(strata: Sequence[tuple[str, str]], seed: int, salt: int) -> npt.NDArray[np.int64]:
    random = np.random.default_rng(int.from_bytes(hashlib.blake2b(f"{seed} {salt}".encode(), digest_size=16).digest()))
    pairs: dict[object, int] = {}
    labels: dict[object, int] = {}
    by_pair = np.array([pairs.setdefault(stratum, len(pairs)) for stratum in strata], np.int64)
    by_label = np.array([labels.setdefault(label, len(labels)) for label, _ in strata], np.int64)
    positions = _spread(by_label, _spread(by_pair, random.random(len(strata)), random), random)
    return np.argsort(positions, kind="stable")


def _spread(
    codes: npt.NDArray[np.int64], ranked_by: npt.NDArray[np.float64], random: np.random.Generator
) -> npt.NDArray[np.float64]:
    order = np.lexsort((ranked_by, codes))
    counts = np.bincount(codes)
    starts = np.cumsum(counts) - counts
    ranks = np.arange(len(codes)) - starts[codes[order]]
    positions = np.empty(len(codes))
    positions[order] = (ranks + random.random(len(codes))) / counts[codes[order]]
    return positions


def _says(path: Path, data: bytes) -> bool:
    try:
        return reading.read(path) == data
    except FileNotFoundError:
        return False


def _opened_or_new(workspace: Workspace, source: Source, seed: int) -> tuple[Manifest, list[str]]:
    folder = dataset_of(workspace, source)
    asked = Dataset(
        root=str(source.root),
        layout=source.layout,
        file=source.file,
        roles=dict(source.roles),
        seed=seed,
        allow_symlinks=source.allow_symlinks,
        keep_case=source.keep_case,
        said_layout=source.said_layout,
        needs=("parquet",) if source.layout == "parquet" else (),
    )
    if not paths.exists(folder / DATASET_FILE):
        return Manifest(folder, asked), []
    manifest = open_manifest(folder)
    before = manifest.dataset
    notes = [f"the data set keeps its seed {before.seed}"] if seed != before.seed else []
    if (before.root, before.file) != (asked.root, asked.file):
        notes.append(f"this is data set {folder.name}, which lay at {printable(place_of(before))}")
    now = replace(asked, seed=before.seed, allow_symlinks=before.allow_symlinks or source.allow_symlinks)
    return replace(manifest, dataset=now), notes
