"""Twelve penalties of ridge and of logistic regression against twelve scikit-learn fits, and cross-validation against one fit.

python -m benchmarks.linear_paths [WORKSPACE] [--every 1] [--max-iter 100]

On the cached features of a workspace with a train and a test split (CIFAR-10, say), else on synthetic ones. A tenth of the
training rows validate. scikit-learn's LogisticRegression gets standardized float32 rows in memory and is otherwise as it comes
(lbfgs, all cores in its products); the time to standardize is not counted. `--every 3` fits each third penalty and multiplies,
where 12 fits take too long. Cross-validation is compared with one fit of the same penalty or penalties, with validation. About
3 minutes on two quiet cores.
"""

import argparse
import time
import warnings

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import FeatureSource
from headstart.experiments.data.group_folds import group_folds
from headstart.experiments.data.statistics import gather_statistics, standardization_of
from headstart.experiments.data.targets import Targets, class_targets
from headstart.experiments.linear.closed_form import scores_of
from headstart.experiments.linear.cross_validation import cross_validate_ridge
from headstart.experiments.linear.logistic import fit_logistic_path
from headstart.experiments.linear.penalty_path import ScoredPath, ridge_path, scored_path
from headstart.features.store.packing import load_cached_features

from .synthetic import medians, synthetic, verdict

COUNT, FOLDS = 12, 5
Rows = NDArray[np.int64]


def opened(workspace: str | None) -> tuple[FeatureSource, Targets, Rows, Rows, Rows]:
    """Features, targets, and positions of train, val, test."""
    if workspace is None:
        made = synthetic()
        every, test = made.train, made.val
        source, targets = made.source, made.targets
    else:
        source = load_cached_features(workspace)
        every, test = np.flatnonzero(source.splits == "train"), np.flatnonzero(source.splits == "test")
        targets = class_targets(source.labels, every, [test])
    mixed = np.random.default_rng(0).permutation(every)
    return source, targets, np.sort(mixed[len(mixed) // 10 :]), np.sort(mixed[: len(mixed) // 10]), test


class Reference:
    """scikit-learn, one fit a penalty."""

    def __init__(self, source: FeatureSource, targets: Targets, train: Rows, test: Rows) -> None:
        standard = standardization_of(gather_statistics(source, targets, {"train": train})["train"])
        self.rows, self.unseen = ((source.take(p).astype(np.float32) - standard.mean) / standard.scale for p in (train, test))
        self.rows, self.unseen = self.rows.astype(np.float32), self.unseen.astype(np.float32)
        self.codes, self.wanted = targets.codes[train], targets.codes[test]

    def fit(self, penalty: float, max_iter: int) -> tuple[float, float, int]:
        """Seconds, accuracy on test, iterations."""
        from sklearn.linear_model import LogisticRegression

        share = 2 if self.codes.max() == 1 else 1
        begun = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged is printed
            found = LogisticRegression(C=share / (penalty * len(self.rows)), max_iter=max_iter).fit(self.rows, self.codes)
        seconds = time.perf_counter() - begun
        return seconds, float(found.score(self.unseen, self.wanted)), int(found.n_iter_.max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", nargs="?")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--max-iter", type=int, default=100)
    options = parser.parse_args()
    import torch  # as wherever heads are trained; float16 becomes float32 faster with it

    assert torch
    source, targets, train, val, test = opened(options.workspace)
    penalties = [float(1 / (c * len(train))) for c in np.geomspace(1e-4, 10, COUNT)]
    found: dict[str, ScoredPath] = {}

    def path(method: str, penalties: list[float] = penalties) -> None:
        statistics = gather_statistics(source, targets, {"train": train})["train"]
        if method != "logistic":
            found[method] = ridge_path(source, targets, statistics, val, penalties)
        else:
            found[method] = scored_path(
                source, targets, val, penalties, fit_logistic_path(source, targets, train, statistics, penalties)
            )

    folds = group_folds([""] * len(train), FOLDS)
    path("ridge")  # what is only slow the first time
    ours = medians(
        {
            "12 ridge penalties with validation": lambda: path("ridge"),
            f"{FOLDS}-fold cross-validation of them": lambda: cross_validate_ridge(source, targets, train, folds, penalties),
            "one ridge penalty with validation": lambda: path("one", penalties[:1]),
            f"{FOLDS}-fold cross-validation of it": lambda: cross_validate_ridge(source, targets, train, folds, penalties[:1]),
        },
        3,
    )
    ours |= medians({"12 logistic penalties with validation": lambda: path("logistic")}, 1)
    reference, seconds, gaps = Reference(source, targets, train, test), 0.0, []
    accuracies = [
        float((each.argmax(axis=1) == targets.codes[test]).mean()) for each in scores_of(source, test, found["logistic"].heads)
    ]
    chosen = penalties[:: options.every]
    for penalty, accuracy in zip(chosen, accuracies[:: options.every], strict=True):
        spent, wanted, iterations = reference.fit(penalty, options.max_iter)
        seconds, gaps = seconds + spent, [*gaps, 100 * (accuracy - wanted)]
        note = "" if iterations < options.max_iter else "  (not converged)"
        print(f"  penalty {penalty:.1e}: scikit-learn {100 * wanted:.2f} % in {spent:.1f} s, {iterations} iterations; "
              f"ours {100 * accuracy:.2f} %{note}", flush=True)  # fmt: skip
    seconds *= COUNT / len(chosen)
    best = {name: f"{100 * judged.scores[judged.best]:.2f} %" for name, judged in found.items() if name != "one"}
    print(f"best on validation: {best}; scikit-learn's {COUNT} fits take {seconds:.0f} s\n")
    ridge, crossed, one, one_crossed, logistic = ours.values()
    verdict("ridge path, times faster than scikit-learn's fits", seconds / ridge, 50)
    verdict("logistic path, times faster than scikit-learn's fits", seconds / logistic, 5)
    verdict("points of accuracy lost at any penalty", -min(gaps), 0.1, is_least=False)
    verdict(f"{FOLDS}-fold cross-validation of a penalty, times one fit", one_crossed / one, 1.5, is_least=False)
    verdict(f"{FOLDS}-fold cross-validation of 12 penalties, times one path", crossed / ridge, 1.5, is_least=False)


if __name__ == "__main__":
    main()
