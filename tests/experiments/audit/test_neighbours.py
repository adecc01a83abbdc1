"""Neighbours are those of the full cosine, and what is far from all is odd."""

import numpy as np

from headstart.experiments.audit.neighbours import nearest_images
from headstart.experiments.audit.outliers import odd_places, oddness
from headstart.experiments.data.feature_source import ArrayFeatures
from tests.experiments.samples import clouds


def test_the_nearest_are_those_of_a_plain_computation():
    source = clouds(1300).source
    rows = source.features.astype(np.float64) - source.features.astype(np.float64).mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -2)
    near = nearest_images(source, np.arange(1300), 3)
    assert np.abs(near.cosine - np.sort(cosines, axis=1)[:, -3:][:, ::-1]).max() < 2e-3
    assert (near.place[:, 0] == cosines.argmax(axis=1)).mean() > 0.99
    assert (near.place != np.arange(1300)[:, None]).all()


def test_wide_features_keep_the_neighbours_that_matter():
    random = np.random.default_rng(0)
    rows = random.standard_normal((400, 600))
    rows[200:] = rows[:200] + 0.1 * random.standard_normal((200, 600))
    near = nearest_images(ArrayFeatures(rows.astype(np.float16)), np.arange(400), 1)
    assert (near.place[:, 0] == (np.arange(400) + 200) % 400).all()


def test_there_are_no_more_neighbours_than_images():
    near = nearest_images(ArrayFeatures(np.eye(3, dtype=np.float16)), np.arange(3), 10)
    assert near.place.shape == (3, 2)


def test_one_image_far_from_all_is_the_odd_one_out():
    random = np.random.default_rng(0)
    rows = np.repeat(random.standard_normal((4, 40)), 50, axis=0) + 0.3 * random.standard_normal((200, 40))
    rows[17] = 3 * random.standard_normal(40)
    near = nearest_images(ArrayFeatures(rows.astype(np.float16)), np.arange(200), 5)
    assert odd_places(near).tolist()[0] == 17


def test_images_all_alike_have_no_odd_one():
    near = nearest_images(ArrayFeatures(np.ones((30, 4), np.float16)), np.arange(30), 5)
    assert not oddness(near).any()
