import itertools

import numpy as np
import pytest

from headstart.experiments.config import HeadConfig
from headstart.experiments.evaluation.head_choice import (
    Candidate,
    Choice,
    choose,
    choose_beyond_noise,
    corrected_validation,
    goodness_of,
    simplicity_of,
)
from headstart.experiments.heads.trained_head import TrainedHead


def head(name, hidden=(), method=None):
    widths = [4, *hidden, 3]
    layers = tuple((np.zeros((out, into), np.float32), np.zeros(out, np.float32)) for into, out in itertools.pairwise(widths))
    fitted = None if method is None else {"method": method}
    return TrainedHead(HeadConfig(name=name, hidden=hidden), "classification", ("a", "b", "c"), layers, fitted)


HEADS = [
    head("nearest-mean", method="nearest-mean"),
    head("ridge", method="ridge"),
    head("lda", method="lda"),
    head("logistic", method="logistic"),
    head("ridge-5-fold", method="ridge-5-fold"),
    head("linear"),
    head("mlp-8", (8,)),
    head("mlp-512", (512,)),
]


def test_of_equals_the_simplest_is_chosen_and_the_others_are_named():
    candidates = [Candidate(each.config.name, {"val": {"accuracy": 0.9}}, simplicity_of(each)) for each in reversed(HEADS)]
    assert choose(candidates, "accuracy") == (HEADS[0].config.name, [each.config.name for each in HEADS[1:]])
    best = Candidate("mlp-512", {"val": {"accuracy": 0.91}}, simplicity_of(HEADS[-1]))
    assert choose([*candidates[1:], best], "accuracy") == ("mlp-512", [])


# Accuracies of 100 validation images; a standard error of 0.8 is 0.0404.
LEADS = {
    "by less than a standard error": ({"ridge": 0.83, "logistic": 0.80, "linear": 0.82}, "logistic", ["ridge", "linear"]),
    "by more than one": ({"ridge": 0.85, "logistic": 0.80, "linear": 0.82}, "ridge", []),
    "of equals the simplest": ({"ridge": 0.80, "logistic": 0.80, "linear": 0.79}, "ridge", []),
    "logistic regression leads": ({"ridge": 0.79, "logistic": 0.80, "linear": 0.79}, "logistic", []),
    "there is no logistic regression": ({"ridge": 0.79, "linear": 0.80}, "linear", []),
    "all images right": ({"ridge": 1.0, "logistic": 0.99, "linear": 0.5}, "logistic", ["ridge"]),
}


@pytest.mark.parametrize(("scores", "selected", "within_noise"), LEADS.values(), ids=LEADS)
def test_a_lead_over_logistic_regression_counts_if_it_is_more_than_noise(scores, selected, within_noise):
    known = {each.config.name: each for each in HEADS}
    candidates = [Candidate(name, {"val": {"accuracy": value}}, simplicity_of(known[name])) for name, value in scores.items()]
    choice = choose_beyond_noise(candidates, "accuracy", 100)
    assert (choice.selected, choice.within_noise) == (selected, within_noise)


ANSWERS = {
    "the same answers": ("said", "ridge", ["logistic"]),
    "other answers": ("said otherwise", "logistic", ["ridge"]),
}


@pytest.mark.parametrize(("said", "selected", "equals"), ANSWERS.values(), ids=ANSWERS)
def test_of_equal_accuracy_the_simplest_is_chosen_only_if_logistic_regression_says_the_same(said, selected, equals):
    known = {each.config.name: each for each in HEADS}
    answers = {"ridge": "said", "logistic": said, "linear": "something else"}
    accuracies = {"ridge": 0.8, "logistic": 0.8, "linear": 0.7}
    candidates = [
        Candidate(name, {"val": {"accuracy": accuracies[name]}}, simplicity_of(known[name]), answers[name]) for name in answers
    ]
    assert choose_beyond_noise(candidates, "accuracy", 100) == Choice(selected, equals, [])


GOODNESS = {
    "accuracy": ("accuracy", {"accuracy": 0.8, "log_loss": 2.0}, 0.8),
    "loss of classes": ("loss", {"accuracy": 0.8, "log_loss": 2.0}, -2.0),
    "loss of numbers": ("loss", {"targets": {"x": {"mse": 1.0}, "y": {"mse": 3.0}}}, -2.0),
    "pearson": ("pearson", {"targets": {"x": {"pearson": 0.2}, "y": {"pearson": 0.4}}}, 0.3),
    "no pearson": ("pearson", {"targets": {"x": {"pearson": None}, "y": {"pearson": 0.4}}}, float("-inf")),
}


@pytest.mark.parametrize(("monitor", "metrics", "expected"), GOODNESS.values(), ids=GOODNESS)
def test_what_is_better_is_larger(monitor, metrics, expected):
    assert goodness_of(metrics, monitor) == pytest.approx(expected)


def test_the_best_of_many_coins_promises_no_more_than_a_coin():
    random = np.random.default_rng(0)
    answers = {str(number): random.random(60) < 0.5 for number in range(40)}
    assert max(found.mean() for found in answers.values()) > 0.6
    assert corrected_validation(answers) == pytest.approx(0.5, abs=0.04)


def test_a_head_that_is_truly_better_keeps_its_accuracy():
    random = np.random.default_rng(0)
    answers = {"good": random.random(400) < 0.9, "bad": random.random(400) < 0.5}
    assert corrected_validation(answers) == pytest.approx(answers["good"].mean(), abs=0.01)


@pytest.mark.parametrize(
    "answers", [{"one": np.ones(9, bool)}, {"a": np.ones(1, bool), "b": np.ones(1, bool)}], ids=["one head", "one image"]
)
def test_where_nothing_is_chosen_nothing_is_corrected(answers):
    assert corrected_validation(answers) is None
