"""Numbers of sets of pictures, against ones computed by hand."""

import numpy as np
import pytest

from headstart.experiments.designs.measures import flatness, frechet, nearest_pictures, pair_distance

RANDOM = np.random.default_rng(0)


def flat(*levels):
    """Pictures of 8 x 8, each of one level."""
    return np.stack([np.full((8, 8, 3), level, np.uint8) for level in levels])


def test_a_set_has_no_distance_to_itself_and_the_square_of_a_shift_to_its_shifted_self():
    features = RANDOM.normal(size=(200, 5)) @ RANDOM.normal(size=(5, 5))
    assert frechet(features, features) == pytest.approx(0, abs=1e-8)
    assert frechet(features, features + np.array([3, 0, 4, 0, 0])) == pytest.approx(25)


def test_the_distance_is_that_of_the_formula_also_where_features_never_change():
    first, second = RANDOM.normal(size=(500, 3)), RANDOM.normal(size=(400, 3)) * [2, 0.5, 1]
    first[:, 2] = second[:, 2] = 7.0
    c1, c2 = np.cov(first.T), np.cov(second.T)
    values = np.linalg.eigvals(c1 @ c2).real.clip(min=0)
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(c1 + c2) - 2 * np.sqrt(values).sum()
    assert frechet(first, second) == pytest.approx(expected)


def test_few_of_many_features_have_a_finite_distance():
    assert np.isfinite(frechet(RANDOM.normal(size=(2, 40)), RANDOM.normal(size=(3, 40))))


def test_spread_is_the_mean_over_pairs_of_one_group():
    images = flat(0, 10, 30, 100, 200)
    assert pair_distance(images, np.array([0, 0, 0, 1, 2])) == pytest.approx((10 + 20 + 30) / 3)
    assert pair_distance(images, np.arange(5)) == 0


def test_neighbours_are_alike_if_no_channel_differs_by_more_than_four():
    image = flat(100)
    assert flatness(image) == 1
    image[0, :, 4:, 2] += 4
    assert flatness(image) == 1
    image[0, :, 4:, 2] += 1
    assert flatness(image) == pytest.approx(1 - 8 / 112)  # one of seven steps across in each row


def test_the_nearest_picture_is_found_whatever_its_place():
    among = RANDOM.integers(0, 256, (1100, 8, 8, 3)).astype(np.uint8)
    images = among[[1099, 0, 600]].copy()
    images[2, 0, 0, 0] ^= 1
    distances, places = nearest_pictures(images, among)
    assert places.tolist() == [1099, 0, 600]
    assert distances == pytest.approx([0, 0, (1 / 192) ** 0.5])
