from dataclasses import replace

import numpy as np
import pytest

from headstart.experiments.config import HeadConfig, TrainingOptions, default_ablation, quality_head
from headstart.experiments.data.targets import Targets, value_targets
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.heads.parameters import Parameters
from headstart.experiments.heads.trainer import train, train_head_only
from headstart.experiments.training.early_stopping import TrainingProgress
from headstart.pipeline.errors import HeadstartError
from tests.experiments.samples import clouds, line
from tests.experiments.trainings import CLASSES, NUMBERS, OPTIONS, SCORE, data_of, unit_line


def test_the_head_that_is_kept_is_the_one_of_the_best_epoch():
    data = data_of(clouds(120, spread=3.0))
    outcome = train(data, [HeadConfig(hidden=(256,), learning_rate=0.02)], replace(OPTIONS, epochs=12))[0]
    scores = [entry["val_score"] for entry in outcome.history]
    assert outcome.best_epoch < 11
    assert scores[outcome.best_epoch] == max(scores) == outcome.best_score
    said = outcome.head.scores(data.source, data.val).argmax(axis=1)
    assert (said == data.targets.codes[data.val]).mean() == pytest.approx(outcome.best_score)


def test_of_equal_scores_the_one_with_the_lower_loss_is_best():
    progress = TrainingProgress()
    assert [progress.note_epoch(epoch, 1.0, loss, 0.9, 0) for epoch, loss in enumerate([0.5, 0.4, 0.6])] == [True, True, False]


def test_judged_by_loss_the_epoch_of_the_least_loss_is_kept_and_its_score_is_said():
    progress = TrainingProgress()
    epochs = [(0.5, 0.8), (0.6, 0.9), (0.4, 0.7)]
    taken = [progress.note_epoch(epoch, 1.0, loss, score, 0, by_loss=True) for epoch, (loss, score) in enumerate(epochs)]
    assert taken == [True, False, True]
    assert progress.best_score == 0.7


def test_a_linear_head_begins_near_nothing_and_a_deep_one_as_torch_does():
    linear, deep = (Parameters([HeadConfig(hidden=hidden)], 100, 4, "cpu").values.abs().max() for hidden in ((), (8,)))
    assert 0 < linear <= 0.001
    assert deep > 0.05


def test_patience_stops_a_head_alone_and_the_others_go_on():
    data = data_of(clouds(120, spread=3.0))
    heads = [HeadConfig(name="stops", hidden=(256,), learning_rate=0.02), HeadConfig(name="crawls", learning_rate=1e-5)]
    options = replace(OPTIONS, epochs=12, patience=2, monitor="loss")
    stops, crawls = train(data, heads, options)
    assert stops.is_stopped_early
    assert len(stops.history) == stops.best_epoch + 3
    assert not crawls.is_stopped_early
    assert len(crawls.history) == 12


def test_a_stopped_head_costs_no_further_epochs_when_it_was_the_last():
    data = data_of(clouds(120, spread=3.0))
    epochs = []
    head = HeadConfig(hidden=(256,), learning_rate=0.02)
    train(data, [head], replace(OPTIONS, epochs=50, patience=2, monitor="loss"), report=lambda epoch, _: epochs.append(epoch))
    assert epochs == list(range(len(epochs)))
    assert len(epochs) < 49


def test_the_default_ablation_learns_and_beats_chance():
    heads = [replace(head, learning_rate=0.02) for head in default_ablation()]
    outcomes = train(CLASSES, heads, replace(OPTIONS, epochs=8))
    assert [outcome.head.config.name for outcome in outcomes] == ["linear", "mlp-512", "mlp-512-augmented"]
    assert min(outcome.best_score for outcome in outcomes) > 0.6


def test_the_quality_preset_takes_auxiliary_columns_and_is_judged_by_pearson():
    made = unit_line()
    hidden = np.random.default_rng(5).standard_normal((400, 2)).astype(np.float32) * 50 + 1000
    values = 1 / (1 + np.exp(-(hidden[:, :1] - 1000) / 20))
    targets = Targets("regression", ("score",), np.empty(0, np.int64), values.astype(np.float32))
    data = TrainingData(made.source, targets, made.train, made.val, hidden)
    config = replace(quality_head(), learning_rate=3e-3)
    outcome = train(data, [config], TrainingOptions(epochs=10, batch_size=32, monitor="pearson"))[0]
    found = outcome.head.scores(made.source, made.val, hidden)
    assert np.corrcoef(found[:, 0], values[made.val, 0])[0, 1] == pytest.approx(outcome.best_score, abs=1e-4)
    assert outcome.best_score > 0.9
    assert ((found > 0) & (found < 1)).all()
    without = train(replace(data, auxiliary=None), [config], TrainingOptions(epochs=10, batch_size=32, monitor="pearson"))[0]
    assert without.best_score < 0.5


NOTHING = np.empty(0, np.int64)


REFUSED = {
    "no validation": (lambda: TrainingData(CLASSES.source, CLASSES.targets, CLASSES.train, NOTHING), "validation split has no"),
    "no training": (lambda: TrainingData(CLASSES.source, CLASSES.targets, NOTHING, CLASSES.val), "training split has 0 rows"),
    "auxiliary with a hole": (lambda: replace(CLASSES, auxiliary=np.full((400, 1), np.nan, np.float32)), "without a number"),
    "a name twice": (lambda: train(CLASSES, [HeadConfig(), HeadConfig()], OPTIONS), "'linear' names 2 of them"),
    "no heads": (lambda: train(CLASSES, [], OPTIONS), "there are none"),
    "softmax of numbers": (lambda: train(NUMBERS, [HeadConfig(output="softmax")], OPTIONS), "does not fit regression"),
    "sigmoid of large numbers": (lambda: train(NUMBERS, [HeadConfig(output="sigmoid")], OPTIONS), "only from 0 to 1"),
    "two scales": (
        lambda: train(SCORE, [HeadConfig(), HeadConfig(name="b", output="sigmoid")], OPTIONS), "Train them in two runs",
    ),
    "pearson of classes": (lambda: train(CLASSES, [HeadConfig()], replace(OPTIONS, monitor="pearson")), "needs numbers"),
    "accuracy of numbers": (lambda: train(NUMBERS, [HeadConfig()], replace(OPTIONS, monitor="accuracy")), "needs classes"),
    "a GPU of Apple's": (lambda: train(CLASSES, [HeadConfig()], replace(OPTIONS, device="mps")), "which cpu and cuda allow"),
    "divergence": (
        lambda: train(NUMBERS, [HeadConfig(hidden=(8,), optimizer="sgd", learning_rate=1e30)], OPTIONS), "rate is too high",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("action", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_is_refused_in_one_line(action, says):
    with pytest.raises(HeadstartError, match=says) as caught:
        action()
    assert "\n" not in str(caught.value)


def test_notebooks_train_from_matrices():
    made = clouds()
    splits = np.array(["train"] * 240 + ["val"] * 160)
    labels = [made.targets.names[code] for code in made.targets.codes]
    outcome = train_head_only(made.source.features, HeadConfig(learning_rate=0.05), labels, splits, OPTIONS)
    assert outcome.best_score > 0.5
    numbers = line().targets.values[:, 0].astype(np.float64)
    assert train_head_only(line().source.features, HeadConfig(), numbers, splits, OPTIONS).head.task == "regression"


def test_rows_without_a_number_are_left_out():
    made = line()
    values = made.targets.values.astype(np.float64).copy()
    values[::3] = np.nan
    targets = value_targets(["a", "b"], list(values.T), made.train)
    data = TrainingData(made.source, targets, made.train, made.val)
    assert len(data.train) == 160
    assert np.isfinite(train(data, [HeadConfig()], OPTIONS)[0].best_score)
