import itertools

import numpy as np
import pytest

from headstart.experiments.config import HeadConfig
from headstart.experiments.evaluation.head_choice import (
    Candidate,
    Choice,
    choose,
    choose_beyond_doubt,
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


NOTHING = np.empty(0, np.int64)


def test_of_equals_the_simplest_is_chosen_and_the_others_are_named():
    candidates = [
        Candidate(each.config.name, {"val": {"accuracy": 0.9}}, simplicity_of(each), NOTHING) for each in reversed(HEADS)
    ]
    assert choose(candidates, "accuracy") == (HEADS[0].config.name, [each.config.name for each in HEADS[1:]])
    best = Candidate("mlp-512", {"val": {"accuracy": 0.91}}, simplicity_of(HEADS[-1]), NOTHING)
    assert choose([*candidates[1:], best], "accuracy") == ("mlp-512", [])


IMAGES = 100


def said(right, of=IMAGES, first=0):
    """Answers to images that are all of class 0: from `first` on so many are right, counted in a circle."""
    answers = np.ones(of, np.int64)
    answers[(first + np.arange(right)) % of] = 0
    return answers


def candidates_of(answers):
    known = {each.config.name: each for each in HEADS}
    return [
        Candidate(name, {"val": {"accuracy": float((found == 0).mean())}}, simplicity_of(known[name]), found)
        for name, found in answers.items()
    ]


# What each says, who is chosen, who is as good, who did better but not beyond doubt. Six images that only one has right are
# beyond doubt (p = 0.031), five are not (0.0625); where ten images go the other way, not even nine more are (19 of 29, 0.14).
CHOICES = {
    "a small lead": ({"ridge": said(84), "logistic": said(80)}, "logistic", [], ["ridge"]),
    "several small leads": ({"ridge": said(82), "logistic": said(80), "linear": said(84)}, "logistic", [], ["linear", "ridge"]),
    "a lead beyond doubt": ({"ridge": said(89), "logistic": said(80), "linear": said(82)}, "ridge", [], []),
    "the same lead of heads that differ": ({"ridge": said(89, first=10), "logistic": said(80)}, "logistic", [], ["ridge"]),
    "of sure leads the best": ({"ridge": said(90), "logistic": said(80), "mlp-8": said(95)}, "mlp-8", [], []),
    "of equal sure leads the simplest": ({"mlp-8": said(95), "logistic": said(80), "ridge": said(95)}, "ridge", ["mlp-8"], []),
    "a larger lead that is less sure": (
        {"ridge": said(89), "logistic": said(80), "mlp-8": said(90, first=80)}, "ridge", [], ["mlp-8"]),
    "as many right": ({"ridge": said(80, first=5), "logistic": said(80), "lda": said(80)}, "logistic", ["ridge", "lda"], []),
    "logistic regression leads": ({"ridge": said(79), "logistic": said(80)}, "logistic", [], []),
    "there is no logistic regression": ({"ridge": said(79), "linear": said(80)}, "linear", [], []),
    "all right": ({"logistic": said(100), "mlp-8": said(100), "lda": said(100)}, "lda", ["logistic", "mlp-8"], []),
    "all right but the reference": ({"ridge": said(100), "logistic": said(99)}, "logistic", [], ["ridge"]),
    "five more": ({"ridge": said(25, of=30), "logistic": said(20, of=30)}, "logistic", [], ["ridge"]),
    "six more": ({"ridge": said(26, of=30), "logistic": said(20, of=30)}, "ridge", [], []),
}  # fmt: skip


@pytest.mark.parametrize(("answers", "selected", "equals", "doubtful"), CHOICES.values(), ids=CHOICES)
def test_a_lead_over_logistic_regression_counts_if_it_is_beyond_doubt(answers, selected, equals, doubtful):
    codes = np.zeros(len(answers[selected]), np.int64)
    assert choose_beyond_doubt(candidates_of(answers), "accuracy", codes) == Choice(selected, equals, doubtful)


def test_a_lead_within_one_group_is_not_beyond_doubt():
    answers = {"ridge": said(90), "logistic": said(80)}
    codes = np.zeros(IMAGES, np.int64)
    ten_sites = np.array([f"site {number // 10}" for number in range(IMAGES)])  # all ten that differ are of one
    spread = np.array([f"site {number % 10}" for number in range(IMAGES)])  # one of each
    assert choose_beyond_doubt(candidates_of(answers), "accuracy", codes).selected == "ridge"
    assert choose_beyond_doubt(candidates_of(answers), "accuracy", codes, ten_sites).selected == "logistic"
    assert choose_beyond_doubt(candidates_of(answers), "accuracy", codes, spread).selected == "ridge"
    assert choose_beyond_doubt(candidates_of(answers), "accuracy", codes, np.full(IMAGES, "")).selected == "ridge"


def test_by_another_number_than_the_accuracy_the_best_is_chosen():
    candidates = [
        Candidate(name, {"val": {"accuracy": 0.8, "log_loss": loss}}, simplicity_of(head(name, method=name)), said(80))
        for name, loss in (("logistic", 0.5), ("ridge", 0.49))
    ]
    assert choose_beyond_doubt(candidates, "loss", np.zeros(IMAGES, np.int64)) == Choice("ridge", [], [])


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
