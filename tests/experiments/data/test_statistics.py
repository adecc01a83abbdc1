import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.statistics import gather_statistics, merged, standardization_of
from headstart.experiments.data.targets import class_targets
from headstart.pipeline.errors import HeadstartError
from tests.experiments.samples import clouds, line

FIELDS = ("count", "sums", "gram", "target_sums", "products", "target_squares")


def agree(left, right, relative=1e-6, of=None):
    """`of`: the rows that `left` was computed from, if it is what some of them leave of others."""
    right = right.about(left.shift)
    # What is rounded is what the numbers added up could come to (Cauchy-Schwarz), even where they cancel to nearly nothing.
    added = (of or right).about(left.shift)
    rows, targets = np.diagonal(added.gram).max(), added.target_squares.max()
    size = {"count": 0, "gram": rows, "target_squares": targets} | {
        "sums": (added.count * rows) ** 0.5,
        "products": (rows * targets) ** 0.5,
        "target_sums": (added.count * targets) ** 0.5,
    }
    for name in FIELDS:
        a, b = np.asarray(getattr(left, name)), np.asarray(getattr(right, name))
        assert np.abs(a - b).max() <= relative * size[name] + 1e-9, name


def test_one_pass_gives_what_float64_gives():
    made = clouds(5000, 40)
    found = gather_statistics(made.source, made.targets, {"train": made.train})["train"]
    rows = made.source.features[made.train].astype(np.float64) - found.shift
    wanted = made.targets.dense(made.train).astype(np.float64)
    assert np.abs(found.gram - rows.T @ rows).max() < 2e-6 * np.abs(found.gram).max()
    assert np.abs(found.products - rows.T @ wanted).max() < 1e-6 * np.abs(found.products).max()
    assert found.target_sums.tolist() == wanted.sum(axis=0).tolist()
    assert found.count == 3000


def test_a_large_mean_costs_no_accuracy():
    random = np.random.default_rng(0)
    features = (1000 + random.standard_normal((4000, 6))).astype(np.float16)
    made = clouds(4000, 6)
    found = standardization_of(gather_statistics(ArrayFeatures(features), made.targets, {"all": np.arange(4000)})["all"])
    exact = features.astype(np.float64)
    assert np.allclose(found.mean, exact.mean(axis=0), rtol=1e-9)
    assert np.allclose(found.scale, exact.std(axis=0), rtol=2e-6)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=60, max_size=60), st.booleans())
def test_cells_add_up_to_the_whole_and_subtracting_one_leaves_the_rest(cells, is_regression):
    made = line(60, 5) if is_regression else clouds(60, 5)
    cells = np.array(cells)
    members = {str(cell): np.flatnonzero(cells == cell) for cell in range(4)}
    parts = gather_statistics(made.source, made.targets, members)
    whole = gather_statistics(made.source, made.targets, {"all": np.arange(60)})["all"]
    agree(merged(list(parts.values())), whole, relative=1e-5)  # blocks are multiplied in float32
    rest = gather_statistics(made.source, made.targets, {"rest": np.flatnonzero(cells != 0)})["rest"]
    agree(whole - parts["0"], rest, relative=1e-5, of=whole)


def test_new_jobs_are_merged_in_whatever_point_they_were_counted_from():
    made = clouds(300, 8)
    old = gather_statistics(made.source, made.targets, {"old": np.arange(200)})["old"]
    new = gather_statistics(made.source, made.targets, {"new": np.arange(200, 300)}, shift=np.full(8, 0.5))["new"]
    agree(old + new, gather_statistics(made.source, made.targets, {"all": np.arange(300)})["all"])


def test_standardization_sees_the_training_rows_only():
    made = clouds()
    features = made.source.features.copy()
    features[made.test] = 999
    cells = {"train": made.train}
    before = standardization_of(gather_statistics(made.source, made.targets, cells)["train"])
    after = standardization_of(gather_statistics(ArrayFeatures(features), made.targets, cells)["train"])
    assert np.array_equal(before.mean, after.mean)
    assert np.array_equal(before.scale, after.scale)


def test_a_dead_channel_becomes_zero_and_not_infinite():
    made = clouds()
    features = made.source.features.copy()
    features[:, 4] = 0.1
    found = standardization_of(gather_statistics(ArrayFeatures(features), made.targets, {"train": made.train})["train"])
    assert found.scale[4] == 1
    assert found.mean[4] == np.float64(np.float16(0.1))


def test_rows_without_a_target_do_not_count():
    made = clouds(40)
    labels = [made.targets.names[code] if i % 4 else "" for i, code in enumerate(made.targets.codes)]
    targets = class_targets(labels, made.train)
    assert gather_statistics(made.source, targets, {"all": np.arange(40)})["all"].count == 30


def test_an_empty_training_split_is_named():
    made = clouds(40)
    with pytest.raises(HeadstartError, match="training split has no rows"):
        standardization_of(gather_statistics(made.source, made.targets, {"train": np.empty(0, np.int64)})["train"])
