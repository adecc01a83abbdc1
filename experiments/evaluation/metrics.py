"""How good a head is: scikit-learn's metrics, with an interval for what only so many images can tell.

Those of classes are counted here, with scikit-learn's bits: importing it takes the best part of a second.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.sigmoid import sigmoid
from headstart.pipeline.errors import HeadstartError

from .intervals import Z_95, Interval, Sample

_BINS = 15
_COUNTED = 1000  # images on which two heads differ, up to which their test is counted out: scipy takes longer to import
_FEW_COLUMNS = 100  # of counts, most of them 0: to multiply them all costs less than to pass them over
_MIN_GROUP = 3  # rows below which a correlation within a group says nothing
_Floats = NDArray[np.floating[Any]]


def probabilities_of(logits: _Floats, output: str) -> NDArray[np.float64]:
    """(n, k) that add up to 1 in each row, from the logits of a softmax or sigmoid output."""
    values = logits.astype(np.float64)
    if output == "softmax":
        values = np.exp(values - values.max(axis=1, keepdims=True))
    else:
        values = sigmoid(values) + np.finfo(np.float64).tiny
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def classification_metrics(
    probabilities: NDArray[np.float64],
    codes: NDArray[np.int64],
    names: Sequence[str],
    top_k: int = 5,
    seed: int = 0,
    groups: NDArray[np.str_] | None = None,
) -> dict[str, Any]:
    """Everything about one head on one split, ready for JSON.

    Args:
        probabilities: (n, k); codes: (n,) true class.
        names: k classes.
        top_k: counted as right if the true class is among so many; left out if there are no more classes than that.
        groups: (n,) text, '' for none; intervals are then those of groups that are drawn, not of images.

    Returns: images, accuracy, balanced_accuracy, macro_f1, log_loss, ece, top_<k>_accuracy, and all but ece with their 95 %
        interval, `<metric>_interval`; per_class (precision, recall, f1, images by name), confusion_matrix (a row a true class).
    Raises: HeadstartError if there are no rows.
    """
    _refuse_empty(len(codes))
    said = probabilities.argmax(axis=1)
    is_right = said == codes
    precision, recall, f1, images = scores_of_classes(codes, said, len(names))
    present = np.unique(codes)
    sample = Sample(len(codes), groups, seed)
    losses = log_losses(probabilities, codes)
    balanced, macro_f1 = class_intervals(sample, codes, said, len(names))
    result = {
        "images": len(codes),
        "accuracy": float(is_right.mean()),
        "accuracy_interval": sample.proportion(is_right),
        "balanced_accuracy": float(recall[present].mean()),
        "balanced_accuracy_interval": balanced,
        "macro_f1": float(f1[np.union1d(codes, said)].mean()),
        "macro_f1_interval": macro_f1,
        "log_loss": float(losses.mean()),
        "log_loss_interval": sample.mean(losses),
        "ece": expected_calibration_error(probabilities, codes),
        **sample.too_narrow("log_loss"),
    }
    if len(names) > top_k:
        is_among = top_k_matches(probabilities, codes, top_k)
        result[f"top_{top_k}_accuracy"] = float(is_among.mean())
        result[f"top_{top_k}_accuracy_interval"] = sample.proportion(is_among)
    result["per_class"] = {
        name: {"precision": float(precision[i]), "recall": float(recall[i]), "f1": float(f1[i]), "images": int(images[i])}
        for i, name in enumerate(names)
    }
    pairs = np.bincount(codes * len(names) + said, minlength=len(names) ** 2)
    result["confusion_matrix"] = pairs.reshape(len(names), len(names)).tolist()
    return result


def scores_of_classes(
    codes: NDArray[np.int64], said: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Precision, recall, F1 and images of each class, as scikit-learn's `precision_recall_fscore_support`; 0 of 0 is 0."""
    true, claimed, right = (np.bincount(each, minlength=classes) for each in (codes, said, codes[codes == said]))
    return right / np.maximum(claimed, 1), right / np.maximum(true, 1), 2 * right / np.maximum(true + claimed, 1), true


def classification_report(codes: NDArray[np.int64], said: NDArray[np.int64], names: Sequence[str]) -> str:
    """The table that scikit-learn's function of that name makes of four digits."""
    precision, recall, f1, images = scores_of_classes(codes, said, len(names))
    width, count = max(len("weighted avg"), *map(len, names)), len(codes)

    def row(name: str, cells: Iterable[str], images: object) -> str:
        return f"{name:>{width}} {''.join(f' {cell:>9}' for cell in cells)} {images:>9}"

    def averages(name: str, weights: NDArray[np.int64] | None) -> str:
        return row(name, [f"{np.average(values, weights=weights):.4f}" for values in (precision, recall, f1)], count)

    lines = [row("", ("precision", "recall", "f1-score"), "support"), ""]
    for name, *values, of_class in zip(names, precision, recall, f1, images, strict=True):
        lines.append(row(name, [f"{value:.4f}" for value in values], of_class))
    lines += ["", row("accuracy", ("", "", f"{np.mean(codes == said):.4f}"), count)]
    lines += [averages("macro avg", None), averages("weighted avg", images), ""]
    return "\n".join(lines)


def sign_test(ahead: int, behind: int) -> float:
    """How likely so uneven a split is if both sides are equally likely: two-sided, exact; McNemar's test is this one."""
    few, count = min(ahead, behind), ahead + behind
    if count <= _COUNTED:
        even = sum(math.comb(count, each) for each in range(few + 1))
        return min(1.0, float(2 * even / 2**count))
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(few, count, 0.5)))


def regression_metrics(
    predicted: _Floats, wanted: _Floats, names: Sequence[str], groups: NDArray[np.str_] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Everything about one head on one split, for each target.

    Args:
        predicted, wanted: (n, k); names: k targets.
        groups: (n,) text, '' for none; correlations are then also taken inside each group and averaged over groups.

    Returns: images, and for each target mse, mae, r2, pearson, spearman, each with its 95 % interval, and within_groups
        (groups, pearson, spearman). None stands where a number does not exist: the correlation with something that never changes.
    Raises: HeadstartError if there are no rows.
    """
    _refuse_empty(len(wanted))
    sample, targets = Sample(len(wanted), groups, seed), {}
    for column, name in enumerate(names):
        estimate, true = predicted[:, column].astype(np.float64), wanted[:, column].astype(np.float64)
        targets[name] = _of_target(estimate, true, sample)
        if groups is not None and (groups != "").any():
            targets[name]["within_groups"] = _within(estimate, true, groups)
    return {"images": len(wanted), "targets": targets}


def expected_calibration_error(probabilities: NDArray[np.float64], codes: NDArray[np.int64], bins: int = _BINS) -> float:
    """Mean over images of |confidence - accuracy| in bins of equal width; scikit-learn has none. Guo et al., ICML 2017.

    Of few images it is too large, and so is every bootstrap of it: it gets no interval, because none was seen to hold.
    """
    confidence = probabilities.max(axis=1)
    is_right = (probabilities.argmax(axis=1) == codes).astype(np.float64)
    places = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(places, confidence - is_right, minlength=bins)
    return float(np.abs(gaps).sum() / len(codes))


def compare_classifiers(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    codes: NDArray[np.int64],
    seed: int = 0,
    groups: NDArray[np.str_] | None = None,
) -> dict[str, Any]:
    """Whether the first head is better than the second on the same images; (n,) predicted classes each.

    Returns: difference of accuracies with its 95 % interval (paired; of groups where they are given), images that only one has
        right, and McNemar's exact p: how likely so uneven a split of those is if both are equally good.
    """
    _refuse_empty(len(codes))
    left, right = first == codes, second == codes
    gain = left.astype(np.float64) - right
    only_first, only_second = int((left & ~right).sum()), int((right & ~left).sum())
    return {
        "difference": float(gain.mean()),
        # A head against itself does not differ, whatever the images.
        "interval": [0.0, 0.0] if first is second else Sample(len(codes), groups, seed).paired(left, right),
        "only_first_right": only_first,
        "only_second_right": only_second,
        "p": sign_test(only_first, only_second),
    }


def compare_regressors(
    first: _Floats, second: _Floats, wanted: _Floats, seed: int = 0, groups: NDArray[np.str_] | None = None
) -> dict[str, Any]:
    """Mean squared error of the first less that of the second on the same images, (n,) each, with its 95 % interval (paired)."""
    _refuse_empty(len(wanted))
    gain = (first.astype(np.float64) - wanted) ** 2 - (second.astype(np.float64) - wanted) ** 2
    interval = Sample(len(wanted), groups, seed).mean(gain)
    return {"difference": float(gain.mean()), "interval": [float(gain.mean())] * 2 if interval[0] is None else interval}


def _of_target(estimate: NDArray[np.float64], true: NDArray[np.float64], sample: Sample) -> dict[str, Any]:
    from scipy.stats import rankdata
    from sklearn import metrics

    error = estimate - true
    return {
        "mse": float(metrics.mean_squared_error(true, estimate)),
        "mse_interval": sample.mean(error**2),
        "mae": float(metrics.mean_absolute_error(true, estimate)),
        "mae_interval": sample.mean(np.abs(error)),
        "r2": float(metrics.r2_score(true, estimate)) if len(true) > 1 and np.ptp(true) else None,
        "r2_interval": r2_interval(sample, estimate, true),
        "pearson": _correlation(estimate, true, "pearsonr"),
        "pearson_interval": pearson_interval(sample, estimate, true),
        "spearman": _correlation(estimate, true, "spearmanr"),
        "spearman_interval": spearman_interval(sample, rankdata(estimate), rankdata(true)),
        **sample.too_narrow("spearman"),
    }


def top_k_matches(probabilities: NDArray[np.float64], codes: NDArray[np.int64], top_k: int) -> NDArray[np.bool_]:
    """(n,) whether the true class is among the most probable ones; of equal probabilities the later class counts as more likely,
    as in scikit-learn."""
    ranked = np.argsort(probabilities, axis=1, kind="mergesort")[:, ::-1][:, :top_k]
    return np.asarray((ranked == codes[:, None]).any(axis=1))


def log_losses(probabilities: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    eps = np.finfo(probabilities.dtype).eps
    return np.asarray(-np.log(np.clip(probabilities[np.arange(len(codes)), codes], eps, 1 - eps)))


def class_intervals(sample: Sample, codes: NDArray[np.int64], said: NDArray[np.int64], classes: int) -> tuple[Interval, Interval]:
    """Of balanced accuracy and macro F1, from how often each class was true, said and right."""
    rows = np.arange(len(codes))
    is_right = said == codes
    columns = np.concatenate([codes, classes + said, 2 * classes + codes[is_right]])
    places = np.concatenate([rows, rows, rows[is_right]])
    used, columns = np.unique(columns, return_inverse=True)
    if len(used) <= _FEW_COLUMNS:
        counts: Any = np.zeros((len(codes), len(used)))
        counts[places, columns] = 1
    else:
        from scipy.sparse import coo_array

        counts = coo_array((np.ones(len(places)), (places, columns)), shape=(len(codes), len(used))).tocsr()

    def both(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.zeros((*sums.shape[:-1], 3 * classes))
        whole[..., used] = sums
        true, claimed, right = np.split(whole, 3, axis=-1)
        balanced = (right / np.maximum(true, 1)).sum(axis=-1) / np.maximum((true > 0).sum(axis=-1), 1)
        occurring = true + claimed
        macro_f1 = (2 * right / np.maximum(occurring, 1)).sum(axis=-1) / np.maximum((occurring > 0).sum(axis=-1), 1)
        return np.stack([balanced, macro_f1], axis=-1)

    # All right or all wrong: what is true of accuracy then is true of them.
    one, two = (sample.proportion(is_right) if interval[0] is None else interval for interval in sample.bca_of_each(counts, both))
    return one, two


def pearson_interval(sample: Sample, estimate: NDArray[np.float64], true: NDArray[np.float64]) -> Interval:
    if len(estimate) < 3 or not np.ptp(estimate) or not np.ptp(true):
        return [None, None]
    x, y = ((values - values.mean()) / values.std() for values in (estimate, true))

    def pearson(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            norm = np.sqrt(np.maximum(count * xx - x * x, 0) * np.maximum(count * yy - y * y, 0))
            return np.asarray((count * xy - x * y) / norm)

    return sample.bca(np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1), pearson)


def spearman_interval(sample: Sample, estimate: NDArray[np.float64], true: NDArray[np.float64]) -> Interval:
    """Args: ranks. Where groups are given, the bootstrap of the ranks' correlation: the formula knows rows alone.

    Bonett & Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations", Psychometrika 2000.
    """
    count = len(true)
    if sample.is_grouped or count < 4 or not np.ptp(estimate) or not np.ptp(true):
        return pearson_interval(sample, estimate, true)
    value = float(np.corrcoef(estimate, true)[0, 1])
    # Ranks that agree wholly are within half a swap of ones that do not: else they would be taken for certainty.
    most = 1 - 6 / (count * (count**2 - 1))
    place = float(np.arctanh(np.clip(value, -most, most)))
    half = Z_95 * float(np.sqrt((1 + value**2 / 2) / (count - 3)))
    low, high = (float(np.tanh(bound)) for bound in (place - half, place + half))
    return [min(low, value), max(high, value)]


def r2_interval(sample: Sample, estimate: NDArray[np.float64], true: NDArray[np.float64]) -> Interval:
    if len(true) < 3 or not np.ptp(true):
        return [None, None]
    scale = true.std()
    target, error = (true - true.mean()) / scale, (estimate - true) / scale

    def r2(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        count, total, squares, errors = np.moveaxis(sums, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(1 - errors / (squares - total**2 / count))

    return sample.bca(np.stack([np.ones(len(true)), target, target**2, error**2], axis=1), r2)


def _within(estimate: NDArray[np.float64], true: NDArray[np.float64], groups: NDArray[np.str_]) -> dict[str, Any]:
    members = [np.flatnonzero(groups == name) for name in np.unique(groups[groups != ""])]
    members = [rows for rows in members if len(rows) >= _MIN_GROUP and np.ptp(true[rows]) > 0]
    result: dict[str, Any] = {"groups": len(members)}
    for key, name in (("pearson", "pearsonr"), ("spearman", "spearmanr")):
        # A head that says the same for a whole group tells nothing apart there: that is 0, not an exception to be left out.
        values = [_correlation(estimate[rows], true[rows], name) or 0.0 for rows in members]
        result[key] = float(np.mean(values)) if values else None
    return result


def _correlation(estimate: NDArray[np.float64], true: NDArray[np.float64], name: str) -> float | None:
    from scipy import stats

    if len(estimate) < 2 or not np.ptp(estimate) or not np.ptp(true):
        return None
    return float(getattr(stats, name)(estimate, true).statistic)


def _refuse_empty(rows: int) -> None:
    if not rows:
        raise HeadstartError(
            "there are no images with a target to judge on. Give some the split 'test' or 'val', or finish more jobs"
        )
