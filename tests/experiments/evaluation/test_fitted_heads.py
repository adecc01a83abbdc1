import contextlib
import itertools
import json

import numpy as np
import pytest

from headstart.experiments.config import HeadConfig, TrainingOptions
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.evaluation.fitted_heads import (
    Candidate,
    as_head,
    choose,
    choose_beyond_noise,
    corrected_validation,
    goodness_of,
    simplicity_of,
)
from headstart.experiments.evaluation.metrics import log_losses, probabilities_of
from headstart.experiments.heads.trained_head import TrainedHead, read_head
from headstart.experiments.linear.baselines import fit_baselines
from headstart.experiments.linear.closed_form import scores_of
from headstart.experiments.training.state.kept_parts import KeptParts
from headstart.pipeline.files import FileSystem
from tests.experiments.samples import clouds


@pytest.fixture(scope="module")
def data():
    made = clouds(1500)
    return TrainingData(made.source, made.targets, np.arange(900), np.arange(900, 1200))


@pytest.fixture(scope="module")
def baselines(data):
    return {baseline.name: baseline for baseline in fit_baselines(data)[0]}


def head_of(data, baseline):
    [scores] = scores_of(data.source, data.val, [baseline.head])
    return as_head(baseline, data, scores), scores


@pytest.mark.parametrize("name", ["ridge", "lda", "nearest-mean"])
def test_a_baseline_as_a_head_gives_the_same_answers_and_honest_probabilities(data, baselines, name):
    head, scores = head_of(data, baselines[name])
    logits = head.scores(data.source, data.val)
    assert (logits.argmax(axis=1) == scores.argmax(axis=1)).all()
    codes = data.targets.codes[data.val]
    losses = [
        log_losses(probabilities_of(values, "softmax"), codes).mean() for values in (logits, scores, 0.5 * logits, 2 * logits)
    ]
    assert losses[0] <= min(losses) * 1.02


def test_a_baseline_comes_back_from_its_file_with_what_was_chosen_for_it(data, baselines, tmp_path):
    head, _ = head_of(data, baselines["ridge"])
    (tmp_path / "ridge.pt").write_bytes(head.encode())
    found = read_head(tmp_path / "ridge.pt")
    assert found.fitted == {"method": "ridge", "l2": baselines["ridge"].settings["l2"]}
    assert found.digest == head.digest


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


def test_what_was_fitted_before_a_kill_is_not_fitted_again_and_gives_the_same_heads(data, tmp_path, monkeypatch):
    from headstart.experiments.config import BaselineOptions
    from headstart.experiments.linear import logistic

    options, folds = BaselineOptions(True, 3), np.arange(len(data.train)) % 3
    whole, _ = fit_baselines(data, options, folds)
    parts = KeptParts(tmp_path / "checkpoints", FileSystem())

    class Left(Exception):
        pass

    calls = 0
    while calls < 20:
        calls += 1
        steps = iter(range(1000))

        def check(steps=steps):
            if next(steps) == 30:
                raise Left

        with contextlib.suppress(Left):
            found, _ = fit_baselines(data, options, folds, check, parts)
            break
    assert 1 < calls < 10
    for one, other in zip(whole, found, strict=True):
        assert one.settings == other.settings
        assert (one.head.weight == other.head.weight).all()
    solve = logistic._solve
    monkeypatch.setattr(logistic, "_solve", lambda *rest: pytest.fail("solved again") or solve(*rest))
    fit_baselines(data, options, folds, lambda: None, parts)
    parts.clear()
    assert not list((tmp_path / "checkpoints").glob("part_*"))


def test_a_damaged_part_is_none(tmp_path):
    parts = KeptParts(tmp_path, FileSystem())
    parts.keep("fold_1", np.arange(3.0))
    assert parts.load("fold_1").tolist() == [0, 1, 2]
    assert parts.load("fold_10") is None
    [path] = tmp_path.glob("part_*")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert parts.load("fold_1") is None


STEPS = {
    "few images": (100, 200, 60),
    "sign digits": (1443, 137, 41),
    "many": (50_000, 10, 0),
}


@pytest.mark.parametrize(("rows", "epochs", "patience"), STEPS.values(), ids=STEPS)
def test_small_sets_are_trained_for_more_epochs_until_validation_says_so_and_large_ones_for_ten(rows, epochs, patience):
    settled = TrainingOptions(steps=1500).settled(rows)
    assert (settled.epochs, settled.patience, settled.steps) == (epochs, patience, 0)
    assert TrainingOptions(epochs=7).settled(rows) == TrainingOptions(epochs=7)
    assert TrainingOptions(steps=1500, patience=3).settled(rows).patience == 3


def test_a_description_without_steps_is_as_it_was_before_there_were_any():
    from headstart.experiments.config import as_facts

    assert "steps" not in json.dumps(as_facts(TrainingOptions()))
    assert as_facts(TrainingOptions(steps=5))["steps"] == 5
