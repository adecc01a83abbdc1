"""The density is the one of torch.distributions, and what is drawn from it is distributed so."""

import torch
from torch.distributions import Bernoulli, Categorical, MixtureSameFamily, MultivariateNormal

from headstart.experiments.strokes.mixture import drawn, mixture_of, nats


def as_distribution(mixture):
    scale, rho = mixture.log_scale.exp(), mixture.correlation
    covariance = torch.diag_embed(scale**2)
    covariance[..., 0, 1] = covariance[..., 1, 0] = rho * scale.prod(dim=-1)
    return MixtureSameFamily(Categorical(logits=mixture.log_weight), MultivariateNormal(mixture.mean, covariance))


def test_nats_are_those_of_an_independent_implementation():
    torch.manual_seed(0)
    mixture = mixture_of(torch.randn(5, 7, 6 * 4 + 1, dtype=torch.float64))
    offsets, ends = torch.randn(5, 7, 2, dtype=torch.float64), torch.randint(0, 2, (5, 7)).double()
    expected = -as_distribution(mixture).log_prob(offsets) - Bernoulli(logits=mixture.end).log_prob(ends)
    torch.testing.assert_close(nats(mixture, offsets, ends), expected)


def test_numbers_of_any_size_give_a_finite_loss_and_finite_gradients():
    outputs = torch.tensor([1e4, -1e4, 0.0]).repeat(25)[: 6 * 4 + 1].repeat(3, 1).requires_grad_()
    value = nats(mixture_of(outputs), torch.tensor([[1e3, -1e3], [0.0, 0.0], [1.0, 1.0]]), torch.tensor([1.0, 0.0, 1.0])).sum()
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(outputs.grad).all()


def test_what_is_drawn_has_the_mean_and_covariance_of_the_density():
    torch.manual_seed(0)
    count = 200_000
    mixture = mixture_of(torch.randn(1, 6 * 3 + 1).expand(count, -1))
    points = drawn(mixture, torch.rand(count, 2), torch.randn(count, 2))
    one = as_distribution(mixture)
    torch.testing.assert_close(points[:, :2].mean(dim=0), one.mean[0], atol=0.03, rtol=0)
    torch.testing.assert_close(points[:, :2].var(dim=0), one.variance[0], atol=0.1, rtol=0.05)
    assert abs(float(points[:, 2].mean()) - float(mixture.end[0].sigmoid())) < 0.01


def test_bias_makes_components_sharper_and_likelier_ones_more_often():
    outputs = torch.tensor([[1.0, 0.0, *[0.0] * 4, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0]])
    plain, tidy = mixture_of(outputs), mixture_of(outputs, torch.tensor([2.0]))
    assert bool((tidy.log_scale == plain.log_scale - 2).all())
    assert float(tidy.log_weight[0, 0]) > float(plain.log_weight[0, 0])
