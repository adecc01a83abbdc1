"""What the columns of a manifest say: targets to predict and auxiliary values, as numbers where numbers are wanted."""

import difflib

import numpy as np
from numpy.typing import NDArray

from headstart.features.manifest.reading import Dataset, open_manifest
from headstart.features.sources.spellings import label_key
from headstart.features.store.cached_features import CachedFeatures
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

from .targets import Targets, class_targets, value_targets

LABEL = "label"
_FOLDERS_OF_CLASSES = ("classes", "split_classes", "class_splits")
_MANY = 100  # numbers that so many different ones stand in a column of are amounts, not names of classes


def column_of(cached: CachedFeatures, name: str) -> list[str]:
    """n texts of the column that the table calls `name`, or 'label'; '' for none.

    Raises: HeadstartError that offers the nearest name if there is no such column.
    """
    roles = [dataset.roles for dataset in _datasets(cached)]
    if name in cached.extra_columns:
        return cached.column(name)
    if name == LABEL or all(role.get("label") == name for role in roles):
        return [str(label) for label in cached.labels]
    known = [*cached.extra_columns, *{role["label"] for role in roles if "label" in role}]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"Did you mean '{printable(near[0])}'?" if near else f"It has: {', '.join(map(printable, known)) or 'none'}."
    raise HeadstartError(
        f"the manifest has no column '{printable(name)}'. {hint} One that was added to the "
        "table later is taken over by: headstart enqueue TABLE"
    )


def _datasets(cached: CachedFeatures) -> list[Dataset]:
    return [open_manifest(cached.workspace.root / dataset).dataset for dataset in cached.rows.datasets]


def detected_task(cached: CachedFeatures, targets: tuple[str, ...]) -> str:
    """regression for several targets, or numbers that are no names of classes: fractions, or more than 100 different ones."""
    if len(targets) > 1:
        return "regression"
    if not targets and _are_classes(cached):
        return "classification"  # folders of classes are classes, whatever they are called
    values = set(column_of(cached, targets[0]) if targets else cached.rows.label.names) - {""}
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return "classification"
    is_amount = len(numbers) > _MANY or bool((numbers != np.round(numbers)).any())
    return "regression" if is_amount else "classification"


def targets_of(
    cached: CachedFeatures,
    task: str,
    targets: tuple[str, ...],
    train: NDArray[np.int64],
    others: tuple[NDArray[np.int64], ...],
    is_centered: bool = False,
) -> Targets:
    """Targets of all rows. Args: targets: columns, () for the label; is_centered: see `value_targets`. Raises: HeadstartError as
    `targets`."""
    names = targets or (LABEL,)
    is_partial = len(cached) < cached.rows.images
    if task == "regression":
        columns = [column_of(cached, name) for name in names]
        return value_targets(list(names), columns, train, is_centered, lambda row: printable(cached.paths[row]), is_partial)
    if len(names) > 1:
        raise HeadstartError(f"{len(names)} targets are given, and a classifier has one. Use --task regression, or one --target")
    labels = class_labels_of(cached, targets)
    if targets:
        _refuse_two_spellings(names[0], labels)
    return class_targets(labels, train, others, are_said=not targets and _are_classes(cached), is_partial=is_partial)


def class_labels_of(cached: CachedFeatures, targets: tuple[str, ...]) -> NDArray[np.str_]:
    """(n,) names of classes, '' for none. Args: targets: the one column, () for the label."""
    return np.array(column_of(cached, targets[0])) if targets else np.asarray(cached.labels)


def _refuse_two_spellings(name: str, labels: NDArray[np.str_]) -> None:
    """As `enqueue` does of labels: two spellings of one class would be two classes."""
    spellings: dict[str, str] = {}
    for label in np.unique(labels[labels != ""]).tolist():
        other = spellings.setdefault(label_key(label), label)
        if other != label:
            raise HeadstartError(
                f"target '{printable(name)}' has two spellings of one class, {printable(repr(other))} and "
                f"{printable(repr(label))}. Make them one in the table, then enqueue it again"
            )


def _are_classes(cached: CachedFeatures) -> bool:
    return all(dataset.layout in _FOLDERS_OF_CLASSES for dataset in _datasets(cached))


def auxiliary_of(cached: CachedFeatures, names: tuple[str, ...]) -> NDArray[np.float64] | None:
    """(n, a) values in the order of `names`, NaN for none. Raises: HeadstartError naming the image if one is no number."""
    if not names:
        return None
    result = np.empty((len(cached), len(names)))
    for place, name in enumerate(names):
        for row, value in enumerate(column_of(cached, name)):
            try:
                result[row, place] = float(value) if value else np.nan
            except ValueError:
                raise HeadstartError(
                    f"auxiliary column '{printable(name)}' of {printable(cached.paths[row])} is {value!r}, expected a number. "
                    "Leave it out of --aux"
                ) from None
    return result
