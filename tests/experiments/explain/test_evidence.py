"""What speaks for an answer adds up to it, or is its gradient; and a picture shows where."""

import itertools

import numpy as np
import pytest
import torch

from headstart.experiments.config import HeadConfig
from headstart.experiments.data.targets import Units
from headstart.experiments.explain.evidence import evidence, is_exact
from headstart.experiments.explain.overlay import tinted
from headstart.experiments.heads.trained_head import TrainedHead

RANDOM = np.random.default_rng(0)
CHANNELS, CLASSES = 6, 3


def made_head(widths, activation="relu", auxiliary=None):
    count = CHANNELS + (0 if auxiliary is None else len(auxiliary.mean))
    sizes = [count, *widths, CLASSES]
    layers = tuple(
        (RANDOM.standard_normal((out, into)).astype(np.float32), RANDOM.standard_normal(out).astype(np.float32))
        for into, out in itertools.pairwise(sizes)
    )
    config = HeadConfig("head", hidden=tuple(widths), activation=activation)
    return TrainedHead(config, "classification", ("a", "b", "c"), layers, auxiliary=auxiliary)


def made_maps():
    return RANDOM.standard_normal((4, CHANNELS, 5, 7))


def test_of_a_linear_head_the_mean_over_all_places_and_the_bias_are_the_logit():
    head, maps = made_head(()), made_maps()
    rows, asked = maps.mean(axis=(2, 3)), np.array([0, 2, 1, 2])
    weight, bias = head.layers[0]
    logits = rows @ weight.T + bias
    places = evidence(head, rows, maps, asked)
    assert is_exact(head)
    np.testing.assert_allclose(places.mean(axis=(1, 2)) + bias[asked], logits[np.arange(4), asked], rtol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("has_auxiliary", [False, True], ids=["features alone", "columns beside them"])
def test_of_a_deeper_head_it_is_what_torch_says_of_the_gradient(activation, has_auxiliary):
    auxiliary = Units(np.array([3.0, -1.0]), np.array([2.0, 0.5])) if has_auxiliary else None
    head, maps, asked = made_head((8, 5), activation, auxiliary), made_maps(), np.array([1, 0, 2, 1])
    beside = RANDOM.standard_normal((4, 2)) if has_auxiliary else np.empty((4, 0))
    rows = np.concatenate([maps.mean(axis=(2, 3)), beside], axis=1)
    given = torch.tensor(maps, requires_grad=True)
    scaled = (beside - auxiliary.mean) / auxiliary.scale if auxiliary is not None else beside
    logits = head.module().double()(torch.cat([given.mean((2, 3)), torch.tensor(scaled)], 1))
    logits[torch.arange(4), torch.tensor(asked)].sum().backward()
    weights = given.grad.sum((2, 3)).numpy()  # Grad-CAM's, times the places
    wanted = np.einsum("nd,ndhw->nhw", weights, maps)
    np.testing.assert_allclose(evidence(head, rows, maps, asked), wanted, rtol=1e-5, atol=1e-8)
    assert not is_exact(head)


def test_a_picture_is_orange_where_most_speaks_for_the_answer_and_grey_where_it_speaks_against_it():
    pixels = RANDOM.integers(0, 255, (32, 48, 3)).astype(np.uint8)
    places = np.full((2, 3), -5.0)
    places[0, 2] = 1.0
    over = tinted(pixels, places)
    assert (over.shape, over.dtype) == (pixels.shape, np.uint8)
    left, corner = over[20:, :10].astype(int), over[:4, -4:].astype(int)
    assert (left.max(axis=2) - left.min(axis=2)).max() == 0
    assert (corner[..., 0] - corner[..., 2]).min() > 100


@pytest.mark.parametrize("places", [np.zeros((2, 2)), np.full((2, 2), -1.0)], ids=["nothing", "only against it"])
def test_where_nothing_speaks_for_the_answer_the_picture_is_grey(places):
    over = tinted(np.full((8, 8, 3), (10, 200, 30), np.uint8), places)
    assert (over == over[..., :1]).all()
