"""Which head of all an experiment chooses, by validation alone: the one with the star."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.heads.trained_head import TrainedHead
from headstart.experiments.linear.method import least_simplicity_of_trained, simplicity_of_baseline
from headstart.experiments.runs.noise import REFERENCE

from .intervals import units_of
from .metrics import sign_test

LUCK = 0.05  # how likely a lead has to be, of heads that are equally good, to be called luck


@dataclass(frozen=True)
class Candidate:
    """A head that may be chosen.

    Attributes:
        entry: what `metrics.json` says of it, `val` included.
        simplicity: less is simpler.
        answers: (n,) the class that it says of each validation image; empty for numbers.
    """

    name: str
    entry: Mapping[str, Any]
    simplicity: tuple[int, int]
    answers: NDArray[np.int64]


def simplicity_of(head: TrainedHead) -> tuple[int, int]:
    """Less is simpler: closed forms before paths before gradients, and of these the one with fewer numbers."""
    if head.fitted is not None:
        return (simplicity_of_baseline(str(head.fitted["method"])), 0)
    return (least_simplicity_of_trained(), sum(weight.size + bias.size for weight, bias in head.layers))


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
        selected: its name; equals: names of those that did as well on validation.
        within_noise: names of those that did better, the best first, but whose lead over logistic regression is not beyond doubt.
    """

    selected: str
    equals: list[str]
    within_noise: list[str]


def choose_beyond_doubt(
    candidates: Sequence[Candidate], monitor: str, codes: NDArray[np.int64], groups: NDArray[np.str_] | None = None
) -> Choice:
    """Logistic regression, unless others are better than it beyond doubt: then the best of these, of equals the simplest.

    Beyond doubt is a lead of which so uneven a split of the validation images that only one of both has right is too unlikely
    for luck (McNemar's exact test), or of the groups in which one has more right, where there are groups. Of few images the best
    of many heads is a matter of luck, and a lucky one costs more than what is missed by keeping to logistic regression
    (`benchmarks/head_choice.py`). Where it is right every time, others that are, too, are its equals, and the simplest is chosen.
    Without logistic regression, and by other numbers than the accuracy, the best is chosen.

    Args: codes: (n,) true class of each validation image; groups: (n,) text, '' for none.
    """
    reference = next((each for each in candidates if each.simplicity == (simplicity_of_baseline(REFERENCE), 0)), None)
    if monitor != "accuracy" or reference is None:
        selected, equals = choose(candidates, monitor)
        return Choice(selected, equals, [])
    score = {each.name: goodness_of(each.entry["val"], monitor) for each in candidates}
    units = np.arange(len(codes)) if groups is None else units_of(groups)[0]
    right = {each.name: np.bincount(units, each.answers == codes) for each in candidates}
    ahead = [each for each in candidates if score[each.name] > score[reference.name]]
    better = [each for each in ahead if _is_sure(right[each.name] - right[reference.name])]
    alike = [each for each in candidates if score[each.name] == score[reference.name] == 1] or [reference]
    selected, _ = choose(better or alike, monitor)
    equals = [name for name in score if score[name] == score[selected] and name != selected]
    doubtful = [name for name in score if score[name] > score[selected]]
    return Choice(selected, equals, sorted(doubtful, key=lambda name: -score[name]))


def _is_sure(gains: NDArray[Any]) -> bool:
    """Whether more of (units,) gains are above 0 than luck explains: the sign test, of single images McNemar's exact one."""
    ahead, behind = int((gains > 0).sum()), int((gains < 0).sum())
    return ahead > behind and sign_test(ahead, behind) < LUCK


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
