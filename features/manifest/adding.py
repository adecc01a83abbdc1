"""Adds images to the manifest of a data set, each once, frozen with its split; reading it is `reading`'s concern."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headstart.features.sources.source import MISSING, SPLITS, Image, Source
from headstart.pipeline.workspace import Workspace

from .parts import publish_part
from .reading import DATASET_FILE, Columns, Dataset, Manifest, open_manifest
from .splits import assign_splits, split_notes


@dataclass(frozen=True)
class Added:
    """What `add_images` did, or would do.

    Attributes:
        manifest: of the whole data set; in a dry run its folder may not exist.
        new, known, changed: images never seen, seen as they are, and seen but with another size, time or label.
        splits: images of the source in train, val and test.
        notes: decisions to print.
    """

    manifest: Manifest
    new: int
    known: int
    changed: int
    splits: dict[str, int]
    notes: tuple[str, ...]


def add_images(workspace: Workspace, source: Source, seed: int) -> Added:
    """Adds a part with the images that are new or changed, in an order in which every prefix is a fair sample.

    Nothing is written if there are none. Images that are known but no longer there are left alone. The seed
    of the first call stays. Two callers for one data set at once must hold a lock.

    Raises: HeadstartError if a part is damaged; TryLaterError if the disk is full.
    """
    manifest, notes = _opened_or_new(workspace.manifests / _folder_name(source), source, seed)
    before = manifest.read_all()
    rows = {path: i for i, path in enumerate(before.path)}  # the last row of a path stays
    states = [_state(image, before, rows.get(image.path)) for image in source.images]
    splits = _splits(source, before, rows, manifest.dataset.seed)
    chosen = [i for i, state in enumerate(states) if state != "known"]
    # Also without new images: an enqueue may have been killed between the two files, or allow links only now.
    if not (path := manifest.folder / DATASET_FILE).exists() or path.read_bytes() != manifest.dataset.encode():
        workspace.make_folder(manifest.folder)
        workspace.files.replace(path, manifest.dataset.encode())
    if chosen:
        order = fair_order([(source.images[i].label, splits[i]) for i in chosen], manifest.dataset.seed, len(before.path))
        images = ((source.images[chosen[k]], splits[chosen[k]]) for k in order)
        publish_part(workspace.files, manifest.folder, source.columns, images)
    workspace.files.sync_folder(manifest.folder)  # what was there may be of an enqueue killed before it did so
    counts, in_split = Counter(states), Counter(splits)
    return Added(
        manifest=manifest,
        new=counts["new"],
        known=counts["known"],
        changed=counts["changed"],
        splits={name: in_split[name] for name in SPLITS},
        notes=(*notes, *_kept_notes(source, before, rows), *split_notes(source.images, splits)),
    )


def fair_order(strata: Sequence[tuple[str, str]], seed: int, salt: int) -> list[int]:
    """A seeded shuffle of range(len(strata)) in which every prefix holds its share of each (class, split) pair.

    The k-th of a class's n members, in an order that is itself fair to the splits, stands at (k + u) / n with u uniform.
    """
    random = np.random.default_rng(int.from_bytes(hashlib.blake2b(f"{seed} {salt}".encode(), digest_size=16).digest()))
    pairs: dict[object, int] = {}
    labels: dict[object, int] = {}
    by_pair = np.array([pairs.setdefault(stratum, len(pairs)) for stratum in strata], np.int64)
    by_label = np.array([labels.setdefault(label, len(labels)) for label, _ in strata], np.int64)
    positions = _spread(by_label, _spread(by_pair, random.random(len(strata)), random), random)
    return [int(i) for i in np.argsort(positions, kind="stable")]


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


def _folder_name(source: Source) -> str:
    name = Path(source.file).stem if source.file else source.root.name
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "data"
    facts = [str(source.root), source.file or "", source.layout, *(word for role in source.roles for word in role)]
    digest = hashlib.sha256("\0".join(facts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{slug}-{digest[:8]}"


def _opened_or_new(folder: Path, source: Source, seed: int) -> tuple[Manifest, list[str]]:
    asked = Dataset(str(source.root), source.layout, source.file, dict(source.roles), seed, source.allow_symlinks)
    if not (folder / DATASET_FILE).exists():
        return Manifest(folder, asked), []
    manifest = open_manifest(folder)
    notes = [f"the data set keeps its seed {manifest.dataset.seed}"] if seed != manifest.dataset.seed else []
    allowed = manifest.dataset.allow_symlinks or source.allow_symlinks
    return replace(manifest, dataset=replace(manifest.dataset, allow_symlinks=allowed)), notes


def _state(image: Image, before: Columns, row: int | None) -> str:
    if row is None:
        return "new"
    if image.size == MISSING:  # its features are still good
        return "known"
    same = (image.size, image.mtime_ns, image.label) == (before.size[row], before.mtime_ns[row], before.label[row])
    return "known" if same else "changed"


def _splits(source: Source, before: Columns, rows: dict[str, int], seed: int) -> list[str]:
    here = {image.path for image in source.images}
    # Images that are gone still count: their classes must not be filled up, nor their groups drawn, a second time.
    gone = [Image(path, before.label[i], "", before.group[i], MISSING, MISSING) for path, i in rows.items() if path not in here]
    known = {path: before.split[i] for path, i in rows.items()}
    return assign_splits([*source.images, *gone], known, seed)[: len(source.images)]


def _kept_notes(source: Source, before: Columns, rows: dict[str, int]) -> list[str]:
    empty = [""] * len(before.path)
    columns = [before.extra.get(name, empty) for name in source.columns]
    differ = 0
    for image in source.images:
        row = rows.get(image.path)
        if row is None:
            continue
        now = (image.split or before.split[row], image.group, *image.extra)
        differ += now != (before.split[row], before.group[row], *(column[row] for column in columns))
    if not differ:
        return []
    return [f"{differ:,} known images have another split, group or other column now; the manifest keeps what they had"]
