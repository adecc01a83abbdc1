import numpy as np
import pytest

from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.statistics import gather_statistics
from headstart.experiments.data.targets import class_targets
from headstart.experiments.linear.axes import axes_of
from headstart.experiments.linear.blas import libraries
from headstart.experiments.linear.closed_form import SingularError, fit_lda, fit_ridge_path
from tests.experiments.linear.test_logistic import few_rows


@pytest.mark.parametrize(("count", "channels"), [(20, 48), (200, 16)], ids=["fewer rows than channels", "more"])
def test_ridge_along_the_axes_is_ridge(count, channels):
    made = few_rows(count, channels)
    statistics = gather_statistics(made.source, made.targets, {"train": made.train})["train"]
    turned = axes_of(made.source, made.train, statistics)
    for penalty, wanted in zip((1e-3, 1.0), fit_ridge_path(statistics, (1e-3, 1.0)), strict=True):
        np.testing.assert_allclose(turned.ridge(penalty).weight, wanted.weight, atol=1e-4)
        np.testing.assert_allclose(turned.ridge(penalty).bias, wanted.bias, atol=1e-4)


@pytest.mark.parametrize(("count", "channels"), [(20, 48), (200, 16)], ids=["fewer rows than channels", "more"])
@pytest.mark.parametrize("shrinkage", [1e-3, 0.3])
def test_lda_along_the_axes_is_lda(count, channels, shrinkage):
    made = few_rows(count, channels)
    statistics = gather_statistics(made.source, made.targets, {"train": made.train})["train"]
    found, wanted = axes_of(made.source, made.train, statistics).lda(statistics, shrinkage), fit_lda(statistics, shrinkage)
    np.testing.assert_allclose(found.weight, wanted.weight, atol=1e-3 * np.abs(wanted.weight).max())
    np.testing.assert_allclose(found.bias, wanted.bias, atol=1e-3 * np.abs(wanted.bias).max())


def test_lda_of_rows_that_do_not_differ_within_a_class_has_no_spread_to_go_by():
    made = few_rows(20, 48)
    features = made.source.features[:3].repeat(2, axis=0)
    targets = class_targets(["a", "a", "b", "b", "c", "c"], np.arange(6))
    statistics = gather_statistics(ArrayFeatures(features), targets, {"train": np.arange(6)})["train"]
    with pytest.raises(SingularError, match="no class has images that differ"):
        axes_of(ArrayFeatures(features), np.arange(6), statistics).lda(statistics)


def test_axes_have_the_same_bits_with_any_number_of_threads_of_blas():
    made = few_rows(900, 400)
    statistics = gather_statistics(made.source, made.targets, {"train": made.train})["train"]
    found = []
    for threads in (1, 2):
        with libraries().limit(limits=threads, user_api="blas"):
            found.append(axes_of(made.source, made.train, statistics).vectors)
    assert np.array_equal(*found)
