import numpy as np
import pytest

from headstart.experiments.data.columns import column_of, detected_task
from headstart.experiments.runs.experiment_data import data_of, training_folds
from headstart.features.store.packing import open_cache
from headstart.pipeline.errors import HeadstartError
from tests.features.packed import Extracted

COUNT = 40
SPLITS = ["train"] * 24 + ["val"] * 8 + ["test"] * 8
LABELS = [f"class {i % 2}" for i in range(COUNT)]
SCORES = [f"{i / 7:.4f}" for i in range(COUNT)]


def cached(workspace, labels=LABELS, splits=SPLITS, features=None, groups=None, **extra):
    made = np.random.default_rng(0).standard_normal((COUNT, 4)) if features is None else features
    result = Extracted(workspace, job_size=16)
    result.add(made, labels, splits, groups, {key: list(values) for key, values in extra.items()})
    return open_cache(result.folder)


def but(values, place, value):
    return [value if i == place else old for i, old in enumerate(values)]


BAD = {
    "one class only": ({"labels": ["cat"] * COUNT}, "classification", (), (), "has one class, 'cat'; a classifier needs two"),
    "no labels": ({"labels": [""] * COUNT}, "classification", (), (), "has no labels"),
    "a label in test that training lacks": (
        {"labels": but(LABELS, 39, "dog")},
        "classification",
        (),
        (),
        "1 image to judge on has a class that the training split lacks: 'dog'",
    ),
    "an empty validation split": (
        {"splits": ["train"] * 32 + ["test"] * 8},
        "classification",
        (),
        (),
        "the validation split has no",
    ),
    "all features equal": ({"features": np.ones((COUNT, 4))}, "classification", (), (), "have the same 4 features"),
    "all targets equal": ({"score": ["0.5"] * COUNT}, "regression", ("score",), (), "has the value 0.5 on all 24 rows"),
    "no target is a number": ({"score": ["nan"] * COUNT}, "regression", ("score",), (), "has no number at all"),
    "a target that is a word": ({"score": but(SCORES, 3, "high")}, "regression", ("score",), (), "'high', expected a number"),
    "two targets of a classifier": ({"score": SCORES}, "classification", ("score", "label"), (), "a classifier has one"),
    "an auxiliary word": ({"size": but(SCORES, 3, "big")}, "classification", (), ("size",), "of image_000003.png is 'big'"),
    "an auxiliary value that is missing": (
        {"size": but(SCORES, 3, "")},
        "classification",
        (),
        ("size",),
        "rows without a number",
    ),
    "an auxiliary test value that is missing": (
        {"size": but(SCORES, 39, "")},
        "classification",
        (),
        ("size",),
        "test rows without",
    ),
    "a column that is not there": ({"score": SCORES}, "regression", ("scroe",), (), "no column 'scroe'. Did you mean 'score'"),
}


@pytest.mark.parametrize(("data", "task", "targets", "auxiliary", "said"), BAD.values(), ids=BAD)
def test_what_no_head_can_learn_from_is_one_line(workspace, data, task, targets, auxiliary, said):
    found = cached(workspace, **data)
    with pytest.raises(HeadstartError, match=said) as error:
        data_of(found, task, targets, auxiliary, 0)
    assert "\n" not in str(error.value)


NOTED = {
    "a class with one image": (
        {"labels": but(LABELS, 3, "rare")},
        "classification",
        (),
        "1 of 3 classes has one training image",
    ),
    "targets that are missing": (
        {"score": but(but(SCORES, 3, "nan"), 39, "")},
        "regression",
        ("score",),
        "2 images have no target and are left out",
    ),
    "no test split": ({"splits": ["train"] * 32 + ["val"] * 8}, "classification", (), "judged on validation alone"),
}


@pytest.mark.parametrize(("data", "task", "targets", "said"), NOTED.values(), ids=NOTED)
def test_what_a_reader_of_the_numbers_should_know_is_noted(workspace, data, task, targets, said):
    [note] = data_of(cached(workspace, **data), task, targets, (), 0).notes
    assert said in note


def test_rows_without_a_target_are_in_no_split(workspace):
    found = data_of(cached(workspace, score=but(but(SCORES, 3, "nan"), 39, "")), "regression", ("score",), (), 0)
    assert found.counts == {"train": 23, "val": 8, "test": 7, "images": 40}


def test_without_a_validation_split_whole_groups_of_training_are_set_aside(workspace):
    groups = [f"patient {i // 4}" for i in range(COUNT)]
    source = cached(workspace, splits=["train"] * 32 + ["test"] * 8, groups=groups)
    found = data_of(source, "classification", (), (), 0.25)
    assert (len(found.data.train), len(found.data.val), len(found.test)) == (24, 8, 8)
    assert not set(source.groups[found.data.train]) & set(source.groups[found.data.val])
    assert (data_of(source, "classification", (), (), 0.25).data.val == found.data.val).all()


def test_folds_of_training_rows_leave_groups_whole(workspace):
    groups = [f"patient {i // 4}" for i in range(COUNT)]
    found = data_of(cached(workspace, groups=groups), "classification", (), (), 0)
    fold_of = training_folds(found, 3)
    assert len(fold_of) == len(found.data.train) == 24
    of = dict(zip(found.features.groups[found.data.train].tolist(), fold_of.tolist(), strict=True))
    assert [of[group] for group in found.features.groups[found.data.train]] == fold_of.tolist()
    assert sorted(of.values()) == [0, 0, 1, 1, 2, 2]
    assert training_folds(found, 0) is None


def test_no_class_loses_its_last_training_image_to_validation(workspace):
    labels = [f"class {i % 2}" if i < 8 else f"own {i % 16}" for i in range(32)] + ["class 0"] * 8
    found = data_of(cached(workspace, labels=labels, splits=["train"] * 32 + ["test"] * 8), "classification", (), (), 0.5)
    assert set(found.data.targets.codes[found.data.val]) <= set(found.data.targets.codes[found.data.train])


@pytest.mark.parametrize(
    ("targets", "task"),
    [((), "classification"), (("score",), "regression"), (("digit",), "classification"), (("score", "digit"), "regression")],
)
def test_the_task_is_what_the_values_look_like(workspace, targets, task):
    assert detected_task(cached(workspace, score=SCORES, digit=[f"{i % 10}" for i in range(COUNT)]), targets) == task


def test_the_label_is_a_column_too(workspace):
    source = cached(workspace)
    assert column_of(source, "label") == source.labels.tolist()


def test_more_than_a_hundred_different_whole_numbers_are_amounts(workspace):
    made = Extracted(workspace, job_size=50)
    made.add(np.ones((101, 4)), [f"{i}" for i in range(101)])
    assert detected_task(open_cache(made.folder), ()) == "regression"


def test_a_column_of_names_in_a_table_is_still_refused_as_classes(workspace):
    labels = [f"class {i % 20}" for i in range(COUNT)]
    rows = cached(workspace, labels=labels, splits=["train"] * 20 + ["test"] * 20)
    with pytest.raises(HeadstartError, match="looks like a name"):
        data_of(rows, "classification", (), (), 0.1)
