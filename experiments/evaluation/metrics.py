"""How good a head is: scikit-learn's metrics, with an interval for what only so many images can tell."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError

RESAMPLES = 1000
_BINS = 15
_MIN_GROUP = 3  # rows below which a correlation within a group says nothing
_Floats = NDArray[np.floating[Any]]


def probabilities_of(logits: _Floats, output: str) -> NDArray[np.float64]:
    """(n, k) that add up to 1 in each row, from the logits of a softmax or sigmoid output."""
    values = logits.astype(np.float64)
    if output == "softmax":
        values = np.exp(values - values.max(axis=1, keepdims=True))
    else:
        values = 1 / (1 + np.exp(-values)) + np.finfo(np.float64).tiny
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def classification_metrics(
    probabilities: NDArray[np.float64], codes: NDArray[np.int64], names: Sequence[str], top_k: int = 5, seed: int = 0
) -> dict[str, Any]:
    """Everything about one head on one split, ready for JSON.

    Args:
        probabilities: (n, k); codes: (n,) true class.
        names: k classes.
        top_k: counted as right if the true class is among so many; left out if there are no more classes than that.

    Returns: images, accuracy, accuracy_interval (95 %, bootstrap over images), balanced_accuracy, macro_f1, log_loss, ece,
        top_<k>_accuracy, per_class (precision, recall, f1, images by name), confusion_matrix (rows are true classes).
    Raises: HeadstartError if there are no rows.
    """
    from sklearn import metrics

    _refuse_empty(len(codes))
    classes = np.arange(len(names))
    said = probabilities.argmax(axis=1)
    is_right = said == codes
    precision, recall, f1, images = metrics.precision_recall_fscore_support(codes, said, labels=classes, zero_division=0)
    present = np.unique(codes)
    found = {
        "images": len(codes),
        "accuracy": float(metrics.accuracy_score(codes, said)),
        "accuracy_interval": bootstrap_interval(lambda rows: float(is_right[rows].mean()), len(codes), seed),
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(metrics.f1_score(codes, said, average="macro", zero_division=0)),
        "log_loss": float(metrics.log_loss(codes, probabilities, labels=classes)),
        "ece": expected_calibration_error(probabilities, codes),
    }
    if len(names) > top_k:
        found[f"top_{top_k}_accuracy"] = float(metrics.top_k_accuracy_score(codes, probabilities, k=top_k, labels=classes))
    found["per_class"] = {
        name: {"precision": float(precision[i]), "recall": float(recall[i]), "f1": float(f1[i]), "images": int(images[i])}
        for i, name in enumerate(names)
    }
    found["confusion_matrix"] = metrics.confusion_matrix(codes, said, labels=classes).tolist()
    return found


def regression_metrics(
    predicted: _Floats, wanted: _Floats, names: Sequence[str], groups: NDArray[np.str_] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Everything about one head on one split, for each target.

    Args:
        predicted, wanted: (n, k); names: k targets.
        groups: (n,) text, '' for none; correlations are then also taken inside each group and averaged over groups.

    Returns: images, and for each target mse, mae, r2, pearson, pearson_interval, spearman and within_groups (groups, pearson,
        spearman). None stands where a number does not exist: the correlation with something that never changes.
    Raises: HeadstartError if there are no rows.
    """
    _refuse_empty(len(wanted))
    targets = {}
    for column, name in enumerate(names):
        found, true = predicted[:, column].astype(np.float64), wanted[:, column].astype(np.float64)
        targets[name] = _of_target(found, true, seed)
        if groups is not None and (groups != "").any():
            targets[name]["within_groups"] = _within(found, true, groups)
    return {"images": len(wanted), "targets": targets}


def expected_calibration_error(probabilities: NDArray[np.float64], codes: NDArray[np.int64], bins: int = _BINS) -> float:
    """Mean over images of |confidence - accuracy| in bins of equal width; scikit-learn has none. Guo et al., ICML 2017."""
    confidence = probabilities.max(axis=1)
    is_right = (probabilities.argmax(axis=1) == codes).astype(np.float64)
    places = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(places, confidence - is_right, minlength=bins)
    return float(np.abs(gaps).sum() / len(codes))


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], float], count: int, seed: int = 0, resamples: int = RESAMPLES
) -> list[float | None]:
    """95 % percentile interval of `statistic` over rows drawn with replacement; the same for the same seed."""
    random = np.random.Generator(np.random.Philox(seed))
    found = np.array([statistic(random.integers(0, count, count)) for _ in range(resamples)])
    found = found[np.isfinite(found)]
    if not len(found):
        return [None, None]
    low, high = np.percentile(found, [2.5, 97.5])
    return [float(low), float(high)]


def compare_classifiers(
    first: NDArray[np.int64], second: NDArray[np.int64], codes: NDArray[np.int64], seed: int = 0
) -> dict[str, Any]:
    """Whether the first head is better than the second on the same images; (n,) predicted classes each.

    Returns: difference of accuracies with its 95 % interval (paired bootstrap), images that only one has right, and McNemar's
        exact p: how likely so uneven a split of those is if both are equally good.
    """
    from scipy.stats import binomtest

    _refuse_empty(len(codes))
    left, right = first == codes, second == codes
    gain = left.astype(np.float64) - right
    only_first, only_second = int((left & ~right).sum()), int((right & ~left).sum())
    p = float(binomtest(only_first, only_first + only_second).pvalue) if only_first + only_second else 1.0
    return {
        "difference": float(gain.mean()),
        "interval": bootstrap_interval(lambda rows: float(gain[rows].mean()), len(codes), seed),
        "only_first_right": only_first,
        "only_second_right": only_second,
        "p": p,
    }


def compare_regressors(first: _Floats, second: _Floats, wanted: _Floats, seed: int = 0) -> dict[str, Any]:
    """Mean squared error of the first less that of the second on the same images, (n,) each, with its 95 % interval."""
    _refuse_empty(len(wanted))
    gain = (first.astype(np.float64) - wanted) ** 2 - (second.astype(np.float64) - wanted) ** 2
    interval = bootstrap_interval(lambda rows: float(gain[rows].mean()), len(wanted), seed)
    return {"difference": float(gain.mean()), "interval": interval}


def _of_target(found: NDArray[np.float64], true: NDArray[np.float64], seed: int) -> dict[str, Any]:
    from sklearn import metrics

    return {
        "mse": float(metrics.mean_squared_error(true, found)),
        "mae": float(metrics.mean_absolute_error(true, found)),
        "r2": float(metrics.r2_score(true, found)) if len(true) > 1 and np.ptp(true) else None,
        "pearson": _correlation(found, true, "pearsonr"),
        "pearson_interval": bootstrap_interval(lambda rows: _fast_pearson(found[rows], true[rows]), len(true), seed),
        "spearman": _correlation(found, true, "spearmanr"),
    }


def _within(found: NDArray[np.float64], true: NDArray[np.float64], groups: NDArray[np.str_]) -> dict[str, Any]:
    members = [np.flatnonzero(groups == name) for name in np.unique(groups[groups != ""])]
    members = [rows for rows in members if len(rows) >= _MIN_GROUP and np.ptp(true[rows]) > 0]
    result: dict[str, Any] = {"groups": len(members)}
    for key, name in (("pearson", "pearsonr"), ("spearman", "spearmanr")):
        # A head that says the same for a whole group tells nothing apart there: that is 0, not an exception to be left out.
        values = [_correlation(found[rows], true[rows], name) or 0.0 for rows in members]
        result[key] = float(np.mean(values)) if values else None
    return result


def _correlation(found: NDArray[np.float64], true: NDArray[np.float64], name: str) -> float | None:
    from scipy import stats

    if len(found) < 2 or not np.ptp(found) or not np.ptp(true):
        return None
    return float(getattr(stats, name)(found, true).statistic)


def _fast_pearson(found: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    found, true = found - found.mean(), true - true.mean()
    norm = np.sqrt((found @ found) * (true @ true))
    return float(found @ true / norm) if norm else float("nan")


def _refuse_empty(rows: int) -> None:
    if not rows:
        raise HeadstartError(
            "there are no images with a target to judge on. Give some the split 'test' or 'val', or finish more jobs"
        )
