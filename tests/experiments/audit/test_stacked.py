"""Each view judges a row as if that row and its group had not been there, and together they know more than one alone."""

import numpy as np

from headstart.experiments.audit.label_errors import judged_probabilities, left_out_probabilities
from headstart.experiments.audit.neighbours import Neighbours
from headstart.experiments.audit.stacked import kernel_scores, neighbour_votes
from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.targets import class_targets


def test_kernel_scores_are_those_of_a_fit_without_the_row_and_its_group():
    random = np.random.default_rng(0)
    rows = random.standard_normal((60, 5)).astype(np.float32)
    codes = random.integers(0, 3, 60)
    groups = np.array([""] * 30 + [f"g{number // 5}" for number in range(30)])
    scores = kernel_scores(rows, codes, groups, 3, lambda: None)
    squares = ((rows[:, None] - rows) ** 2).sum(axis=2).astype(np.float64)
    kernel = np.exp(-squares / 2 / np.median(squares))
    targets = np.eye(3)[codes] - 1 / 3
    for row in range(60):
        others = [other for other in range(60) if other != row and not (groups[row] and groups[other] == groups[row])]
        gram = kernel[np.ix_(others, others)] + np.eye(len(others))
        assert np.abs(8 * kernel[row, others] @ np.linalg.solve(gram, targets[others]) - scores[row]).max() < 5e-3


def test_neighbours_of_ones_own_group_do_not_vote():
    near = Neighbours(np.array([[1, 2], [0, 2], [0, 1]]), np.ones((3, 2), np.float32))
    votes = np.expm1(neighbour_votes(near, np.array([0, 1, 1]), np.array(["a", "a", ""]), 2))
    assert votes.round().tolist() == [[0, 1], [0, 1], [1, 1]]


def test_what_no_line_divides_is_judged_better_by_all_views_than_by_one():
    random = np.random.default_rng(0)
    rows = random.uniform(-1, 1, (1200, 6))
    codes = (rows[:, 0] * rows[:, 1] > 0).astype(int)  # quadrants: logistic regression is at a loss
    source, everything = ArrayFeatures(rows.astype(np.float16)), np.arange(1200)
    targets = class_targets([f"class {code}" for code in codes], everything)
    none = np.full(1200, "")
    alone = left_out_probabilities(source, targets, everything, none).argmax(axis=1)
    together = judged_probabilities(source, targets, everything, none).argmax(axis=1)
    assert (alone == targets.codes).mean() < 0.6
    assert (together == targets.codes).mean() > 0.85


def test_without_any_signal_all_views_together_do_no_better_than_chance():
    random = np.random.default_rng(1)
    rows = random.standard_normal((1000, 6)).astype(np.float16)
    targets = class_targets([f"class {code}" for code in random.integers(0, 2, 1000)], np.arange(1000))
    said = judged_probabilities(ArrayFeatures(rows), targets, np.arange(1000), np.full(1000, "")).argmax(axis=1)
    assert abs((said == targets.codes).mean() - 0.5) < 0.06
