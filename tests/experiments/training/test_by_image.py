"""Metrics of many rows an image."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from headstart.experiments.training.judging.by_image import number_metrics, pearson_metric


def rows(count=240, images=12):
    draw = np.random.default_rng(0)
    image = np.repeat(np.arange(images), count // images)
    wanted = draw.normal(size=count) + image
    return wanted + draw.normal(size=count), wanted, image


def test_numbers_are_those_of_their_names():
    said, wanted, image = rows()
    said[:40] = np.round(said[:40])  # ties
    numbers = {one.name: one.value for one in number_metrics(said, wanted, image)}
    assert numbers["pearson"] == pytest.approx(pearsonr(said, wanted)[0])
    assert numbers["spearman"] == pytest.approx(spearmanr(said, wanted)[0])
    assert numbers["mae"] == pytest.approx(np.abs(said - wanted).mean())
    assert numbers["r2"] == pytest.approx(1 - ((said - wanted) ** 2).sum() / ((wanted - wanted.mean()) ** 2).sum())
    within = [pearsonr(said[image == one], wanted[image == one])[0] for one in range(12)]
    assert numbers["within_image_pearson"] == pytest.approx(np.mean(within))


def test_what_is_drawn_for_an_interval_are_images():
    said, wanted, image = rows()
    assert len(pearson_metric("pearson", said, wanted, image).rows) == 12


def test_an_offset_costs_no_digit():
    said, wanted, image = rows()
    moved = pearson_metric("pearson", said + 1e7, wanted + 1e7, image)
    assert moved.value == pytest.approx(pearsonr(said, wanted)[0], abs=1e-6)


@pytest.mark.parametrize("answer", [0.5, 0.1, -1 / 3, 1e6 / 7])
def test_one_answer_for_all_has_no_correlation(answer):
    _, wanted, image = rows()
    numbers = {one.name: one.value for one in number_metrics(np.full(240, answer), wanted, image)}
    assert np.isnan(numbers["pearson"])
    assert "within_image_pearson" not in numbers
