"""Heads of random weights, of every kind of output."""

import itertools

import numpy as np

from headstart.experiments.config import HeadConfig
from headstart.experiments.heads.trained_head import TrainedHead

KINDS = {
    "linear softmax": ("classification", "softmax", "relu", ()),
    "deep softmax": ("classification", "softmax", "relu", (16, 12)),
    "sigmoid classes": ("classification", "sigmoid", "gelu", (16,)),
    "numbers": ("regression", "linear", "gelu", (16,)),
    "bounded numbers": ("regression", "sigmoid", "relu", ()),
}


def made_head(kind: str, inputs: int = 8, names: tuple[str, ...] = ("a", "b", "c"), seed: int = 0) -> TrainedHead:
    task, output, activation, hidden = KINDS[kind]
    random = np.random.default_rng(seed)
    widths = [inputs, *hidden, len(names)]
    layers = tuple(
        (
            (random.standard_normal((after, before)) / before**0.5).astype(np.float32),
            random.standard_normal(after).astype(np.float32),
        )
        for before, after in itertools.pairwise(widths)
    )
    return TrainedHead(HeadConfig(hidden=hidden, activation=activation, output=output), task, names, layers)


def rows(count: int = 50, inputs: int = 8) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, inputs)).astype(np.float16).astype(np.float32)
