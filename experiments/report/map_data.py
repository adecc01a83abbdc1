"""What the page's script draws from: one number an image in each column, packed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .answers import SPLIT_CODES
from .markup import plain
from .projection import Map
from .subject import SPLIT_NAMES, Subject


def map_facts(subject: Subject, maps: Sequence[Map], everything: NDArray[np.int64], sample: NDArray[np.int64]) -> dict[str, Any]:
    """What the script draws from. Images are numbered by their place in `everything`."""
    answers, targets = subject.answers, subject.data.data.targets
    split = answers.split[everything]
    place = np.full(len(subject.data.features), -1, np.int64)
    place[everything] = np.arange(len(everything))
    facts: dict[str, Any] = {
        "n": len(everything),
        "task": subject.head.task,
        "classes": [plain(name, 60) for name in subject.head.names],
        "splits": [SPLIT_NAMES[name] for name in SPLIT_CODES],
        "judged": SPLIT_CODES.index(subject.split),
        "split": _packed(split, np.uint8),
        "tiles": _packed(place[sample], np.uint32),
        "maps": [
            {
                "name": each.name,
                "xy": _packed(np.round(each.points * 65535).clip(0, 65535), np.uint16),
                "positions": None if len(each.positions) == len(everything) else _packed(place[each.positions], np.uint32),
            }
            for each in maps
        ],
    }
    if subject.is_classes:
        codes, said = targets.codes[everything], answers.said[everything]
        is_known = codes >= 0
        wrong = np.where((said < 0) | ~is_known, 2, (said != codes).astype(np.int64))
        sure = np.nan_to_num(answers.confidence[everything] * 100)
        return facts | {
            "label": _packed(np.where(is_known, codes, 65535), np.uint16),
            "said": _packed(np.where(said < 0, 65535, said), np.uint16),
            "sure": _packed(np.floor(sure), np.uint8),
            "wrong": _packed(wrong, np.uint8),
        }
    values = targets.values[everything]
    first = values[:, 0]
    known = np.isfinite(first)
    low, high = (float(first[known].min()), float(first[known].max())) if known.any() else (0.0, 1.0)
    level = np.where(known, np.nan_to_num((first - low) / ((high - low) or 1.0)) * 254, 255)
    nothing = np.full(len(everything), 65535)
    words = [_value_words(subject, position) for position in everything.tolist()]
    return facts | {
        "label": _packed(nothing, np.uint16),
        "said": _packed(nothing, np.uint16),
        "sure": _packed(np.zeros(len(everything)), np.uint8),
        "wrong": _packed(np.full(len(everything), 2), np.uint8),
        "level": _packed(level, np.uint8),
        "range": [f"{low:.4g}", f"{high:.4g}"],
        "values": words,
    }


def _value_words(subject: Subject, position: int) -> str:
    true, said = subject.data.data.targets.values[position], subject.answers.predicted[position]
    shown = ", ".join("none" if not np.isfinite(value) else f"{value:.4g}" for value in true)
    return shown if not np.isfinite(said).all() else f"{shown}; said {', '.join(f'{value:.4g}' for value in said)}"


def thumbnail_names(subject: Subject, sample: NDArray[np.int64]) -> list[str]:
    """Paths of the images with thumbnails."""
    paths = subject.data.features.paths
    return [plain(paths[position], 80) for position in sample.tolist()]


def _packed(values: NDArray[Any], kind: type[np.unsignedinteger[Any]]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(kind).newbyteorder("<")).tobytes()).decode("ascii")
