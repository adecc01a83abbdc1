"""What a network says of designs, goal, format, tone and four scores: the loss that it learns by, and numbers that judge it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from headstart.experiments.training.data.batch import Batch, Facts
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, from_sums, gather, mean

from .description import SCORES


@dataclass(frozen=True)
class Judgement:
    """(b, ...): logits of goals and formats; tone (b,) and scores (b, 4) from 0 to 1."""

    goal: Tensor
    format: Tensor
    tone: Tensor
    scores: Tensor


def judgement_sizes(about: Facts) -> tuple[int, int]:
    """Outputs that a network has: of goals, formats and tone, and of the scores."""
    return len(about.goals) + len(about.formats) + 1, len(SCORES)


def judgement_of(said: Tensor, about: Facts) -> Judgement:
    """What outputs (b, n) mean."""
    parts: tuple[Tensor, ...] = said.float().split([len(about.goals), len(about.formats), 1, len(SCORES)], 1)  # type: ignore[no-untyped-call]
    goal, form, tone, scores = parts
    return Judgement(goal, form, tone[:, 0].sigmoid(), scores.sigmoid())


def judgement_loss(said: Judgement, batch: Batch, grammar_weight: float) -> tuple[Tensor, Mapping[str, Any]]:
    """The loss of a batch, and parts of it to log. Args: grammar_weight: of the errors of scores and tone."""
    meta = F.cross_entropy(said.goal, batch.goal) + F.cross_entropy(said.format, batch.format)
    tone, grammar = F.l1_loss(said.tone, batch.tone), F.l1_loss(said.scores, batch.scores)
    total = meta + grammar_weight * (tone + grammar * len(SCORES))
    return total, {"loss_meta": meta.detach(), "tone_error": tone.detach(), "grammar_error": grammar.detach()}


def judgement_metrics(batches: Batches, says: Callable[[Batch], Judgement]) -> Iterator[Metric | Table]:
    """Judged by the mean error of the scores; of each score its error, and how it goes with the truth (Pearson)."""

    def columns(batch: Batch) -> tuple[Tensor, ...]:
        one = says(batch)
        rights = ((one.goal.argmax(1) == batch.goal), (one.format.argmax(1) == batch.format))
        return (*rights, (one.tone - batch.tone).abs(), one.scores, batch.scores)

    goal, form, tone, scores, truth = gather(batches, columns)
    errors = np.abs(scores - truth)
    yield mean("grammar_error", errors.mean(1), better="lower", judged_by=True)
    yield mean("goal_accuracy", goal)
    yield mean("format_accuracy", form)
    yield mean("tone_error", tone, better="lower")
    for place, name in enumerate(SCORES):
        yield mean(f"{name}_error", errors[:, place], better="lower")
        yield from_sums(f"{name}_correlation", _moments(scores[:, place], truth[:, place]), _correlation)
    guessed = np.abs(truth - np.median(truth, 0)).mean(0)
    yield Table("error_of_guessing_the_median", dict(zip(SCORES, guessed.tolist(), strict=True)))


def _moments(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    a, b = first.astype(np.float64), second.astype(np.float64)
    return np.stack([np.ones_like(a), a, b, a * a, b * b, a * b], 1)


def _correlation(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's, from sums of 1, a, b, a a, b b and a b; 0 where one of them never changes."""
    count, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
    spread = np.sqrt(np.maximum(0, count * aa - a * a) * np.maximum(0, count * bb - b * b))
    return np.asarray(np.divide(count * ab - a * b, spread, out=np.zeros_like(spread), where=spread > 1e-9))
