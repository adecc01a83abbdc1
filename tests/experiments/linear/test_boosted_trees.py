"""Boosted trees as plain arrays."""

import numpy as np
import pytest

from headstart.experiments.linear import boosted_trees
from headstart.experiments.linear.boosted_trees import MAX_DEPTH, TreeOptions, fit_trees, said_beside, screened

FEW = TreeOptions(max_iter=12)


def told(forest, rows):
    """What a forest says, node by node."""
    answers = np.full(len(rows), forest.start)
    for feature, threshold, left, right, value in zip(
        forest.feature, forest.threshold, forest.left, forest.right, forest.value, strict=True
    ):
        place = np.zeros(len(rows), np.int64)
        for _ in range(MAX_DEPTH):
            goes_left = rows[np.arange(len(rows)), feature[place]] <= threshold[place]
            place = np.where(goes_left, left[place], right[place])
        answers += value[place]
    return answers


def table(rows=300, columns=6):
    draw = np.random.default_rng(0)
    values = draw.normal(size=(rows, columns)).astype(np.float32)
    return values, (np.sin(3 * values[:, 1]) + values[:, 3] ** 2).astype(np.float32)


def test_arrays_say_what_scikit_learn_says():
    from sklearn.ensemble import HistGradientBoostingRegressor

    rows, target = table()
    model = HistGradientBoostingRegressor(
        max_iter=FEW.max_iter,
        learning_rate=FEW.learning_rate,
        max_leaf_nodes=FEW.max_leaf_nodes,
        min_samples_leaf=FEW.min_samples_leaf,
        l2_regularization=FEW.l2_regularization,
        max_features=FEW.max_features,
        max_bins=FEW.max_bins,
        max_depth=MAX_DEPTH,
        early_stopping=False,
        random_state=3,
    ).fit(rows, target)
    new, _ = table(rows=900)
    np.testing.assert_allclose(told(fit_trees(rows, target, FEW, 3), new), model.predict(new), atol=1e-5)


def test_a_row_on_a_threshold_goes_where_it_went():
    rows, target = table()
    forest = fit_trees(rows, target, FEW, 0)
    inner = forest.threshold[np.isfinite(forest.threshold)]
    assert len(inner)
    assert not np.isin(inner, rows).all()  # thresholds lie between numbers, and none is rounded up onto the next one
    for column in range(rows.shape[1]):
        mine = forest.threshold[(forest.feature == column) & np.isfinite(forest.threshold)]
        for threshold in mine:
            above = rows[:, column][rows[:, column] > threshold]
            assert not len(above) or np.float32(threshold) < above.min()


def test_the_same_rows_give_the_same_trees():
    rows, target = table()
    one, other = (fit_trees(rows, target, FEW, 1) for _ in range(2))
    for name in ("feature", "threshold", "left", "right", "value"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_trees_look_only_at_their_columns():
    rows, target = table()
    forest = fit_trees(rows, target, FEW, 0, columns=[2, 3])
    assert set(forest.feature[np.isfinite(forest.threshold)].tolist()) <= {2, 3}


@pytest.mark.parametrize("sign", [1, -1])
def test_the_columns_that_matter_are_kept(sign):
    draw = np.random.default_rng(1)
    features = draw.normal(size=(80, 30)).astype(np.float32)
    features[:, 4] = 7
    values = sign * 2 * features[:, 11] + features[:, 20] + 0.01 * draw.normal(size=80)
    assert screened(features, values, 2).tolist() == [11, 20]
    assert screened(features, values, 99).tolist() == list(range(30))


@pytest.mark.parametrize("known", [0, 3, 4, 6], ids=lambda count: f"{count} of 6 columns are known")
def test_many_rows_beside_the_same_numbers_get_what_each_gets(monkeypatch, known):
    monkeypatch.setattr(boosted_trees, "_ROWS_AT_ONCE", 100)
    rows, target = table()
    forest = fit_trees(rows, target, FEW, 0)
    beside = rows[:, known:]
    whole = np.concatenate([np.tile(rows[7, :known], (len(rows), 1)), beside], 1)
    np.testing.assert_allclose(said_beside(forest, rows[7, :known], beside), told(forest, whole), atol=1e-6)


def test_a_row_on_a_threshold_goes_left_whichever_side_it_is_known_from():
    rows, target = table()
    forest = fit_trees(rows, target, FEW, 0)
    row = rows[0].copy()
    row[forest.feature[0, 0]] = forest.threshold[0, 0]
    for known in (0, 6):
        np.testing.assert_allclose(said_beside(forest, row[:known], row[None, known:]), told(forest, row[None]), atol=1e-6)


@pytest.mark.parametrize("known", [0, 6], ids=["numbers of the rows", "numbers of the image"])
def test_a_tree_that_leads_in_a_circle_comes_to_an_end(known):
    rows, target = table()
    forest = fit_trees(rows, target, FEW, 0)
    forest.right[:] = forest.left[:] = 0
    forest.right[:, 0] = forest.left[:, 0] = 1
    said = said_beside(forest, rows[0, :known], rows[:3, known:])
    np.testing.assert_allclose(said, forest.start + forest.value[:, 0].sum(), atol=1e-6)
