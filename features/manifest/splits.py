"""Gives each image its split: what the user gave, else 70/15/15. Whoever has a split keeps it for ever."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from headstart.features.sources.image_table import ImageTable, table_of
from headstart.features.sources.source import Image
from headstart.features.sources.spellings import SPLITS

_SHARES = (0.70, 0.15, 0.15)
_TRAIN, _TEST = 0, 2


def assign_splits(
    images: Sequence[Image], known: Mapping[str, str], seed: int, elsewhere: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """The split of each image, independent of the order of `images`.

    Splits in `known` (path to split) and those that the user gave are kept. A unit (the images of a group and exact copies, else
    one image) follows its members that have one, then `elsewhere` (digest to split in other data sets). If the user gave any, the
    rest is 'train'; otherwise units are drawn so that every class comes near 70/15/15 over all its images, known ones included:
    pass the known images, too. A class of one unit is all 'train', of two 'train' and 'test', of three or more has all three.
    """
    table = table_of(images)
    splits = [known.get(path) or split for path, split in zip(table.paths, table.splits, strict=True)]
    if _is_each_alone(table):
        return _assign_alone(table, splits, seed, elsewhere)
    names = unit_names(images)
    of_unit = _unit_splits(images, names, splits, known)
    for image, name in zip(images, names, strict=True):
        if image.digest in elsewhere:
            of_unit.setdefault(name, elsewhere[image.digest])
    splits = [split or of_unit.get(name, "") for name, split in zip(names, splits, strict=True)]
    if any(table.splits):
        return [split or "train" for split in splits]
    if all(splits):
        return splits
    units: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        units[name].append(i)
    draw = _Draw(table.labels, splits, units.values())
    for _, _, members in sorted((-len(members), _hash(seed, key), members) for key, members in units.items()):
        if not splits[members[0]]:
            split = SPLITS[draw.assign([table.labels[i] for i in members])]
            for i in members:
                splits[i] = split
    return splits


def _is_each_alone(table: ImageTable) -> bool:
    """Whether each image is a unit of its own."""
    return not any(table.groups) and table.digests.are_distinct()


def _assign_alone(table: ImageTable, splits: list[str], seed: int, elsewhere: Mapping[str, str]) -> list[str]:
    """As `assign_splits`, in the same order, where each image is a unit: with a third of the memory."""
    if elsewhere:
        splits = [split or elsewhere.get(digest, "") for split, digest in zip(splits, table.digests, strict=True)]
    if any(table.splits):
        return [split or "train" for split in splits]
    if all(splits):
        return splits
    draw = _Draw(table.labels, splits, ((i,) for i in range(len(splits))))
    hashes = bytearray()
    for path in table.paths:
        hashes += _hash(seed, f"image {path}")
    high, low = np.frombuffer(hashes, ">u8").reshape(-1, 2).T
    for place in np.lexsort((low, high)):  # of equal hashes the first comes first
        i = int(place)
        if not splits[i]:
            splits[i] = SPLITS[draw.assign((table.labels[i],))]
    return splits


def unit_names(images: Sequence[Image]) -> list[str]:
    """For each image the name of the unit that is never divided by a draw: its group, itself, or what copies join together."""
    names = [f"group {image.group}" if image.group else f"image {image.path}" for image in images]
    if _differ(images):
        return names
    joined: dict[str, str] = {}

    def first_of(name: str) -> str:
        while (other := joined.get(name, name)) != name:
            name = other
        return name

    by_bytes: dict[str, str] = {}
    for image, name in zip(images, names, strict=True):
        if not image.digest:
            continue
        one, two = sorted((first_of(by_bytes.setdefault(image.digest, name)), first_of(name)))
        if one != two:
            joined[two] = one
    return [first_of(name) for name in names] if joined else names


def _differ(images: Sequence[Image]) -> bool:
    """Whether no two of them are known to be copies."""
    return table_of(images).digests.are_distinct()


def split_notes(images: Sequence[Image], splits: Sequence[str]) -> list[str]:
    """Decisions about `splits` that a user should read."""
    notes, table = [], table_of(images)
    given = any(table.splits)
    without = table.splits.count("")
    if given and without:
        notes.append(f"{without:,} images have no given split; they follow their group, else they are 'train'")
    of_group = defaultdict(set)
    for group, split in {(group, split) for group, split in zip(table.groups, splits, strict=True) if group}:
        of_group[group].add(split)
    divided = sum(len(splits_in) > 1 for splits_in in of_group.values())
    if divided:
        notes.append(f"{divided:,} groups are in more than one of the given splits; a test on them is too optimistic")
    missing = [name for name in SPLITS if name not in splits]
    if missing:
        notes.append(f"no image is in {' and '.join(missing)}")
    if not given:
        labels = table.labels
        is_each_alone = not of_group and _differ(images)
        units = Counter(labels if is_each_alone else (label for label, _ in set(zip(labels, unit_names(images), strict=True))))
        for count, told in ((1, "one image or group, all in train"), (2, "two images or groups, in train and test")):
            small = sum(size == count for size in units.values())
            if small:
                notes.append(f"{small:,} classes have {told}")
    return notes


class _Draw:
    """Running counts while units are given out, the largest first, each to the split that lacks most of its classes."""

    def __init__(self, label_of: Sequence[str], splits: Sequence[str], units: Iterable[Sequence[int]]) -> None:
        self.have: dict[str, list[int]] = {label: [0, 0, 0] for label in label_of}
        self.left = dict.fromkeys(self.have, 0)  # units of a class that have no split yet
        all_units = dict.fromkeys(self.have, 0)
        for members in units:
            waits = not splits[members[0]]
            for label in {label_of[i] for i in members}:
                all_units[label] += 1
                self.left[label] += waits
        for label, split in zip(label_of, splits, strict=True):
            if split:
                self.have[label][SPLITS.index(split)] += 1
        self.want = _quotas(Counter(label_of), all_units)

    def assign(self, labels: Sequence[str]) -> int:
        """The split of a unit whose images have `labels`; counts it."""
        counts = Counter(labels) if len(labels) > 1 else {labels[0]: 1}
        scores = [(0, 0.0)] * 3
        for label, count in counts.items():
            have, want = self.have[label], self.want[label]
            weight = count / sum(want)
            empty = [not have[s] and want[s] > 0 for s in range(3)]
            must = self.left[label] <= sum(empty)
            self.left[label] -= 1
            scores = [
                (forced + (must and empty[s]), lack + weight * (want[s] - have[s])) for s, (forced, lack) in enumerate(scores)
            ]
        best = max(range(3), key=lambda s: (scores[s], s))
        for label, count in counts.items():
            self.have[label][best] += count
        return best


def _quotas(images: Counter[str], units: Mapping[str, int]) -> dict[str, list[int]]:
    """How many images of each class each split should have; roundings are balanced over the classes."""
    carry = [0.0, 0.0, 0.0]
    quotas = {}
    for label in sorted(images):
        count = images[label]
        allowed = {1: [1.0, 0.0, 0.0], 2: [0.7 / 0.85, 0.0, 0.15 / 0.85]}.get(units[label], list(_SHARES))
        exact = [count * share for share in allowed]
        quota = [max(int(value), 1) if value else 0 for value in exact]
        quota[_TRAIN] -= max(sum(quota) - count, 0)
        ranked = sorted((s for s in range(3) if exact[s]), key=lambda s: quota[s] - exact[s] - carry[s])
        for s in ranked[: count - sum(quota)]:
            quota[s] += 1
        carry = [carry[s] + count * _SHARES[s] - quota[s] for s in range(3)]
        quotas[label] = quota
    return quotas


def _unit_splits(
    images: Sequence[Image], names: Sequence[str], splits: Sequence[str], known: Mapping[str, str]
) -> dict[str, str]:
    first: dict[str, tuple[bool, str, str]] = {}
    for image, name, split in zip(images, names, splits, strict=True):
        if split:
            here = (image.path not in known, image.path, split)
            first[name] = min(here, first.get(name, here))
    return {name: split for name, (_, _, split) in first.items()}


def _hash(seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{seed} {key}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
