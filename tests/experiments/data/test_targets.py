import numpy as np
import pytest

from headstart.experiments.data.feature_source import as_source
from headstart.experiments.data.targets import NO_CLASS, class_targets, value_targets
from headstart.pipeline.errors import HeadstartError

TRAIN, REST = np.arange(6), np.arange(6, 9)
LABELS = ["b", "a", "b", "a", "", "c", "a", "b", ""]


def test_classes_are_those_of_the_training_rows_sorted():
    targets = class_targets(LABELS, TRAIN)
    assert targets.names == ("a", "b", "c")
    assert targets.codes.tolist() == [1, 0, 1, 0, NO_CLASS, 2, 0, 1, NO_CLASS]
    assert targets.dense(np.array([5, 1])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert targets.is_known.tolist() == [True] * 4 + [False, True, True, True, False]


def test_numbers_keep_their_holes():
    targets = value_targets(["age"], [["1", "", "2.5", "nan", "3", "4", "5", "", "7"]], TRAIN)
    assert targets.is_known.tolist() == [True, False, True, False, True, True, True, False, True]
    assert targets.dense(np.array([2])).tolist() == [[2.5]]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["a"] * 9, "one class, 'a'"),
        ([""] * 9, "no labels"),
        (list("abcdefabc"), "looks like a name"),
        ([*"ababab", "a", "z", "b"], "1 image to judge on has a class that the training split lacks: 'z'"),
    ],
    ids=["one class", "no labels", "every label once", "a class in test that training lacks"],
)
def test_labels_that_cannot_be_learned_are_refused_in_one_line(labels, says):
    with pytest.raises(HeadstartError, match=says) as caught:
        class_targets(labels, TRAIN, [REST])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (["1", "2", "x", "4", "5", "6", "7", "8", "9"], "row 2 is 'x', expected a number"),
        (["1", "2", "inf", "4", "5", "6", "7", "8", "9"], "row 2 is 'inf', expected a finite number"),
        (["3"] * 6 + ["4"] * 3, "the value 3 on all 6 rows"),
        ([""] * 6 + ["4"] * 3, "no number at all"),
    ],
    ids=["text", "infinite", "all equal in training", "empty in training"],
)
def test_numbers_that_cannot_be_learned_are_refused_in_one_line(column, says):
    with pytest.raises(HeadstartError, match=says) as caught:
        value_targets(["age"], [column], TRAIN)
    assert "\n" not in str(caught.value)


def test_a_class_with_one_image_is_learned_as_far_as_it_goes():
    assert class_targets(["a", "b", "a", "b", "a", "c"], TRAIN).names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("features", "says"),
    [(np.zeros(3), r"\(3,\)"), (np.array([["x"]]), "expected numbers"), (np.array([[1.0], [7e4]]), "row 1 are not finite")],
    ids=["a vector", "text", "beyond float16"],
)
def test_a_matrix_that_is_none_is_refused(features, says):
    with pytest.raises(HeadstartError, match=says):
        as_source(features)
