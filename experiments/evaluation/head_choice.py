"""Which head of all an experiment chooses, by validation alone: the one with the star."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.config import SIMPLEST
from headstart.experiments.heads.trained_head import TrainedHead
from headstart.experiments.runs.noise import REFERENCE, is_noise


@dataclass(frozen=True)
class Candidate:
    """A head that may be chosen.

    Attributes:
        entry: what `metrics.json` says of it, `val` included.
        simplicity: less is simpler.
        answers: digest of what it says of each validation image, '' where only its numbers are known.
    """

    name: str
    entry: Mapping[str, Any]
    simplicity: tuple[int, int]
    answers: str = ""


def simplicity_of(head: TrainedHead) -> tuple[int, int]:
    """Less is simpler: closed forms before paths before gradients, and of these the one with fewer numbers."""
    if head.fitted is not None:
        method = str(head.fitted["method"])
        return (SIMPLEST.index(method) if method in SIMPLEST else len(SIMPLEST), 0)
    return (len(SIMPLEST) + 1, sum(weight.size + bias.size for weight, bias in head.layers))


def goodness_of(metrics: Mapping[str, Any], monitor: str) -> float:
    """Larger is better; -inf where the number does not exist. Args: metrics: of one split; monitor: accuracy, loss or pearson."""
    if monitor == "accuracy":
        return float(metrics["accuracy"])
    if "log_loss" in metrics:
        return -float(metrics["log_loss"])
    values = [target["pearson" if monitor == "pearson" else "mse"] for target in metrics["targets"].values()]
    if any(value is None for value in values):
        return float("-inf")
    mean = float(np.mean(values))
    return mean if monitor == "pearson" else -mean


@dataclass(frozen=True)
class Choice:
    """Which head an experiment chooses.

    Attributes:
        selected: its name; equals: names of those that did as well on validation, and are less simple or answer otherwise.
        within_noise: names of those that did better, by no more than one standard error of logistic regression, which is then
            selected.
    """

    selected: str
    equals: list[str]
    within_noise: list[str]


def choose_beyond_noise(candidates: Sequence[Candidate], monitor: str, images: int) -> Choice:
    """The best on validation, of equals the simplest; but logistic regression where that leads by no more than noise.

    Heads that say the same of every validation image are equal, as all that are right every time are. With other answers an
    equal accuracy is a matter of luck, too, like a lead of an image or two: then it is no reason to prefer another head to
    logistic regression.

    Args: images: of validation. Only accuracies are compared so.
    """
    selected, equals = choose(candidates, monitor)
    reference = next((each for each in candidates if each.simplicity == (SIMPLEST.index(REFERENCE), 0)), None)
    if monitor != "accuracy" or reference is None:
        return Choice(selected, equals, [])
    best, least = (goodness_of(each.entry["val"], monitor) for each in (_named(candidates, selected), reference))
    is_lucky = best == least < 1 and _named(candidates, selected).answers != reference.answers
    if not (is_lucky or is_noise(best, least, images)):
        return Choice(selected, equals, [])
    scores = {each.name: goodness_of(each.entry["val"], monitor) for each in candidates}
    alike = [name for name, score in scores.items() if score == least and name != reference.name]
    return Choice(
        reference.name, alike, sorted((name for name in scores if scores[name] > least), key=lambda name: -scores[name])
    )


def _named(candidates: Sequence[Candidate], name: str) -> Candidate:
    return next(each for each in candidates if each.name == name)


def choose(candidates: Sequence[Candidate], monitor: str) -> tuple[str, list[str]]:
    """Name of the best on validation, of equals the simplest; and the names of its equals."""
    scores = [goodness_of(candidate.entry["val"], monitor) for candidate in candidates]
    equals = [each for each, score in zip(candidates, scores, strict=True) if score == max(scores)]
    equals.sort(key=lambda each: each.simplicity)  # stable: of two that are equally simple the first
    return equals[0].name, [each.name for each in equals[1:]]


def corrected_validation(answers: Mapping[str, NDArray[np.bool_]], seed: int = 0, resamples: int = 500) -> float | None:
    """Accuracy that choosing the best of several heads on these validation images promises, without its optimism.

    Args: answers: (n,) of each head, whether it is right.

    Returns: the mean over resamples of the accuracy, on the images left out, of the head that is best on those drawn; None for
        a single head, or too few images. Tsamardinos, Greasidou & Borboudakis, "Bootstrapping the out-of-sample predictions for
        efficient and accurate cross-validation", Machine Learning 2018.
    """
    right = np.stack(list(answers.values()), axis=1).astype(np.float64)
    count, heads = right.shape
    if heads < 2 or count < 2:
        return None
    random = np.random.Generator(np.random.Philox(seed))
    total, used = 0.0, 0
    for _ in range(resamples):
        drawn = np.bincount(random.integers(0, count, count), minlength=count)
        out = drawn == 0
        if out.any():
            best = int((drawn @ right).argmax())
            total, used = total + float(right[out, best].mean()), used + 1
    return total / used if used else None
