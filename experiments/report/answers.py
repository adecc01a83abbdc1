"""What a head says of each image of its experiment, and which mistakes are worth looking at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import FeatureSource, as_float32
from headstart.experiments.evaluation.metrics import probabilities_of
from headstart.experiments.heads.trained_head import TrainedHead
from headstart.experiments.runs.experiment_data import ExperimentData

SPLIT_CODES = ("train", "val", "test", "")
_BLOCK = 4096
_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """One item an image that has features, by position.

    Attributes:
        split: int8, a position in SPLIT_CODES, as the training used the image; 3 for images that it did not.
        said: int64 class, -1 where the head was not asked; empty for numbers.
        confidence: float32, probability of `said`, NaN where it was not asked; empty for numbers.
        predicted: (n, k) float32 numbers, NaN where it was not asked; (n, 0) for classes.
        judged: positions that the score is of.
    """

    split: NDArray[np.int8]
    said: NDArray[np.int64]
    confidence: _Floats
    predicted: _Floats
    judged: NDArray[np.int64]


@dataclass(frozen=True)
class Neighbour:
    """The training image nearest to another: its position, and the cosine of the two centred features."""

    position: int
    cosine: float


def ask_head(head: TrainedHead, data: ExperimentData) -> Answers:
    """Of every row that the experiment trained on or judged by."""
    training, count = data.data, len(data.features)
    split = np.full(count, SPLIT_CODES.index(""), np.int8)
    for name, positions in (("train", training.train), ("val", training.val), ("test", data.test)):
        split[positions] = SPLIT_CODES.index(name)
    asked = np.flatnonzero(split != SPLIT_CODES.index(""))
    scores = head.scores(training.source, asked, training.auxiliary)
    judged = data.test if len(data.test) else training.val
    if head.task != "classification":
        predicted = np.full((count, len(head.names)), np.nan, np.float32)
        predicted[asked] = scores
        return Answers(split, np.empty(0, np.int64), np.empty(0, np.float32), predicted, judged)
    probabilities = probabilities_of(scores, head.config.output_for(head.task))
    said, confidence = np.full(count, -1, np.int64), np.full(count, np.nan, np.float32)
    said[asked], confidence[asked] = probabilities.argmax(axis=1), probabilities.max(axis=1)
    return Answers(split, said, confidence, np.empty((count, 0), np.float32), judged)


def mistakes_of(answers: Answers, data: ExperimentData) -> NDArray[np.int64]:
    """Positions of judged images that are wrong, the most certain first; for numbers all, the largest error first."""
    targets, judged = data.data.targets, answers.judged
    if targets.task == "classification":
        wrong = judged[answers.said[judged] != targets.codes[judged]]
        return np.asarray(wrong[np.argsort(-answers.confidence[wrong], kind="stable")])
    spread = np.nanstd(targets.values[data.data.train], axis=0)
    errors = np.abs(answers.predicted[judged] - targets.values[judged]) / np.where(spread > 0, spread, 1.0)
    return np.asarray(judged[np.argsort(-errors.max(axis=1), kind="stable")])


def nearest_training_images(source: FeatureSource, train: NDArray[np.int64], asked: NDArray[np.int64]) -> list[Neighbour]:
    """One a position asked for; an image is never its own neighbour. Features are centred on the mean of training."""
    if not len(asked):
        return []
    sums = sum(half.sum(axis=0, dtype=np.float64) for _, half in source.blocks(train, _BLOCK))
    mean = np.asarray(sums / len(train), np.float32)
    wanted = _directions(as_float32(source.take(asked)), mean)
    best, where = np.full(len(asked), -2.0, np.float32), np.full(len(asked), -1, np.int64)
    for block, half in source.blocks(train, _BLOCK):
        cosines = wanted @ _directions(as_float32(half), mean).T
        cosines[asked[:, None] == block[None, :]] = -2.0
        places = cosines.argmax(axis=1)
        nearest = cosines[np.arange(len(asked)), places]
        is_nearer = nearest > best
        best[is_nearer], where[is_nearer] = nearest[is_nearer], block[places[is_nearer]]
    return [Neighbour(int(position), float(cosine)) for position, cosine in zip(where, best, strict=True)]


def _directions(rows: _Floats, mean: _Floats) -> _Floats:
    centred = rows - mean
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(lengths > 0, lengths, 1.0), np.float32)
