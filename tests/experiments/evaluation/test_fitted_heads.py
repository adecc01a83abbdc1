import contextlib
import json

import numpy as np
import pytest

from headstart.experiments.config import TrainingOptions
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.evaluation.fitted_heads import _lowest, as_head
from headstart.experiments.evaluation.metrics import log_losses, probabilities_of
from headstart.experiments.heads.trained_head import read_head
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
    "few images": (100, 200, 14),
    "sign digits": (1443, 137, 10),
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


@pytest.mark.parametrize("place", [-6.9, -3.0, 0.0, 0.37, 9.2])
def test_the_lowest_place_of_a_valley_is_found_also_at_its_ends(place):
    assert _lowest(lambda x: abs(x - place) + (x - place) ** 2, -6.9, 9.2) == pytest.approx(place, abs=1e-3)
