from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.statistics import gather_statistics
from headstart.experiments.data.targets import class_targets
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.linear import logistic
from headstart.experiments.linear.closed_form import scores_of
from headstart.experiments.linear.logistic import fit_logistic_path, likelihood, workers
from headstart.pipeline.errors import HeadstartError
from tests.experiments.samples import clouds, line

PENALTIES = [1e-4, 1e-2, 1e-1, 1.0]
MADE = clouds(4000, spread=2.5)  # more rows than a block has


def fitted(made=MADE, penalties=PENALTIES, **options):
    statistics = gather_statistics(made.source, made.targets, {"x": made.train})["x"]
    return fit_logistic_path(made.source, made.targets, made.train, statistics, penalties, **options)


def theirs(made, penalty):
    rows = made.source.features.astype(np.float64)
    rows = (rows - rows[made.train].mean(axis=0)) / rows[made.train].std(axis=0)
    # Of two classes scikit-learn fits only the difference, whose square is twice the sum of the two squares.
    share = 2 if made.targets.outputs == 2 else 1
    fit = LogisticRegression(C=share / (penalty * len(made.train)), tol=1e-8, max_iter=1000)
    return rows, fit.fit(rows[made.train], made.targets.codes[made.train])


def unequal_classes():
    """The last class has a hundredth of the rows."""
    made = clouds(4000, spread=2.5)
    codes = made.targets.codes
    return made._replace(train=made.train[(codes[made.train] != 2) | (made.train % 100 == 0)])


@pytest.mark.parametrize("made", [MADE, unequal_classes(), clouds(4000, classes=2)], ids=["equal", "unequal", "two classes"])
def test_every_head_of_the_path_is_that_of_scikit_learn(made):
    for penalty, ours in zip(PENALTIES, scores_of(made.source, made.test, fitted(made, tolerance=1e-8)), strict=True):
        rows, fit = theirs(made, penalty)
        wanted = fit.predict_log_proba(rows[made.test])
        found = ours.astype(np.float64) - np.log(np.exp(ours.astype(np.float64)).sum(axis=1, keepdims=True))
        assert np.abs(found - wanted).max() < 5e-3 * np.abs(wanted).max()


def test_at_its_usual_tolerance_its_accuracy_is_that_of_scikit_learn_to_a_tenth_of_a_point():
    for penalty, ours in zip(PENALTIES, scores_of(MADE.source, MADE.test, fitted()), strict=True):
        rows, fit = theirs(MADE, penalty)
        wanted = fit.score(rows[MADE.test], MADE.targets.codes[MADE.test])
        assert abs((ours.argmax(axis=1) == MADE.targets.codes[MADE.test]).mean() - wanted) <= 0.001 + 1 / len(MADE.test)


def test_few_passes_are_needed_because_a_penalty_begins_with_what_the_one_before_showed(monkeypatch):
    widths = []

    def counted(source, targets, positions, shift, weights, biases, pool):
        widths.append(len(weights))
        return likelihood(source, targets, positions, shift, weights, biases, pool)

    monkeypatch.setattr(logistic, "likelihood", counted)
    fitted()
    together = sum(widths)
    assert together <= 28
    widths.clear()
    monkeypatch.setattr(logistic, "_KEPT_TOGETHER", 1)  # each from the last head alone
    fitted()
    assert sum(widths) > together


def log_probabilities(head):
    scores = scores_of(MADE.source, MADE.test, [head])[0].astype(np.float64)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def test_penalties_kept_in_other_parts_and_in_any_order_give_the_same_result(monkeypatch):
    together = fitted(tolerance=1e-8)
    monkeypatch.setattr(logistic, "_KEPT_TOGETHER", 3)
    for left, right in zip(together, fitted(penalties=PENALTIES[::-1], tolerance=1e-8)[::-1], strict=True):
        wanted = log_probabilities(left)
        assert np.abs(log_probabilities(right) - wanted).max() < 5e-3 * np.abs(wanted).max()


def test_twice_gives_the_same_bits_with_any_number_of_cores(monkeypatch):
    made = clouds(16_000, spread=2.5)  # five blocks, so that their order matters
    monkeypatch.setattr(logistic, "cores", lambda: 1)
    first = fitted(made, PENALTIES[:2])
    monkeypatch.setattr(logistic, "cores", lambda: 7)
    for left, right in zip(first, fitted(made, PENALTIES[:2]), strict=True):
        assert np.array_equal(left.weight, right.weight)
        assert np.array_equal(left.bias, right.bias)


def test_the_gradient_is_that_of_finite_differences():
    random = np.random.default_rng(0)
    weights, biases, shift = random.standard_normal((2, 3, 12)) * 0.1, random.standard_normal((2, 3)), np.linspace(-5, 5, 12)

    def of(weights, biases):
        with workers() as pool:
            return likelihood(MADE.source, MADE.targets, MADE.train, shift, weights, biases, pool)

    found = of(weights, biases)
    for step in (np.eye(12)[3], np.eye(12)[11]):
        for kind in range(3):
            moved = np.zeros((2, 3, 12))
            moved[1, kind] = 1e-3 * step
            slope = (of(weights + moved, biases).loss - of(weights - moved, biases).loss) / 2e-3
            assert slope[0] == 0
            assert slope[1] == pytest.approx((found.weights[1, kind] * step).sum(), rel=1e-3, abs=1e-3)
    moved = np.zeros((2, 3))
    moved[0, 2] = 1e-2
    slope = (of(weights, biases + moved).loss - of(weights, biases - moved).loss) / 2e-2
    assert slope[0] == pytest.approx(found.biases[0, 2], abs=2e-4)


def test_rows_without_a_class_do_not_bend_the_heads():
    labels = np.array([MADE.targets.names[code] for code in MADE.targets.codes])
    labels[MADE.train[::2]] = ""
    half = MADE._replace(targets=class_targets(labels, MADE.train))
    rest = MADE._replace(train=MADE.train[1::2])
    for left, right in zip(fitted(half), fitted(rest), strict=True):
        assert np.allclose(left.weight, right.weight, rtol=1e-3, atol=1e-3 * np.abs(right.weight).max())


def test_a_dead_channel_gets_no_weight():
    features = MADE.source.features.copy()
    features[:, 3] = 1
    assert all(
        np.allclose(head.weight[:, 3], 0) for head in fitted(MADE._replace(source=replace(MADE.source, features=features)))
    )


def test_at_its_usual_tolerance_no_penalty_is_further_from_its_minimum_than_that():
    def objectives(heads):
        logits = [scores.astype(np.float64) for scores in scores_of(MADE.source, MADE.train, heads)]
        losses = [(np.log(np.exp(each).sum(axis=1)) - each[np.arange(len(each)), codes]).mean() for each in logits]
        return np.array(losses) + 0.5 * np.array(PENALTIES) * [((head.weight * scale) ** 2).sum() for head in heads]

    codes, scale = MADE.targets.codes[MADE.train], MADE.source.features[MADE.train].astype(np.float64).std(axis=0)
    assert (objectives(fitted()) <= objectives(fitted(tolerance=1e-9)) + 1e-4).all()


@pytest.mark.parametrize("times", [0, 4], ids=["turned each pass", "turned once"])
def test_rows_turned_once_or_heads_turned_each_pass_give_the_heads_that_reading_gives(monkeypatch, times):
    made = few_rows(60, 16)
    statistics = gather_statistics(made.source, made.targets, {"train": made.train})["train"]
    monkeypatch.setattr(logistic, "_MOST_KEPT", 0)  # read for each pass
    plain = fit_logistic_path(made.source, made.targets, made.train, statistics, (1e-2, 1.0), tolerance=1e-9)
    monkeypatch.setattr(logistic, "_MOST_KEPT", 1 << 25)
    monkeypatch.setattr(logistic, "_TURNED_ONCE", times)
    other = fit_logistic_path(made.source, made.targets, made.train, statistics, (1e-2, 1.0), tolerance=1e-9)
    for one, two in zip(plain, other, strict=True):
        np.testing.assert_allclose(one.weight, two.weight, atol=2e-3)


@pytest.mark.parametrize("penalty", [0.0, -1.0, float("nan"), float("inf")])
def test_a_penalty_that_gives_no_single_answer_is_refused(penalty):
    with pytest.raises(HeadstartError, match="expected a number above 0"):
        fitted(penalties=[1.0, penalty])


def test_numbers_are_refused():
    with pytest.raises(HeadstartError, match="needs classes"):
        fitted(line())


def few_rows(count: int, channels: int) -> TrainingData:
    random = np.random.default_rng(count)
    codes = random.integers(0, 3, count + 40)
    rows = random.standard_normal((count + 40, channels)) + 0.8 * np.eye(3, channels)[codes]
    train, val = np.split(np.arange(count + 40), [count])
    return TrainingData(ArrayFeatures(rows.astype(np.float16)), class_targets([f"c{code}" for code in codes], train), train, val)


@pytest.mark.parametrize(("count", "channels"), [(20, 48), (48, 48), (60, 16)], ids=["fewer rows", "as many", "more rows"])
def test_rows_kept_along_their_axes_give_the_heads_that_reading_them_gives(monkeypatch, count, channels):
    made = few_rows(count, channels)
    statistics = gather_statistics(made.source, made.targets, {"train": made.train})["train"]
    penalties = (1e-2, 1.0)
    kept = fit_logistic_path(made.source, made.targets, made.train, statistics, penalties, tolerance=1e-9)
    monkeypatch.setattr(logistic, "_MOST_KEPT", 0)
    read = fit_logistic_path(made.source, made.targets, made.train, statistics, penalties, tolerance=1e-9)
    for one, two in zip(kept, read, strict=True):
        np.testing.assert_allclose(one.weight, two.weight, atol=2e-3)
        np.testing.assert_allclose(one.bias, two.bias, atol=2e-3)
