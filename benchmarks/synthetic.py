"""Synthetic features for benchmarks, how things are timed, and the table that says what was reached."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.targets import class_targets
from headstart.experiments.data.training_data import TrainingData

_SPREAD = 0.72  # of the noise around a class's mean


def synthetic(rows: int = 60_000, channels: int = 1280, classes: int = 10) -> TrainingData:
    """Linearly separable to about 77 %, a sixth of the rows for validation."""
    random = np.random.default_rng(0)
    codes = random.integers(0, classes, rows)
    means = random.standard_normal((classes, channels)).astype(np.float32) * 0.05
    features = np.empty((rows, channels), np.float16)
    for start in range(0, rows, 5000):
        block = slice(start, start + 5000)
        noise = random.standard_normal((len(codes[block]), channels), np.float32)
        features[block] = 1 + means[codes[block]] + _SPREAD * noise
    train_rows, val_rows = np.split(np.arange(rows), [rows * 5 // 6])
    return TrainingData(ArrayFeatures(features), class_targets([f"{code}" for code in codes], train_rows), train_rows, val_rows)


def seconds_of(action: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def medians(actions: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each action. They take turns, so that a busy machine slows all of them."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            found[name].append(seconds_of(action))
    for name, seconds in found.items():
        each = " ".join(f"{value:.3f}" for value in seconds)
        print(f"{name:44} {statistics.median(seconds):8.3f} s   of {each}   load {os.getloadavg()[0]:.1f}", flush=True)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def verdict(name: str, found: float, target: float, is_least: bool = True) -> None:
    """One line of the table: `is_least` if more is better."""
    reached = found >= target if is_least else found <= target
    sign = ">=" if is_least else "<="
    print(f"{name:58} {found:9.2f}   target {sign} {target:g}   {'reached' if reached else 'MISSED'}", flush=True)
