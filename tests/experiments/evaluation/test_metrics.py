import json
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.experiments.evaluation.intervals import Sample
from headstart.experiments.evaluation.metrics import (
    classification_metrics,
    classification_report,
    compare_classifiers,
    compare_regressors,
    expected_calibration_error,
    probabilities_of,
    regression_metrics,
    scores_of_classes,
    sign_test,
)
from headstart.pipeline.errors import HeadstartError

NAMES = [f"class {i}" for i in range(7)]


def guesses(count=500, seed=0):
    random = np.random.default_rng(seed)
    codes = random.integers(0, 7, count)
    logits = random.standard_normal((count, 7)).astype(np.float32)
    logits[np.arange(count), codes] += 1.5
    return logits, codes


def test_metrics_of_a_known_confusion():
    codes = np.array([0, 0, 0, 1, 1, 2])
    probabilities = np.array([[0.8, 0.1, 0.1]] * 2 + [[0.1, 0.8, 0.1]] * 3 + [[0.1, 0.1, 0.8]])
    found = classification_metrics(probabilities, codes, ["a", "b", "c"])
    assert found["confusion_matrix"] == [[2, 1, 0], [0, 2, 0], [0, 0, 1]]
    assert found["accuracy"] == pytest.approx(5 / 6)
    assert found["per_class"]["a"] == {"precision": 1.0, "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8), "images": 3}
    assert found["macro_f1"] == pytest.approx((0.8 + 0.8 + 1) / 3)
    assert found["log_loss"] == pytest.approx(-(5 * np.log(0.8) + np.log(0.1)) / 6)
    assert found["ece"] == pytest.approx(abs(0.8 - 5 / 6))
    assert "top_5_accuracy" not in found
    json.dumps(found)


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_are_there():
    probabilities = np.eye(3)[[0, 0, 1, 1]] * 0.9 + 0.1 / 3
    found = classification_metrics(probabilities, np.array([0, 0, 0, 1]), ["a", "b", "none"])
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)


def test_top_k_counts_the_true_class_among_the_first():
    logits, codes = guesses()
    found = classification_metrics(probabilities_of(logits, "softmax"), codes, NAMES)
    ranks = (logits > logits[np.arange(500), codes][:, None]).sum(axis=1)
    assert found["top_5_accuracy"] == pytest.approx((ranks < 5).mean())


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_probabilities_add_up_and_survive_extreme_logits(output):
    logits = np.array([[1000.0, -1000.0], [-1000.0, -1000.0]], np.float32)
    with np.errstate(over="ignore"):
        found = probabilities_of(logits, output)
    assert np.allclose(found.sum(axis=1), 1)
    assert found[0].tolist() == pytest.approx([1, 0])


def test_calibration_of_an_honest_head_is_near_zero_and_of_a_boaster_is_not():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 20_000)
    codes = (random.random(20_000) > confidence).astype(np.int64)
    honest = np.stack([confidence, 1 - confidence], axis=1)
    assert expected_calibration_error(honest, codes) < 0.02
    assert expected_calibration_error(np.tile([0.99, 0.01], (20_000, 1)), codes) == pytest.approx(0.99 - (codes == 0).mean())


def test_the_interval_is_that_of_the_binomial_and_does_not_change():
    is_right = np.arange(1000) < 770
    interval = Sample(1000).proportion(is_right)
    half = 1.96 * np.sqrt(0.77 * 0.23 / 1000)
    assert interval == pytest.approx([0.77 - half, 0.77 + half], abs=0.004)
    assert interval == Sample(1000).proportion(is_right)


def test_a_better_head_is_found_better_and_the_same_head_is_not():
    logits, codes = guesses()
    said = logits.argmax(axis=1)
    worse = said.copy()
    worse[::5] = (codes[::5] + 1) % 7
    found = compare_classifiers(said, worse, codes)
    assert found["interval"][0] > 0
    assert found["p"] < 1e-6
    assert found["only_second_right"] == 0
    same = compare_classifiers(said, said, codes)
    assert (same["difference"], same["interval"], same["p"]) == (0, [0, 0], 1)


def test_regression_metrics_of_a_shifted_prediction():
    wanted = np.random.default_rng(0).standard_normal((200, 2))
    found = regression_metrics(wanted * [1, -2] + [0.5, 0], wanted, ["up", "down"])["targets"]
    assert found["up"]["mse"] == pytest.approx(0.25)
    assert found["up"]["mae"] == pytest.approx(0.5)
    assert found["up"]["pearson"] == pytest.approx(1)
    assert found["up"]["r2"] == pytest.approx(1 - 0.25 / wanted[:, 0].var())
    assert found["down"]["spearman"] == pytest.approx(-1)


def test_the_interval_of_a_correlation_is_about_it_and_as_wide_as_fisher_says():
    random = np.random.default_rng(0)
    wanted = random.standard_normal(400)
    found = regression_metrics((wanted + random.standard_normal(400))[:, None], wanted[:, None], ["x"])["targets"]["x"]
    low, high = found["pearson_interval"]
    assert low < found["pearson"] < high
    assert high - low == pytest.approx(2 * 1.96 * (1 - found["pearson"] ** 2) / 20, rel=0.2)


def test_correlation_within_groups_is_not_fooled_by_differences_between_them():
    random = np.random.default_rng(0)
    level = np.repeat([0.0, 100.0], 50)
    wanted, predicted = level + random.standard_normal(100), level + random.standard_normal(100)
    groups = np.array(["low"] * 50 + ["high"] * 50)
    found = regression_metrics(predicted[:, None], wanted[:, None], ["x"], groups)["targets"]["x"]
    assert found["pearson"] > 0.99
    assert abs(found["within_groups"]["pearson"]) < 0.3
    assert found["within_groups"]["groups"] == 2
    half = np.where(np.arange(100) % 2, groups, "")
    found = regression_metrics(predicted[:, None], wanted[:, None], ["x"], half)["targets"]["x"]
    assert found["within_groups"]["groups"] == 2  # rows without a group are none


def test_ranks_are_taken_within_groups_and_a_group_of_two_does_not_count():
    wanted = np.array([1.0, 2, 3, 4, 1, 2])
    predicted = wanted**9 * [1, 1, 1, 1, -1, -1]
    found = regression_metrics(predicted[:, None], wanted[:, None], ["x"], np.array(list("aaaabb")))["targets"]["x"]
    assert found["within_groups"]["groups"] == 1
    assert found["within_groups"]["spearman"] == pytest.approx(1)
    assert found["within_groups"]["pearson"] < 0.9


def test_a_constant_prediction_has_no_correlation_and_no_warning():
    wanted = np.arange(10.0)[:, None]
    found = regression_metrics(np.ones((10, 1)), wanted, ["x"], np.array(["a"] * 10))["targets"]["x"]
    assert (found["pearson"], found["spearman"], found["pearson_interval"]) == (None, None, [None, None])
    assert found["within_groups"] == {"groups": 1, "pearson": 0.0, "spearman": 0.0}
    assert regression_metrics(wanted, np.ones((10, 1)), ["x"])["targets"]["x"]["r2"] is None


def test_regressors_are_compared_on_the_same_images():
    wanted = np.random.default_rng(0).standard_normal(300)
    found = compare_regressors(wanted + 0.1, wanted + 0.5, wanted)
    assert found["difference"] == pytest.approx(0.01 - 0.25)
    assert found["interval"][1] < 0


@pytest.mark.parametrize(
    "judge",
    [
        lambda: classification_metrics(np.empty((0, 2)), np.empty(0, np.int64), ["a", "b"]),
        lambda: regression_metrics(np.empty((0, 1)), np.empty((0, 1)), ["x"]),
    ],
    ids=["classes", "numbers"],
)
def test_an_empty_split_is_refused(judge):
    with pytest.raises(HeadstartError, match="no images with a target"):
        judge()


LIGHT = """
import sys
import numpy as np
from headstart.experiments.evaluation.metrics import classification_metrics, sign_test
classification_metrics(np.eye(2)[[0, 1, 0]], np.array([0, 1, 0]), ["a", "b"])
sign_test(3, 4)
print(*sorted({"sklearn", "pandas", "scipy"} & set(sys.modules)))
"""


def test_classes_are_judged_without_what_takes_long_to_import():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.filterwarnings("ignore:A single label")
@given(
    classes=st.integers(1, 9),
    pairs=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=60),
    longest=st.integers(1, 30),
)
def test_counts_and_their_table_are_those_of_scikit_learn(classes, pairs, longest):
    from sklearn import metrics

    codes, said = (np.array(column, np.int64) % classes for column in zip(*pairs, strict=True))
    names = [f"{'n' * longest}{number}" for number in range(classes)]
    ours = scores_of_classes(codes, said, classes)
    theirs = metrics.precision_recall_fscore_support(codes, said, labels=np.arange(classes), zero_division=0)
    for mine, wanted in zip(ours, theirs, strict=True):
        assert np.array_equal(mine, wanted)
    wanted = metrics.classification_report(codes, said, labels=np.arange(classes), target_names=names, digits=4, zero_division=0)
    whole = re.sub(r"(\d+)\.0$", r"  \1", wanted, flags=re.MULTILINE)  # some versions of it count images in fractions
    assert classification_report(codes, said, names) == whole
    judged = classification_metrics(np.eye(classes)[said], codes, names, top_k=classes)
    assert judged["confusion_matrix"] == metrics.confusion_matrix(codes, said, labels=np.arange(classes)).tolist()


@given(ahead=st.integers(0, 3000), behind=st.integers(0, 3000))
def test_the_sign_test_is_the_exact_binomial_one(ahead, behind):
    from scipy.stats import binomtest

    wanted = binomtest(ahead, ahead + behind).pvalue if ahead + behind else 1.0
    assert sign_test(ahead, behind) == pytest.approx(wanted, rel=1e-9, abs=1e-300)
