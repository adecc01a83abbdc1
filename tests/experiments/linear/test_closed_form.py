import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid

from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.statistics import gather_statistics
from headstart.experiments.data.targets import class_targets
from headstart.experiments.linear import closed_form
from headstart.experiments.linear.closed_form import (
    SingularError,
    fit_lda,
    fit_nearest_mean,
    fit_ridge_path,
    scores_of,
    squared_errors,
)
from headstart.pipeline.errors import HeadstartError
from tests.experiments.samples import clouds, line

PENALTIES = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]


def statistics_of(made, positions=None):
    return gather_statistics(made.source, made.targets, {"x": made.train if positions is None else positions})["x"]


def fit_ridge(statistics, l2):
    return fit_ridge_path(statistics, [l2])[0]


def standardized(made):
    rows = made.source.features.astype(np.float64)
    return (rows - rows[made.train].mean(axis=0)) / rows[made.train].std(axis=0)


@pytest.mark.parametrize("made", [clouds(), line()], ids=["classes", "numbers"])
@pytest.mark.parametrize("l2", [1e-3, 1.0])
def test_ridge_is_that_of_scikit_learn_on_standardized_rows(made, l2):
    rows = standardized(made)
    theirs = Ridge(alpha=l2 * len(made.train)).fit(rows[made.train], made.targets.dense(made.train).astype(np.float64))
    ours = scores_of(made.source, made.test, [fit_ridge(statistics_of(made), l2)])[0]
    wanted = theirs.predict(rows[made.test])
    assert np.abs(ours - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_a_path_by_eigenvectors_is_the_path_by_cholesky(monkeypatch):
    statistics = statistics_of(clouds())
    by_cholesky = fit_ridge_path(statistics, PENALTIES)
    monkeypatch.setattr(closed_form, "_CHEAPER_THAN_EIGEN", 0)
    for left, right in zip(by_cholesky, fit_ridge_path(statistics, PENALTIES), strict=True):
        assert np.allclose(left.weight, right.weight, rtol=1e-8, atol=1e-10)
        assert np.allclose(left.bias, right.bias, rtol=1e-8, atol=1e-10)


def test_lda_is_that_of_scikit_learn():
    made = clouds(900)
    theirs = LinearDiscriminantAnalysis(solver="svd").fit(standardized(made)[made.train], made.targets.codes[made.train])
    wanted = theirs.predict(standardized(made)[made.test])
    ours = scores_of(made.source, made.test, [fit_lda(statistics_of(made), shrinkage=0)])[0]
    assert np.array_equal(ours.argmax(axis=1), wanted)
    differences = ours - ours[:, :1]
    # Theirs divides the covariance by n, ours by n less the classes, as the books do.
    theirs_scores = theirs.decision_function(standardized(made)[made.test]) * (len(made.train) - 3) / len(made.train)
    assert np.abs(differences - (theirs_scores - theirs_scores[:, :1])).max() < 3e-3


def test_nearest_mean_is_that_of_scikit_learn():
    made = clouds()
    theirs = NearestCentroid().fit(standardized(made)[made.train], made.targets.codes[made.train])
    ours = scores_of(made.source, made.test, [fit_nearest_mean(statistics_of(made))])[0]
    assert np.array_equal(ours.argmax(axis=1), theirs.predict(standardized(made)[made.test]))


@pytest.mark.parametrize("fit", [lambda s: fit_ridge(s, 0), lambda s: fit_lda(s, 0)], ids=["ridge", "lda"])
def test_without_a_penalty_a_dead_channel_has_no_single_answer(fit):
    made = clouds()
    features = made.source.features.copy()
    features[:, 3] = 1
    statistics = statistics_of(made._replace(source=ArrayFeatures(features)))
    with pytest.raises(SingularError, match="12 channels have rank 11"):
        fit(statistics)


def test_with_a_penalty_a_dead_channel_changes_nothing():
    made = clouds()
    features = np.concatenate([made.source.features, np.full((400, 1), 3, np.float16)], axis=1)
    wider = made._replace(source=ArrayFeatures(features))
    for fit in (lambda s: fit_ridge(s, 0.1), fit_nearest_mean):
        plain, dead = fit(statistics_of(made)), fit(statistics_of(wider))
        assert np.allclose(dead.weight[:, :-1], plain.weight, atol=1e-9)
        assert np.allclose(dead.weight[:, -1], 0)


def test_a_class_without_training_rows_is_never_said():
    made = clouds()
    rows = made.train[made.targets.codes[made.train] != 1]
    statistics = statistics_of(made, rows)
    for head in (fit_lda(statistics), fit_nearest_mean(statistics)):
        assert 1 not in scores_of(made.source, made.test, [head])[0].argmax(axis=1)


def test_squared_errors_need_no_second_pass():
    made = line()
    head = fit_ridge(statistics_of(made), 0.01)
    residual = scores_of(made.source, made.val, [head])[0].astype(np.float64) - made.targets.dense(made.val)
    assert np.allclose(squared_errors(head, statistics_of(made, made.val)), (residual**2).sum(axis=0), rtol=1e-3)


def test_a_negative_penalty_is_refused():
    with pytest.raises(HeadstartError, match="expected 0 or more"):
        fit_ridge(statistics_of(clouds()), -1.0)


def test_scores_stand_in_the_order_that_was_asked_for():
    made = clouds()
    head = fit_ridge(statistics_of(made), 0.1)
    positions = np.array([300, 2, 77])
    rows = made.source.features[positions].astype(np.float64)
    assert np.allclose(scores_of(made.source, positions, [head])[0], rows @ head.weight.T + head.bias, atol=1e-4)


def test_unlabelled_rows_do_not_bend_the_head():
    made = clouds()
    labels = np.array([made.targets.names[code] for code in made.targets.codes])
    labels[made.train[::2]] = ""
    half = made._replace(targets=class_targets(labels, made.train))
    direct = fit_ridge(statistics_of(made, made.train[1::2]), 0.1)
    assert np.allclose(fit_ridge(statistics_of(half), 0.1).weight, direct.weight, rtol=1e-4, atol=1e-7)
