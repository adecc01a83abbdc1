"""What an evaluation yields: numbers, each with what every row adds to it, so that intervals and comparisons come for free."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError

if TYPE_CHECKING:
    from headstart.experiments.training.data.batch import Batch

    from .evaluation import Batches

_TOP = 5
_BINS = 15
_Floats = NDArray[np.floating[Any]]


def ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first sum over the second: (..., 2) gives (...)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


@dataclass(frozen=True)
class Metric:
    """One number of a split.

    Attributes:
        better: 'higher' or 'lower'.
        judged_by: whether validation is judged by it; if no metric of an evaluation says so, by the first.
        is_headline: whether it is the number that is told of a training; if none says so, the one that judges is.
        rows: (n, k) what each row (image, line) adds to k sums, from which the interval comes; None: there is none.
        of: the number from such sums, (..., k) to (...).
    """

    name: str
    value: float
    better: str = "higher"
    judged_by: bool = False
    rows: NDArray[np.float64] | None = None
    of: Callable[[NDArray[np.float64]], NDArray[np.float64]] = ratio
    is_headline: bool = False


@dataclass(frozen=True)
class Table:
    """What an evaluation says beside numbers, ready for JSON: per class, a confusion matrix.

    Attributes:
        is_followed: whether the history keeps it at every evaluation: numbers by name, whose course a report draws.
    """

    name: str
    value: Any
    is_followed: bool = False


def mean(name: str, values: Any, weights: Any = None, better: str = "higher", judged_by: bool = False) -> Metric:
    """The mean of one number a row, with weights if given."""
    numbers = np.asarray(values, np.float64)
    counts = np.ones_like(numbers) if weights is None else np.asarray(weights, np.float64)
    rows = np.stack([numbers * counts, counts], axis=1)
    return from_sums(name, rows, ratio, better, judged_by)


def from_sums(
    name: str,
    rows: NDArray[np.float64],
    of: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    better: str = "higher",
    judged_by: bool = False,
) -> Metric:
    """A number that is a function of sums over rows, such as a mean IoU; see Metric."""
    return Metric(name, float(of(rows.sum(axis=0))), better, judged_by, rows, of)


def gather(batches: Batches, said: Callable[[Batch], Any]) -> Any:
    """What `said` gives of each batch, put together: a tensor, or a tuple of them, becomes one array, or as many.

    Raises: HeadstartError if there was no row.
    """
    parts = [said(batch) for batch in batches]
    if not parts:
        raise HeadstartError(f"no row of the split '{batches.split}' could be read, so there is nothing to judge by")
    if isinstance(parts[0], tuple):
        return tuple(_joined(list(column)) for column in zip(*parts, strict=True))
    return _joined(parts)


def _joined(parts: Sequence[Any]) -> Any:
    if not hasattr(parts[0], "cpu"):
        return [one for part in parts for one in part]
    arrays = [part.float().cpu().numpy() if part.is_floating_point() else part.cpu().numpy() for part in parts]
    return np.concatenate(arrays)


def classification(
    logits: _Floats, labels: NDArray[np.integer[Any]], classes: Sequence[str] | None = None
) -> Iterator[Metric | Table]:
    """Everything about class scores; judged by accuracy.

    Args:
        logits: (n, k); labels: (n,) true class.
        classes: k names; numbers if None.

    Yields: accuracy, loss (negative log-likelihood, nats), balanced_accuracy, macro_f1, ece, top_5_accuracy where there are
        more classes; per_class and confusion_matrix (a row a true class) as tables.
    Raises: HeadstartError if a label has no output.
    """
    count = logits.shape[1]
    names = [str(name) for name in (range(count) if classes is None else classes)]
    if not 0 <= labels.min() <= labels.max() < count:
        raise HeadstartError(f"labels from {labels.min()} to {labels.max()}, but the model has {count} outputs")
    codes, places = labels.astype(np.int64), np.arange(len(labels))
    if not np.isfinite(logits).all():
        yield from (Metric("accuracy", math.nan, judged_by=True), Metric("loss", math.nan, "lower"))
        return
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    said = logits.argmax(axis=1)
    yield mean("accuracy", said == codes, judged_by=True)
    yield mean("loss", -logs[places, codes], better="lower")
    hits, true, claimed = (np.zeros((len(codes), count)) for _ in range(3))
    hits[places[said == codes], codes[said == codes]] = true[places, codes] = claimed[places, said] = 1
    sums = np.concatenate([hits, true, claimed], axis=1)
    yield from_sums("balanced_accuracy", sums, _balanced_accuracy)
    yield from_sums("macro_f1", sums, _macro_f1)
    yield Metric("ece", _calibration_error(np.exp(logs[places, said]), said == codes), "lower")
    if count > _TOP:
        better = (logits > logits[places, codes][:, None]).sum(axis=1)
        yield mean(f"top_{_TOP}_accuracy", better < _TOP)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (codes, said), 1)
    yield Table("per_class", dict(zip(names, _per_class(confusion), strict=True)))
    yield Table("confusion_matrix", confusion.tolist())


def _thirds(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    return tuple(np.split(sums, 3, axis=-1))


def _balanced_accuracy(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    hits, true, _ = _thirds(sums)
    return np.asarray(np.divide(hits, true, out=np.zeros_like(hits), where=true > 0).sum(-1) / np.maximum(1, (true > 0).sum(-1)))


def _macro_f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    hits, true, claimed = _thirds(sums)
    both = true + claimed
    present = both > 0
    return np.asarray(np.divide(2 * hits, both, out=np.zeros_like(hits), where=present).sum(-1) / np.maximum(1, present.sum(-1)))


def _calibration_error(confidence: NDArray[np.float64], is_right: NDArray[np.bool_]) -> float:
    """Mean over rows of |confidence - accuracy| in 15 bins of equal width. Guo et al., ICML 2017."""
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    return float(np.abs(np.bincount(bins, confidence - is_right, minlength=_BINS)).sum() / len(confidence))


def _per_class(confusion: NDArray[np.int64]) -> Iterator[dict[str, float]]:
    hits, true, claimed = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    for hit, images, said in zip(hits.tolist(), true.tolist(), claimed.tolist(), strict=True):
        yield {
            "precision": hit / said if said else 0.0,
            "recall": hit / images if images else 0.0,
            "f1": 2 * hit / (images + said) if images + said else 0.0,
            "images": images,
        }


def regression(predicted: _Floats, wanted: _Floats) -> Iterator[Metric]:
    """Errors of numbers, (n,) or (n, k) averaged over k; judged by the mean squared error."""
    gap = (predicted.astype(np.float64) - wanted).reshape(len(wanted), -1)
    yield mean("mse", (gap**2).mean(axis=1), better="lower", judged_by=True)
    yield mean("mae", np.abs(gap).mean(axis=1), better="lower")


def judging(metrics: Sequence[Metric | Table]) -> Metric:
    """The number that validation is judged by. Raises: HeadstartError if there is none."""
    numbers = [metric for metric in metrics if isinstance(metric, Metric)]
    if not numbers:
        raise HeadstartError("evaluate() yields no Metric, so there is nothing to judge by. Let it yield at least one")
    return next((metric for metric in numbers if metric.judged_by), numbers[0])
