import numpy as np
import pytest
from scipy import stats

from headstart.experiments.evaluation.intervals import Sample, wilson_interval
from headstart.experiments.evaluation.metrics import classification_metrics, compare_classifiers, regression_metrics


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (7, 7), (0, 12), (19, 20), (500, 1000), (9_999, 10_000)])
def test_a_proportion_has_the_interval_that_scipy_calls_wilson(right, count):
    expected = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert wilson_interval(right, count) == pytest.approx([expected.low, expected.high], abs=1e-12)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_seven_of_seven_right_are_not_taken_for_certainty(metric):
    codes = np.array([0, 1, 0, 1, 0, 1, 1])
    found = classification_metrics(np.eye(2)[codes] * 0.9 + 0.05, codes, ["a", "b"])
    assert found[metric] == 1
    assert found[f"{metric}_interval"][0] == pytest.approx(0.6457, abs=1e-4)
    assert found[f"{metric}_interval"][1] == 1


def test_heads_with_the_same_answers_on_a_few_images_may_still_differ():
    codes = np.array([0, 1, 0, 1, 0, 1, 1])
    low, high = compare_classifiers(codes, codes.copy(), codes)["interval"]
    assert low < -0.1
    assert high > 0.1


def test_images_of_few_groups_tell_less_than_as_many_independent_ones():
    random = np.random.default_rng(0)
    codes = np.zeros(400, np.int64)
    is_right = np.repeat(random.random(20) < 0.7, 20)
    probabilities = np.where(is_right[:, None], [0.9, 0.1], [0.1, 0.9])
    groups = np.repeat([f"site {i}" for i in range(20)], 20)

    def width(**more):
        low, high = classification_metrics(probabilities, codes, ["a", "b"], **more)["accuracy_interval"]
        return high - low

    assert width(groups=groups) > 3 * width()
    assert width(groups=np.full(400, "")) == width()


@pytest.mark.parametrize("share", [1.0, 0.0], ids=["all right", "all wrong"])
def test_groups_that_are_all_alike_count_once_each(share):
    groups = np.repeat(["a", "b", "c"], 50)
    found = Sample(150, groups).proportion(np.full(150, share > 0))
    assert found == wilson_interval(round(3 * share), 3)


def test_rows_without_a_group_are_drawn_alone():
    groups = np.array(["a", "a", "", "", "b"])
    assert Sample(5, groups).units == 4
    assert Sample(5, groups).words == "4 groups"
    assert Sample(5, np.full(5, "")).words == "5 images"


def test_the_bootstrap_of_a_mean_is_what_scipy_makes_of_it():
    values = np.random.default_rng(0).exponential(size=80)
    expected = stats.bootstrap([values], np.mean, n_resamples=20_000, vectorized=True, method="BCa", rng=0).confidence_interval
    assert Sample(80).mean(values) == pytest.approx([expected.low, expected.high], rel=0.03)


def test_an_offset_of_a_mean_moves_its_interval_and_nothing_else():
    values = np.random.default_rng(0).exponential(size=80)
    low, high = Sample(80).mean(values)
    assert Sample(80).mean(values + 1e9) == pytest.approx([low + 1e9, high + 1e9], abs=1e-6)


def test_many_rows_have_the_interval_of_their_standard_error_at_a_bounded_cost():
    values = np.random.default_rng(0).normal(size=50_000)
    sample = Sample(50_000)
    half = 1.96 / np.sqrt(50_000)
    assert sample.mean(values) == pytest.approx([values.mean() - half, values.mean() + half], abs=0.1 * half)
    assert sample.words == "50,000 images"


def test_every_metric_lies_in_its_interval():
    random = np.random.default_rng(0)
    codes = random.integers(0, 7, 300)
    logits = random.standard_normal((300, 7))
    logits[np.arange(300), codes] += 1.5
    odds = np.exp(logits)
    found = classification_metrics(odds / odds.sum(axis=1, keepdims=True), codes, [str(i) for i in range(7)])
    wanted = random.standard_normal((300, 1))
    found |= regression_metrics(wanted + random.standard_normal((300, 1)), wanted, ["x"])["targets"]["x"]
    names = [key.removesuffix("_interval") for key in found if key.endswith("_interval")]
    assert len(names) == 10
    for name in names:
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high, name


@pytest.mark.parametrize(
    "values", [np.ones(10), np.ones(1), np.array([np.nan, 1.0, 2.0])], ids=["all alike", "one row", "not a number"]
)
def test_what_says_nothing_of_the_spread_has_no_interval(values):
    assert Sample(len(values)).mean(values) == [None, None]


FEW = {"log-loss of few": (299, ["log_loss"]), "log-loss of enough": (300, None)}


@pytest.mark.parametrize(("count", "narrow"), FEW.values(), ids=FEW)
def test_an_interval_that_holds_too_seldom_for_so_few_images_is_named(count, narrow):
    random = np.random.default_rng(0)
    codes = random.integers(0, 3, count)
    odds = np.exp(random.standard_normal((count, 3)))
    found = classification_metrics(odds / odds.sum(axis=1, keepdims=True), codes, ["a", "b", "c"])
    assert found.get("narrow_interval") == narrow
    assert "ece_interval" not in found


@pytest.mark.parametrize(("count", "narrow"), [(199, ["spearman"]), (200, None)])
def test_ranks_of_few_images_have_a_narrow_interval_that_is_named(count, narrow):
    wanted = np.random.default_rng(0).standard_normal((count, 1))
    found = regression_metrics(wanted**3, wanted, ["x"])["targets"]["x"]
    assert found.get("narrow_interval") == narrow
    low, high = found["spearman_interval"]
    assert 0.99 < low < found["spearman"] <= high + 1e-9  # never a single number


def test_an_interval_of_r2_is_about_it():
    random = np.random.default_rng(0)
    wanted = random.standard_normal((500, 1))
    found = regression_metrics(wanted + 0.5 * random.standard_normal((500, 1)), wanted, ["x"])["targets"]["x"]
    low, high = found["r2_interval"]
    assert 0.65 < low < found["r2"] < high < 0.85
