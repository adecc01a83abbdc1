import numpy as np
import pytest

from headstart.experiments import fold_ridge
from headstart.experiments.closed_form import center, fit_ridge_path
from headstart.experiments.fold_ridge import fit_fold_path
from headstart.experiments.folds import cross_validate_ridge, group_folds
from headstart.experiments.statistics import gather

from .samples import clouds, line

PENALTIES = list(np.geomspace(1e-6, 10, 12))


def parts(made):
    whole = gather(made.source, made.targets, {"x": made.train})["x"]
    rest = gather(made.source, made.targets, {"x": made.train[len(made.train) // 5 :]})["x"]
    return whole, rest, np.linalg.eigh(center(whole).gram)


def refused(*arguments):
    raise AssertionError("decomposed again")


@pytest.mark.parametrize("made", [clouds(2000, 40), line(2000, 40)], ids=["classes", "numbers"])
def test_a_fold_is_solved_from_the_eigenvectors_of_all_rows(made, monkeypatch):
    whole, rest, spectrum = parts(made)
    wanted = fit_ridge_path(rest, PENALTIES)
    monkeypatch.setattr(fold_ridge, "fit_ridge_path", refused)
    for left, right in zip(fit_fold_path(rest, PENALTIES, spectrum, whole.count), wanted, strict=True):
        assert np.allclose(left.weight, right.weight, rtol=0, atol=1e-3 * np.abs(right.weight).max())
        assert np.allclose(left.bias, right.bias, rtol=1e-3, atol=1e-3 * np.abs(right.bias).max())


def test_rows_that_say_little_about_the_rest_are_solved_directly(monkeypatch):
    whole, rest, _ = parts(clouds(60, 40))  # fewer rows than channels
    monkeypatch.setattr(fold_ridge, "_MOST_STEPS", 1)
    misleading = (np.ones(40), np.eye(40))
    for left, right in zip(fit_fold_path(rest, PENALTIES, misleading, whole.count), fit_ridge_path(rest, PENALTIES), strict=True):
        assert np.array_equal(left.weight, right.weight)


def test_cross_validation_of_many_penalties_is_that_of_each_alone():
    made = clouds(900)
    folds = group_folds([""] * len(made.train), 5)
    together = cross_validate_ridge(made.source, made.targets, made.train, folds, PENALTIES)
    for number, penalty in enumerate(PENALTIES):
        alone = cross_validate_ridge(made.source, made.targets, made.train, folds, [penalty])
        assert together.scores[:, number] == pytest.approx(alone.scores[:, 0], abs=0.01)
        assert np.allclose(together.heads[number].weight, alone.heads[0].weight, rtol=1e-6, atol=1e-9)
