"""Small learnable data: classes as Gaussian clouds, or a noisy linear target."""

from typing import NamedTuple

import numpy as np

from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.targets import Targets, class_targets, value_targets


class Sample(NamedTuple):
    source: ArrayFeatures
    targets: Targets
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def clouds(count: int = 400, embed_dim: int = 12, classes: int = 3, spread: float = 1.5, seed: int = 0) -> Sample:
    """Channels have different means and scales, so that a missing standardization shows."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, classes, count)
    features = random.standard_normal((classes, embed_dim))[codes] + spread * random.standard_normal((count, embed_dim))
    features = (features * np.geomspace(0.1, 10, embed_dim) + np.linspace(-5, 5, embed_dim)).astype(np.float16)
    train, val, test = np.split(np.arange(count), [count * 6 // 10, count * 8 // 10])
    return Sample(ArrayFeatures(features), class_targets([f"class {code}" for code in codes], train), train, val, test)


def line(count: int = 400, embed_dim: int = 12, noise: float = 0.1, seed: int = 0) -> Sample:
    """Two targets, linear in the features plus noise; the second is large and far from 0."""
    random = np.random.default_rng(seed)
    features = (random.standard_normal((count, embed_dim)) * np.geomspace(0.1, 10, embed_dim) + 3).astype(np.float16)
    wanted = features.astype(np.float64) @ random.standard_normal((embed_dim, 2)) / embed_dim
    wanted = (wanted + noise * random.standard_normal((count, 2))) * [1, 100] + [0, 1000]
    train, val, test = np.split(np.arange(count), [count * 6 // 10, count * 8 // 10])
    return Sample(ArrayFeatures(features), value_targets(["small", "large"], list(wanted.T), train), train, val, test)
