"""Designs drawn from a description: conditional denoising diffusion of small pictures, by goal, format and tone.

headstart make examples/designs/designs.py --count 8000
headstart train diffusion --image-size 32 --ema 0.999
headstart sample N --goals sell,invite --formats poster --guidance 1.5

Ho, Jain & Abbeel 2020 (arXiv 2006.11239); cosine schedule: Nichol & Dhariwal 2021; prediction of v: Salimans & Ho 2022; weights:
Hang et al. 2023 (arXiv 2303.09556); steps of sampling: Song, Meng & Ermon 2021; guidance: Ho & Salimans 2022.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from headstart.experiments.designs.blocks import ChannelNorm, Recomputable, as_input
from headstart.experiments.designs.data_set import find_designs, require_size
from headstart.experiments.designs.description import DESIGN_FORMATS, GOALS
from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.data.sets import Splits
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, mean
from headstart.experiments.training.options import RecipeOptions, SampleOptions, option
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

_LEVELS = (1, 2, 2)  # channels of each, in widths
_WAVES = 16  # pairs of sine and cosine that a tone or a time is told by


@dataclass(frozen=True)
class Options(RecipeOptions):
    made: str | None = option(None, "what headstart make made of designs, by the name of its folder or file; none: the only one")
    image_size: int = option(32, "pixels of an edge that designs are reduced to", at_least=16, at_most=256)
    patch: int = option(2, "edge of the squares of pixels that become channels first", at_least=1, at_most=8)
    width: int = option(
        64, "channels of the first level, a multiple of 8; the others have twice as many", at_least=8, at_most=512
    )
    timesteps: int = option(1000, "of noising", at_least=2, at_most=10_000)
    noising: str = option("cosine", "schedule of the noise", choices=("linear", "cosine"))
    target: str = option("image", "what the network says", choices=("noise", "v", "image"))
    min_snr: float = option(5.0, "largest signal-to-noise ratio that a step counts for; 0: all count the same", at_least=0)
    drop_condition: float = option(0.1, "part of the descriptions that is left out, for guidance", at_least=0, at_most=1)
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    ema: float = 0.999
    clip: float = 1.0


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


def _waves(numbers: Tensor) -> Tensor:
    """(b,) from 0 to 1 as (b, 32)."""
    angles = numbers.float()[:, None] * torch.logspace(0, 3, _WAVES, device=numbers.device)
    return torch.cat([angles.sin(), angles.cos()], 1)


class TimedBlock(Recomputable):
    """Two convolutions between which the time is added, then attention to the tokens. (b, c, h, w), (b, t), (b, 3, t)."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(ChannelNorm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.time = nn.Linear(width, outputs)
        self.second = nn.Sequential(ChannelNorm(outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.norm, self.query = nn.LayerNorm(outputs), nn.Linear(outputs, outputs)
        self.key_value, self.out = nn.Linear(width, 2 * outputs), nn.Linear(outputs, outputs)

    def forward(self, maps: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        after: Tensor = self.second(self.first(maps) + self.time(time)[..., None, None]) + self.shortcut(maps)
        heads = after.shape[1] // 8
        query = self.query(self.norm(after.flatten(2).transpose(1, 2))).unflatten(2, (heads, 8)).transpose(1, 2)
        keys, values = (part.unflatten(2, (heads, 8)).transpose(1, 2) for part in self.key_value(tokens).chunk(2, 2))
        # Written out: of three tokens this is faster than the general function.
        seen = (query @ keys.transpose(2, 3) / math.sqrt(8)).softmax(3) @ values
        added: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return after + added.transpose(1, 2).reshape(after.shape)


class Denoiser(nn.Module):
    """(b, 3, s, s), time (b,) from 0 to 1, goal, format (b,), tone (b,), whether each is told (b,) to (b, 3, s, s)."""

    def __init__(self, patch: int, width: int, goals: int, formats: int) -> None:
        super().__init__()
        self.patch, told, channels = patch, 4 * width, [width * level for level in _LEVELS]
        self.time = nn.Sequential(nn.Linear(2 * _WAVES, told), nn.SiLU(), nn.Linear(told, told), nn.SiLU())
        self.goal, self.format = nn.Embedding(goals, told), nn.Embedding(formats, told)
        self.tone = nn.Linear(2 * _WAVES, told)
        self.untold = nn.Parameter(torch.zeros(3, told))
        self.stem = nn.Conv2d(3 * patch * patch, width, 3, padding=1)
        pairs = list(zip([width, *channels], channels, strict=False))
        self.down = nn.ModuleList([TimedBlock(before, after, told) for before, after in pairs])
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.up = nn.ModuleList([TimedBlock(below + beside, beside, told) for below, beside in pairs])
        self.last = nn.Sequential(ChannelNorm(width), nn.SiLU(), nn.Conv2d(width, 3 * patch * patch, 3, padding=1))

    def forward(self, noisy: Tensor, time: Tensor, goal: Tensor, form: Tensor, tone: Tensor, is_told: Tensor) -> Tensor:
        tokens = torch.stack([self.goal(goal), self.format(form), self.tone(_waves(tone))], 1)
        tokens = torch.where(is_told[:, None, None], tokens, self.untold)
        at = self.time(_waves(time))
        maps, beside = self.stem(F.pixel_unshuffle(noisy, self.patch)), []
        for level, block in enumerate(self.down):
            maps = block(F.avg_pool2d(maps, 2) if level else maps, at, tokens)
            beside.append(maps)
        beside.pop()
        for block in self.up:
            maps = block(torch.cat([F.interpolate(maps, scale_factor=2.0, mode="nearest"), beside.pop()], 1), at, tokens)
        return F.pixel_shuffle(self.last(maps), self.patch)


def data(options: Options, workspace: Workspace) -> Splits:
    require_size(options.image_size, options.patch * 2 ** (len(_LEVELS) - 1))
    if options.width % 8:
        raise HeadstartError(f"--width {options.width} is no multiple of 8, the size of attention's heads")
    return find_designs(workspace, options.made).splits(options.image_size)


def model(options: Options, about: Facts) -> Denoiser:
    return Denoiser(options.patch, options.width, len(about.goals), len(about.formats))


def _errors(model: nn.Module, batch: Batch, step: Step) -> Tensor:
    """(b,) weighted squared error of each image at one time each."""
    options: Options = step.options
    image, count = as_input(batch.image), len(batch)
    times = step.integers("time", 0, options.timesteps, count)
    noise = step.normal("noise", image.shape)
    is_told = step.uniform("drop", count) >= (options.drop_condition if step.is_training else 0.0)
    kept = kept_signal(options.noising, options.timesteps).to(image.device)[times]
    weight, part = snr_weight(kept, options.target, options.min_snr).float(), kept.float()[:, None, None, None]
    noisy = part.sqrt() * image + (1 - part).sqrt() * noise
    said = model(noisy, times / options.timesteps, batch.goal, batch.format, batch.tone, is_told).float()
    errors: Tensor = (said - wanted_of(options.target, image, noise, part)).square().mean((1, 2, 3))
    return weight * errors


def loss(model: Denoiser, batch: Batch, step: Step) -> Tensor:
    return _errors(model, batch, step).mean()


def evaluate(model: Denoiser, batches: Batches) -> Iterator[Metric | Table]:
    """The weighted error at a time that is drawn once for each image."""
    errors = torch.cat([_errors(model, batch, step) for batch, step in batches.steps()]).double().cpu().numpy()
    yield mean("denoising_error", errors, better="lower", judged_by=True)


@dataclass(frozen=True)
class Sampling(SampleOptions):
    count: int = option(12, "pictures", at_least=1, at_most=10_000)
    goals: tuple[str, ...] = option((), "of the pictures in turn; none: all", choices=GOALS)
    formats: tuple[str, ...] = option((), "of the pictures in turn, slower than goals; none: all", choices=DESIGN_FORMATS)
    tones: tuple[float, ...] = option((0.1, 0.5, 0.9), "of the pictures in turn, 0 calm to 1 loud", at_least=0, at_most=1)
    sampler: str = option("ddim", "how noise is taken away", choices=("ddim", "ddpm"))
    steps: int = option(25, "of sampling, at most those of the training", at_least=1)
    guidance: float = option(1.5, "how strongly the description is followed; 1: as learnt", at_least=1, at_most=20)


def sample(model: Denoiser, wanted: Sampling, options: Options, about: Facts) -> Iterator[tuple[str, Any]]:
    if wanted.steps > options.timesteps:
        raise HeadstartError(f"--steps {wanted.steps} are more than the {options.timesteps} that the model was trained with")
    goals, formats = wanted.goals or tuple(about.goals), wanted.formats or tuple(about.formats)
    for number in range(wanted.count):
        goal, form = goals[number % len(goals)], formats[number // len(goals) % len(formats)]
        tone = wanted.tones[number % len(wanted.tones)]
        told = torch.tensor([about.goals.index(goal)]), torch.tensor([about.formats.index(form)]), torch.tensor([tone])
        yield f"{number:05}_{goal}_{form}_{tone:g}", _drawn(model, told, wanted, options, about.image_size, number)


@torch.inference_mode()
def _drawn(model: nn.Module, told: tuple[Tensor, ...], wanted: Sampling, options: Options, size: int, number: int) -> Any:
    """One picture, a function of its seed and number alone: one by one, so that no other picture changes its last bits."""
    key, kept = Key((wanted.seed, "sample", number)), kept_signal(options.noising, options.timesteps).float()
    device, shape = next(model.parameters()).device, (1, 3, size, size)
    told, noisy = tuple(part.to(device) for part in told), torch.randn(shape, generator=key.torch()).to(device)
    times = np.unique(np.linspace(options.timesteps - 1, 0, wanted.steps).round().astype(int))[::-1].tolist()
    for time, after in zip(times, [*times[1:], None], strict=True):
        now, then = kept[time], kept[after] if after is not None else torch.ones(())
        at = torch.full((1,), time / options.timesteps, device=device)
        said = model(noisy, at, *told, torch.ones(1, dtype=torch.bool, device=device)).float()
        if wanted.guidance != 1:
            plain = model(noisy, at, *told, torch.zeros(1, dtype=torch.bool, device=device)).float()
            said = plain + wanted.guidance * (said - plain)
        image = image_of(options.target, said, noisy, now).clamp(-1, 1)
        noise = (noisy - now.sqrt() * image) / (1 - now).sqrt()
        # Song et al., eq. 16: eta 0 draws nothing anew, eta 1 is the step of DDPM.
        spread = ((1 - then) / (1 - now) * (1 - now / then)).clamp(min=0).sqrt() * (wanted.sampler == "ddpm")
        noisy = then.sqrt() * image + (1 - then - spread**2).clamp(min=0).sqrt() * noise
        if after is not None and wanted.sampler == "ddpm":
            noisy = noisy + spread * torch.randn(shape, generator=key.of("step", time).torch()).to(device)
    pixels = ((noisy[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels)
