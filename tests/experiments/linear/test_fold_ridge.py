import numpy as np
import pytest

from headstart.experiments.data.group_folds import group_folds
from headstart.experiments.data.statistics import gather_statistics
from headstart.experiments.linear import cross_validation
from headstart.experiments.linear.closed_form import center, fit_ridge_path, ridge_factor
from headstart.experiments.linear.cross_validation import (
    cross_validate_ridge,
    fit_fold_path,
    preconditioner_by_eigenvectors,
    preconditioner_by_factors,
)
from tests.experiments.samples import clouds, line

PENALTIES = list(np.geomspace(1e-6, 10, 12))


def parts(made):
    whole = gather_statistics(made.source, made.targets, {"x": made.train})["x"]
    rest = gather_statistics(made.source, made.targets, {"x": made.train[len(made.train) // 5 :]})["x"]
    return center(whole), rest


def by_eigenvectors(centered):
    return preconditioner_by_eigenvectors(centered, np.linalg.eigh(centered.gram), PENALTIES)


def by_factors(centered):
    return preconditioner_by_factors(centered, [ridge_factor(centered, penalty) for penalty in PENALTIES])


def refused(*arguments):
    raise AssertionError("decomposed again")


@pytest.mark.parametrize("made", [clouds(2000, 40), line(2000, 40)], ids=["classes", "numbers"])
@pytest.mark.parametrize("preconditioner", [by_eigenvectors, by_factors])
def test_a_fold_is_solved_from_what_was_computed_for_all_rows(made, preconditioner, monkeypatch):
    whole, rest = parts(made)
    wanted = fit_ridge_path(rest, PENALTIES)
    monkeypatch.setattr(cross_validation, "fit_ridge_path", refused)
    for left, right in zip(fit_fold_path(rest, PENALTIES, preconditioner(whole)), wanted, strict=True):
        assert np.allclose(left.weight, right.weight, rtol=0, atol=1e-3 * np.abs(right.weight).max())
        assert np.allclose(left.bias, right.bias, rtol=1e-3, atol=1e-3 * np.abs(right.bias).max())


def test_rows_that_say_little_about_the_rest_are_solved_directly(monkeypatch):
    whole, rest = parts(clouds(60, 40))  # fewer rows than channels
    monkeypatch.setattr(cross_validation, "_MOST_STEPS", 1)
    misleading = preconditioner_by_eigenvectors(whole, (np.ones(40), np.eye(40)), PENALTIES)
    for left, right in zip(fit_fold_path(rest, PENALTIES, misleading), fit_ridge_path(rest, PENALTIES), strict=True):
        assert np.array_equal(left.weight, right.weight)


def test_cross_validation_of_many_penalties_is_that_of_each_alone():
    made = clouds(900)
    folds = group_folds([""] * len(made.train), 5)
    together = cross_validate_ridge(made.source, made.targets, made.train, folds, PENALTIES)
    for number, penalty in enumerate(PENALTIES):
        alone = cross_validate_ridge(made.source, made.targets, made.train, folds, [penalty])
        assert together.scores[:, number] == pytest.approx(alone.scores[:, 0], abs=0.01)
        assert np.allclose(together.heads[number].weight, alone.heads[0].weight, rtol=1e-6, atol=1e-9)
