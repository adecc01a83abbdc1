"""What every format writes: features, what each image is, and for viewers a map and the nearest images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.audit.neighbours import Neighbours, nearest_images, principal_rows
from headstart.features.store.cached_features import CachedFeatures

TEXTS = ("path", "label", "split", "group", "digest")


@dataclass(frozen=True)
class FeatureTable:
    """n images with features, in the order of the cache."""

    cached: CachedFeatures

    def __len__(self) -> int:
        return len(self.cached)

    @property
    def _positions(self) -> NDArray[np.int64]:
        return np.arange(len(self.cached))

    @cached_property
    def features(self) -> NDArray[np.float16]:
        """(n, d)."""
        return self.cached.take(self._positions)

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """n texts of each of TEXTS; bytes of a path that are not UTF-8 as \\xNN."""
        cached = self.cached
        columns = (cached.paths, cached.labels.tolist(), cached.splits.tolist(), cached.groups.tolist(), cached.digests)
        return {name: [_encodable(value) for value in values] for name, values in zip(TEXTS, columns, strict=True)}

    @cached_property
    def projection(self) -> NDArray[np.float32]:
        """(n, 2) on the two axes of most variance; equal features give equal points."""
        points = principal_rows(self.cached, self._positions, 2)
        points = np.pad(points, [(0, 0), (0, 2 - points.shape[1])]) if points.shape[1] < 2 else points[:, [-1, -2]]
        # An axis has no direction of its own: the point farthest out lies above.
        return np.asarray(points * np.where(points[np.abs(points).argmax(axis=0), [0, 1]] < 0, -1, 1), np.float32)

    @cached_property
    def neighbours(self) -> Neighbours:
        """Of each image the ten nearest others by cosine, fewer if there are no more images."""
        return nearest_images(self.cached, self._positions)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
