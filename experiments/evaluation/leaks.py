"""The score on images of which training has seen neither a copy nor the scene."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.runs.experiment_data import ExperimentData
from headstart.features.sources.scenes import scenes_of
from headstart.features.store.cached_features import CachedFeatures

from .intervals import Sample


def leak_aware(data: ExperimentData, scores: NDArray[np.float32]) -> dict[str, Any]:
    """`leak_aware` for metrics.json: accuracy on the test images that are in training in no way; {} if all are such.

    Copies are equal byte for byte; a scene is a group where groups are given, else what file names speak of, see `scenes_of`.

    Args: scores: (n, k) of the chosen head on the test rows.
    """
    if data.data.targets.task != "classification" or not len(data.test):
        return {}
    features, seen = data.features, np.concatenate([data.data.train, data.data.val])
    groups = features.groups
    if not (groups != "").any():
        groups = _scenes(features, np.concatenate([seen, data.test]))
    is_leaked = _is_among(groups, data.test, seen) | _is_among(np.array(features.digests), data.test, seen)
    if not is_leaked.any():
        return {}
    is_right = (scores.argmax(axis=1) == data.data.targets.codes[data.test])[~is_leaked]
    result: dict[str, Any] = {"left_out": int(is_leaked.sum()), "images": len(is_right), "accuracy": None}
    if len(is_right):
        result["accuracy"] = float(is_right.mean())
        sample = Sample(len(is_right), features.groups[data.test][~is_leaked])
        result["accuracy_interval"] = sample.proportion(is_right)
    return {"leak_aware": result}


def _scenes(features: CachedFeatures, rows: NDArray[np.int64]) -> NDArray[np.str_]:
    """(n,) scene of each row, by the names of `rows` alone; '' for all others."""
    paths, labels = features.paths, features.labels[rows].tolist()
    scenes = np.array(scenes_of([paths[row] for row in rows.tolist()], labels))
    result = np.zeros(len(features), scenes.dtype)
    result[rows] = scenes
    return result


def _is_among(names: NDArray[np.str_], rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(len(rows),) whether the name of a row, if it has one, is also that of another row."""
    return np.asarray(np.isin(names[rows], names[others]) & (names[rows] != ""))
