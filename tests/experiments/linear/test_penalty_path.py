import numpy as np
import pytest
from sklearn.metrics import r2_score

from headstart.experiments.data.statistics import gather_statistics
from headstart.experiments.data.targets import class_targets
from headstart.experiments.linear.penalty_path import ScoredPath, logistic_path, ridge_path, scored_path
from tests.experiments.samples import clouds, line


def statistics_of(made):
    return gather_statistics(made.source, made.targets, {"x": made.train})["x"]


def test_numbers_are_judged_by_r2_averaged_over_the_targets():
    made = line(noise=0.5)
    found = ridge_path(made.source, made.targets, statistics_of(made), made.val, [1e-3, 1.0])
    for head, score in zip(found.heads, found.scores, strict=True):
        predicted = made.source.features[made.val].astype(np.float64) @ head.weight.T + head.bias
        assert score == pytest.approx(r2_score(made.targets.dense(made.val), predicted), abs=1e-4)


def test_classes_are_judged_by_accuracy_on_rows_that_have_one():
    made = clouds()
    labels = np.array([made.targets.names[code] for code in made.targets.codes])
    labels[made.val[::2]] = ""
    half = made._replace(targets=class_targets(labels, made.train))
    found = logistic_path(half.source, half.targets, half.train, statistics_of(half), half.val, [1e-2])
    rest = made.val[1::2]
    said = (made.source.features[rest].astype(np.float64) @ found.heads[0].weight.T + found.heads[0].bias).argmax(axis=1)
    assert found.scores[0] == (said == made.targets.codes[rest]).mean()
    assert scored_path(made.source, made.targets, made.test, [1e-2], found.heads).scores[0] > 0.6


def test_of_equal_scores_the_largest_penalty_is_best():
    assert ScoredPath((0.1, 1.0, 10.0), (), np.array([0.8, 0.8, 0.7])).best == 1
