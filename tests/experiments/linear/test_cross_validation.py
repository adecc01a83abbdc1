import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from headstart.experiments.data.group_folds import group_folds
from headstart.experiments.linear.cross_validation import cross_validate_ridge
from headstart.pipeline.errors import HeadstartError
from tests.experiments.samples import clouds, line


@given(st.lists(st.sampled_from(["", *"abcdefgh"]), min_size=30, max_size=80), st.integers(0, 9))
def test_a_group_never_stands_in_two_folds_and_every_row_has_one(groups, seed):
    groups = [*groups, *"abcde"]
    fold_of = group_folds(groups, 5, seed)
    assert set(fold_of.tolist()) <= set(range(5))
    for name in set(groups) - {""}:
        assert len(set(fold_of[np.array(groups) == name].tolist())) == 1


def test_without_groups_folds_are_equal_to_one_row():
    counts = np.bincount(group_folds([""] * 103, 5))
    assert sorted(counts.tolist()) == [20, 20, 21, 21, 21]


def test_rows_without_group_fill_what_groups_left_uneven():
    counts = np.bincount(group_folds(["a"] * 10 + ["b"] * 2 + [""] * 8, 2))
    assert counts.tolist() == [10, 10]


def test_too_few_groups_are_refused():
    with pytest.raises(HeadstartError, match="2 groups cannot make 5 folds"):
        group_folds(["a", "a", "b"], 5)


def test_subtracting_a_fold_is_training_without_it():
    made = clouds()
    fold_of = group_folds([""] * 240, 4)
    found = cross_validate_ridge(made.source, made.targets, made.train, fold_of, [0.01, 0.1])
    for fold in range(4):
        inside, outside = made.train[fold_of != fold], made.train[fold_of == fold]
        rows = made.source.features.astype(np.float64)
        rows = (rows - rows[inside].mean(axis=0)) / rows[inside].std(axis=0)
        for column, l2 in enumerate([0.01, 0.1]):
            theirs = Ridge(alpha=l2 * len(inside)).fit(rows[inside], made.targets.dense(inside))
            wanted = (theirs.predict(rows[outside]).argmax(axis=1) == made.targets.codes[outside]).mean()
            assert found.scores[fold, column] == pytest.approx(wanted)


def test_numbers_are_scored_by_r2_and_the_better_penalty_wins():
    made = line(noise=0.5)
    found = cross_validate_ridge(made.source, made.targets, made.train, group_folds([""] * 240, 5), [1e-3, 1e3])
    assert found.best == 0
    assert 0.3 < found.scores[:, 0].mean() <= 1
    assert found.scores[:, 1].mean() < 0.1
