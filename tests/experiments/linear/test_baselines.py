import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from headstart.experiments.config import BaselineOptions
from headstart.experiments.data.group_folds import group_folds
from headstart.experiments.data.statistics import gather_statistics
from headstart.experiments.linear.baselines import fit_baselines, inputs_of, prepare_baselines
from headstart.experiments.linear.cross_validation import cross_validate_ridge
from headstart.experiments.linear.penalty_path import PENALTIES, best_logistic
from headstart.pipeline.errors import HeadstartError, InterruptedWork
from tests.experiments.samples import clouds
from tests.experiments.trainings import CLASSES, NUMBERS, data_of

COLUMNS = np.random.default_rng(0).standard_normal((400, 2)).astype(np.float32) * 50 + 1000
WITH_COLUMNS = replace(CLASSES, auxiliary=COLUMNS)
BOTH = pytest.mark.parametrize("data", [CLASSES, WITH_COLUMNS], ids=["features", "auxiliary columns too"])


def fitted(data, wanted, fold_of=None):
    return {baseline.name: baseline for baseline in fit_baselines(data, wanted, fold_of)[0]}


def test_without_being_asked_for_none_that_takes_long_is_fitted():
    assert list(fitted(CLASSES, BaselineOptions())) == ["ridge", "lda", "nearest-mean"]
    assert list(fitted(NUMBERS, BaselineOptions())) == ["ridge", "mean"]


def of_path(data, **options):
    source = inputs_of(data)
    statistics = gather_statistics(source, data.targets, {"train": data.train})["train"]
    return best_logistic(source, data.targets, data.train, statistics, data.val, **options)


@BOTH
def test_logistic_is_the_head_of_the_path_that_validation_likes_best(data):
    found = fitted(data, BaselineOptions(logistic=True))["logistic"]
    penalty, head = of_path(data)
    assert found.settings == {"l2": penalty}
    assert np.array_equal(found.head.weight, head.weight)
    assert found.head.weight.shape == (3, data.inputs)


@BOTH
def test_folds_choose_the_penalty_of_a_ridge_of_all_training_rows(data):
    folds = group_folds([f"scene {i // 3}" for i in range(len(data.train))], 4)
    found = fitted(data, BaselineOptions(folds=4), folds)["ridge-4-fold"]
    path = cross_validate_ridge(inputs_of(data), data.targets, data.train, folds, PENALTIES)
    scores = path.scores[:, path.best]
    assert found.settings["l2"] == PENALTIES[path.best]
    assert found.settings["cross_validation"] == {
        "folds": 4,
        "metric": "accuracy",
        "mean": pytest.approx(np.mean(scores)),
        "spread": pytest.approx(np.std(scores, ddof=1)),
        "scores": scores.tolist(),
    }
    assert np.array_equal(found.head.weight, path.heads[path.best].weight)
    assert found.head.weight.shape == (3, data.inputs)


def test_folds_of_numbers_are_scored_by_r2_even_if_each_has_a_single_row():
    found = fitted(NUMBERS, BaselineOptions(folds=240), np.arange(240))["ridge-240-fold"].settings["cross_validation"]
    assert found["metric"] == "r2"
    assert 0.8 < found["mean"] <= 1
    assert np.isfinite(found["scores"]).all()


@pytest.mark.parametrize("wanted", [BaselineOptions(logistic=True), BaselineOptions(folds=4)], ids=["logistic", "folds"])
def test_whoever_wants_to_leave_need_not_wait_for_the_end(wanted):
    calls = iter(range(2))

    def check():
        if next(calls, None) is None:
            raise InterruptedWork

    data = data_of(clouds())
    with pytest.raises(InterruptedWork):
        fit_baselines(data, wanted, np.arange(len(data.train)) % 4 if wanted.folds else None, check)


@pytest.mark.parametrize("folds", [-1, 1])
def test_a_single_fold_is_refused(folds):
    with pytest.raises(HeadstartError, match=f"folds is {folds}, expected 2 or more"):
        BaselineOptions(folds=folds)


LIGHT = """
import sys
import numpy as np
from headstart.experiments.config import BaselineOptions
from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.targets import class_targets
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.linear.baselines import fit_baselines
rows = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float16)
train, val = np.arange(40), np.arange(40, 60)
data = TrainingData(ArrayFeatures(rows), class_targets(["a", "b"] * 30, train), train, val)
fit_baselines(data, BaselineOptions(logistic=True))
print(*sorted({"scipy", "sklearn", "torch"} & set(sys.modules)))
"""


def test_baselines_of_classes_are_fitted_without_what_takes_long_to_import():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_axes_computed_beside_an_import_are_those_computed_alone():
    seen = []
    alone = prepare_baselines(CLASSES, BaselineOptions(logistic=True))
    beside = prepare_baselines(CLASSES, BaselineOptions(logistic=True), lambda: seen.append("imported"))
    assert seen == ["imported"]
    assert np.array_equal(beside.axes.vectors, alone.axes.vectors)
    wanted, found = (fit_baselines(CLASSES, BaselineOptions(logistic=True), prepared=each)[0] for each in (None, beside))
    for one, two in zip(wanted, found, strict=True):
        assert np.array_equal(one.head.weight, two.head.weight)
    assert prepare_baselines(CLASSES, BaselineOptions()).axes is None


BESIDE = """
import sys
import numpy as np
from headstart.experiments.config import BaselineOptions
from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.targets import class_targets
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.linear.baselines import prepare_baselines
rows = np.random.default_rng(0).standard_normal((60, 80)).astype(np.float16)
train, val = np.arange(40), np.arange(40, 60)
columns = np.ones((60, 1), np.float32)
data = TrainingData(ArrayFeatures(rows), class_targets(["a", "b"] * 30, train), train, val, columns)
sys.modules["torch"] = type(sys)("torch")  # without anything yet
sys.modules["torch"].__spec__ = type("Spec", (), {"_initializing": True})
print(prepare_baselines(data, BaselineOptions(logistic=True)).axes.vectors.shape[0])
"""


def test_rows_are_read_while_another_thread_imports_torch():
    done = subprocess.run([sys.executable, "-c", BESIDE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("81\n", "")
