"""Denoising diffusion of small pictures by its formulas: schedules, weights, what a network says, and steps of sampling.

Ho, Jain & Abbeel 2020 (arXiv 2006.11239); cosine schedule: Nichol & Dhariwal 2021; prediction of v: Salimans & Ho 2022; weights:
Hang et al. 2023 (arXiv 2303.09556); steps of sampling: Song, Meng & Ermon 2021; guidance: Ho & Salimans 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headstart.experiments.training.data.keys import Key


def kept_signal(noising: str, timesteps: int) -> Tensor:
    """(timesteps,) float64: the part of the variance that is still the image's after each step, from nearly 1 to nearly 0."""
    if noising == "linear":
        scale = 1000 / timesteps
        betas = torch.linspace(1e-4 * scale, 0.02 * scale, timesteps, dtype=torch.float64).clamp(max=0.999)
    else:
        at = (torch.arange(timesteps + 1, dtype=torch.float64) / timesteps + 0.008) / 1.008
        whole = torch.cos(at * math.pi / 2) ** 2
        betas = (1 - whole[1:] / whole[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - betas, 0)


def snr_weight(kept: Tensor, target: str, most: float) -> Tensor:
    """What the squared error of a prediction counts for, by the signal that is kept: min(snr, most) as an error of the image."""
    if not most:
        return torch.ones_like(kept)
    snr = kept / (1 - kept)
    return snr.clamp(max=most) / {"noise": snr, "v": snr + 1, "image": torch.ones_like(snr)}[target]


def wanted_of(target: str, image: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """What the network is to say. Args: kept: (b, 1, 1, 1)."""
    return {"noise": noise, "image": image, "v": kept.sqrt() * noise - (1 - kept).sqrt() * image}[target]


def image_of(target: str, said: Tensor, noisy: Tensor, kept: Tensor) -> Tensor:
    """The image that a prediction means."""
    if target == "noise":
        return (noisy - (1 - kept).sqrt() * said) / kept.sqrt()
    return said if target == "image" else kept.sqrt() * noisy - (1 - kept).sqrt() * said


@dataclass(frozen=True)
class Denoising:
    """How pictures come out of noise.

    Attributes:
        noising, timesteps, target: as the network was trained, see `kept_signal` and `wanted_of`.
        sampler: ddim or ddpm.
        steps: of sampling, at most `timesteps`.
        guidance: 1 as learnt, more follows the description closer.
    """

    noising: str
    timesteps: int
    target: str
    sampler: str = "ddim"
    steps: int = 25
    guidance: float = 1.5


@dataclass(frozen=True)
class Ascent:
    """How the noise that a picture comes out of is moved so that a critic gives it a higher score.

    Attributes:
        critic: (1, 3, s, s) from -1 to 1 to the score, from 0 to 1.
        steps: of the gradient. rate: how far each goes, as a part of the noise's length.
    """

    critic: Callable[[Tensor], Tensor]
    steps: int = 50
    rate: float = 0.02


def denoised(
    model: nn.Module, told: tuple[Tensor, ...], how: Denoising, size: int, key: Key, ascent: Ascent | None = None
) -> NDArray[np.uint8]:
    """(size, size, 3): one picture, a function of its key alone: one by one, so that no other picture changes its last bits.

    Args: told: goal, format and tone, each (1,).
    """
    device = next(model.parameters()).device
    told, noise = tuple(part.to(device) for part in told), torch.randn((1, 3, size, size), generator=key.torch()).to(device)
    if ascent is not None:
        noise = _ascended(model, told, how, noise, key, ascent)
    with torch.inference_mode():
        image = _taken_away(model, told, how, noise, key)
        return ((image[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def _ascended(model: nn.Module, told: tuple[Tensor, ...], how: Denoising, noise: Tensor, key: Key, ascent: Ascent) -> Tensor:
    """Noise of the same length, for a network knows no other: that of the best picture on the way, the first one included."""
    length, best, best_score = noise.norm(), noise, -1.0
    with torch.enable_grad():
        for _ in range(ascent.steps + 1):
            noise = noise.detach().requires_grad_()
            score = ascent.critic(_taken_away(model, told, how, noise, key)).sum()
            if float(score.detach()) > best_score:
                best, best_score = noise.detach(), float(score.detach())
            [slope] = torch.autograd.grad(score, noise)
            moved = noise.detach() + ascent.rate * length * slope / slope.norm().clamp(min=1e-12)
            noise = moved * (length / moved.norm())
    return best


def _taken_away(model: nn.Module, told: tuple[Tensor, ...], how: Denoising, noisy: Tensor, key: Key) -> Tensor:
    """(1, 3, s, s) from -1 to 1: the image that comes out of noise."""
    kept, device = kept_signal(how.noising, how.timesteps).float(), noisy.device
    times = np.unique(np.linspace(how.timesteps - 1, 0, how.steps).round().astype(int))[::-1].tolist()
    for time, after in zip(times, [*times[1:], None], strict=True):
        now, then = kept[time], kept[after] if after is not None else torch.ones(())
        at = torch.full((1,), time / how.timesteps, device=device)
        said = model(noisy, at, *told, torch.ones(1, dtype=torch.bool, device=device)).float()
        if how.guidance != 1:
            plain = model(noisy, at, *told, torch.zeros(1, dtype=torch.bool, device=device)).float()
            said = plain + how.guidance * (said - plain)
        image = image_of(how.target, said, noisy, now).clamp(-1, 1)
        noise = (noisy - now.sqrt() * image) / (1 - now).sqrt()
        # Song et al., eq. 16: eta 0 draws nothing anew, eta 1 is the step of DDPM.
        spread = ((1 - then) / (1 - now) * (1 - now / then)).clamp(min=0).sqrt() * (how.sampler == "ddpm")
        noisy = then.sqrt() * image + (1 - then - spread**2).clamp(min=0).sqrt() * noise
        if after is not None and how.sampler == "ddpm":
            noisy = noisy + spread * torch.randn(noisy.shape, generator=key.of("step", time).torch()).to(device)
    return noisy.clamp(-1, 1)
