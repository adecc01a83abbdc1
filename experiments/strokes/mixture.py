"""The density of a pen's next step: a mixture of bivariate normals, and whether the stroke ends there; all in logarithms.

Graves, "Generating Sequences With Recurrent Neural Networks", 2013 (arXiv 1308.0850), equations 18 to 26.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NUMBERS_A_COMPONENT = 6
_LEAST_LOG_SCALE, _MOST_LOG_SCALE = -4.0, 5.0  # data are rounded to 1/32: a sharper density would say nothing of the hand
_MOST_CORRELATION = 0.98


@dataclass(frozen=True)
class Mixture:
    """Attributes, each (..., m) for m components but the last:
    log_weight: sums to one over components.
    mean, log_scale: (..., m, 2), in units.
    correlation: from -0.98 to 0.98.
    end: (...) logit that the stroke ends.
    """

    log_weight: Tensor
    mean: Tensor
    log_scale: Tensor
    correlation: Tensor
    end: Tensor


def mixture_of(outputs: Tensor, bias: float | Tensor = 0.0) -> Mixture:
    """What a network's numbers, (..., 6 m + 1), say.

    Args: bias: how much tidier than learnt, (...) or one number, from 0: sharper components, likelier ones more often.
    """
    weight, mean_x, mean_y, scale_x, scale_y, correlation = outputs[..., :-1].chunk(NUMBERS_A_COMPONENT, dim=-1)
    tidier = bias[..., None] if isinstance(bias, Tensor) else bias
    log_scale = torch.stack([scale_x, scale_y], dim=-1).clamp(_LEAST_LOG_SCALE, _MOST_LOG_SCALE)
    return Mixture(
        F.log_softmax(weight * (1 + tidier), dim=-1),
        torch.stack([mean_x, mean_y], dim=-1),
        log_scale - (tidier[..., None] if isinstance(tidier, Tensor) else tidier),
        _MOST_CORRELATION * correlation.tanh(),
        outputs[..., -1],
    )


def nats(mixture: Mixture, offsets: Tensor, ends: Tensor) -> Tensor:
    """Negative log-likelihood (...) of steps (..., 2) and of whether strokes end there, (...) of 0 and 1."""
    z = (offsets[..., None, :] - mixture.mean) * (-mixture.log_scale).exp()
    x, y, rho = z[..., 0], z[..., 1], mixture.correlation
    rest = 1 - rho * rho
    log_normal = (
        -(x * x + y * y - 2 * rho * x * y) / (2 * rest) - math.log(2 * math.pi) - mixture.log_scale.sum(dim=-1) - 0.5 * rest.log()
    )
    steps = -torch.logsumexp(mixture.log_weight + log_normal, dim=-1)
    return steps + F.binary_cross_entropy_with_logits(mixture.end, ends, reduction="none")


def drawn(mixture: Mixture, uniform: Tensor, normal: Tensor) -> Tensor:
    """Steps (b, 3): x, y and 1 where the stroke ends. Args: uniform: (b, 2) from [0, 1); normal: (b, 2)."""
    reached = mixture.log_weight.exp().cumsum(dim=-1)
    last = mixture.log_weight.shape[-1] - 1
    chosen = (uniform[:, :1] >= reached).sum(dim=-1).clamp(max=last)  # rounding may leave the sum below one
    rows = torch.arange(len(chosen), device=chosen.device)
    mean, scale = mixture.mean[rows, chosen], mixture.log_scale[rows, chosen].exp()
    rho = mixture.correlation[rows, chosen]
    x = normal[:, 0]
    y = rho * x + (1 - rho * rho).sqrt() * normal[:, 1]
    ends = (uniform[:, 1] < mixture.end.sigmoid()).to(mean.dtype)
    return torch.stack([mean[:, 0] + scale[:, 0] * x, mean[:, 1] + scale[:, 1] * y, ends], dim=1)
