"""Designs drawn from a description: conditional denoising diffusion of small pictures, by goal, format and tone.

headstart make examples/designs/designs.py --count 8000
headstart train diffusion --image-size 32 --ema 0.999
headstart sample N --goals sell,invite --formats poster --guidance 1.5

`experiments/designs/denoising.py` has the formulas and where they are from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from headstart.experiments.designs.blocks import as_input
from headstart.experiments.designs.critic_network import CriticNetwork
from headstart.experiments.designs.data_set import DesignOptions, find_designs, require_size
from headstart.experiments.designs.denoiser import DENOISER_LEVELS, Denoiser
from headstart.experiments.designs.denoising import Ascent, Denoising, denoised, kept_signal, snr_weight, wanted_of
from headstart.experiments.designs.description import DESIGN_FORMATS, GOALS, SCORES
from headstart.experiments.designs.rewarded import GRAMMAR, RewardedDesigns, score_of, scores_by
from headstart.experiments.evaluation.trained_model import trained_model, trained_options
from headstart.experiments.runs.recipe_experiment import RecipeExperiment
from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.data.sets import DataSet, Splits
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, mean
from headstart.experiments.training.options import SampleOptions, option
from headstart.experiments.training.state.final_weights import sha256_of_final
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace, as_workspace

_SHAPE = ("image_size", "patch", "width", "timesteps", "noising", "target")  # options that weights go with
_DRAWS = "draws, such as one of diffusion"


@dataclass(frozen=True)
class Options(DesignOptions):
    patch: int = option(2, "edge of the squares of pixels that become channels first", at_least=1, at_most=8)
    width: int = option(
        64, "channels of the first level, a multiple of 8; the others have twice as many", at_least=8, at_most=512
    )
    timesteps: int = option(1000, "of noising", at_least=2, at_most=10_000)
    noising: str = option("cosine", "schedule of the noise", choices=("linear", "cosine"))
    target: str = option("image", "what the network says", choices=("noise", "v", "image"))
    min_snr: float = option(5.0, "largest signal-to-noise ratio that a step counts for; 0: all count the same", at_least=0)
    drop_condition: float = option(0.1, "part of the descriptions that is left out, for guidance", at_least=0, at_most=1)
    tune: str = option("", "go on from the weights of this run: its number")
    tune_for: str = option("", "with designs counting by what a critic says of them", choices=("", GRAMMAR, *SCORES))
    critic: str = option("", "the run of critic that says it: its number")
    sharpness: float = option(10.0, "how much: a score higher by 0.1 counts exp(sharpness / 10) times", at_least=0, at_most=1000)
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    ema: float = 0.999
    clip: float = 1.0


def data(options: Options, workspace: Workspace) -> Splits:
    require_size(options.image_size, options.patch * 2 ** (len(DENOISER_LEVELS) - 1))
    if options.width % 8:
        raise HeadstartError(f"--width {options.width} is no multiple of 8, the size of attention's heads")
    about, settled = {}, {}
    if bool(options.tune_for) != bool(options.critic):
        raise HeadstartError("--tune-for and --critic belong together: what to tune for, and who says how good a design is at it")
    if options.tune:
        begun = _begun(workspace, options)
        settled["tune"], about["tuned_from"] = begun.folder.name, sha256_of_final(begun.final_weights)
    splits = find_designs(workspace, options.made).splits(options.image_size, about)
    if not options.critic:
        return replace(splits, settled={**splits.settled, **settled})
    judging, critic, known = _critic(workspace, options.critic, options.image_size)
    settled["critic"] = judging.folder.name
    rewarded = {name: _rewarded(rows, critic, known, options) for name, rows in splits.named().items()}
    settled = {**splits.settled, **settled}
    return replace(splits, train=rewarded["train"], val=rewarded["val"], test=rewarded.get("test"), settled=settled)


def _begun(workspace: Workspace, options: Options) -> RecipeExperiment:
    """The run to go on from. Raises: HeadstartError if its weights fit no network of these options, or mean something else."""
    begun, theirs = trained_options(workspace, options.tune, _SHAPE, _DRAWS)
    if any(value != getattr(options, name) for name, value in theirs.items()):
        raise HeadstartError(
            f"{begun.folder.name} was trained with other options, so it cannot be gone on from. Give the same: "
            + " ".join(f"--{name.replace('_', '-')} {value}" for name, value in theirs.items())
        )
    return begun


def _critic(workspace: Workspace, run: str, size: int) -> tuple[RecipeExperiment, CriticNetwork, Facts]:
    judging, critic, known = trained_model(workspace, run, CriticNetwork, "judges pictures, such as one of critic")
    if known.image_size != size:
        raise HeadstartError(f"{judging.folder.name} judges pictures of {known.image_size} pixels, not of {size}")
    return judging, critic, known


def _rewarded(rows: DataSet, critic: CriticNetwork, known: Facts, options: Options) -> RewardedDesigns:
    return RewardedDesigns(rows, scores_by(critic, known, rows, options.tune_for), options.sharpness)


def model(options: Options, about: Facts) -> Denoiser:
    return Denoiser(options.patch, options.width, len(about.goals), len(about.formats))


def start(model: Denoiser, options: Options, about: Facts, workspace: Workspace) -> None:
    if options.tune:
        model.load_state_dict(trained_model(workspace, options.tune, Denoiser, _DRAWS)[1].state_dict())


def _errors(model: nn.Module, batch: Batch, step: Step) -> Tensor:
    """(b,) weighted squared error of each image at one time each."""
    options: Options = step.options
    image, count = as_input(batch.image), len(batch)
    times = step.integers("time", 0, options.timesteps, count)
    noise = step.normal("noise", image.shape)
    is_told = step.uniform("drop", count) >= (options.drop_condition if step.is_training else 0.0)
    kept = kept_signal(options.noising, options.timesteps)
    weight = snr_weight(kept, options.target, options.min_snr).float().to(image.device)[times]
    part = kept.float().to(image.device)[times][:, None, None, None]
    noisy = part.sqrt() * image + (1 - part).sqrt() * noise
    said = model(noisy, times / options.timesteps, batch.goal, batch.format, batch.tone, is_told).float()
    errors: Tensor = (said - wanted_of(options.target, image, noise, part)).square().mean((1, 2, 3))
    rewarded = errors * batch.reward if "reward" in batch.columns else errors
    return weight * rewarded


def loss(model: Denoiser, batch: Batch, step: Step) -> Tensor:
    return _errors(model, batch, step).mean()


def evaluate(model: Denoiser, batches: Batches) -> Iterator[Metric | Table]:
    """The weighted error at a time that is drawn once for each image."""
    errors = torch.cat([_errors(model, batch, step) for batch, step in batches.steps()]).cpu().double().numpy()
    yield mean("denoising_error", errors, better="lower", judged_by=True)


@dataclass(frozen=True)
class Sampling(SampleOptions):
    count: int = option(12, "pictures", at_least=1, at_most=10_000)
    goals: tuple[str, ...] = option((), "of the pictures in turn; none: all", choices=GOALS)
    formats: tuple[str, ...] = option((), "of the pictures in turn, slower than goals; none: all", choices=DESIGN_FORMATS)
    tones: tuple[float, ...] = option((0.1, 0.5, 0.9), "of the pictures in turn, 0 calm to 1 loud", at_least=0, at_most=1)
    sampler: str = option("ddim", "how noise is taken away", choices=("ddim", "ddpm"))
    steps: int = option(25, "of sampling, at most those of the training", at_least=1)
    ascend: str = option("", "move the noise until a critic gives this score a higher value", choices=("", GRAMMAR, *SCORES))
    ascent_steps: int = option(50, "of the gradient", at_least=1, at_most=10_000)
    critic: str = option("", "the run of critic that is asked: its number")
    guidance: float = option(1.5, "how strongly the description is followed; 1: as learnt", at_least=1, at_most=20)


def sample(model: Denoiser, wanted: Sampling, options: Options, about: Facts) -> Iterator[tuple[str, Any]]:
    if wanted.steps > options.timesteps:
        raise HeadstartError(f"--steps {wanted.steps} are more than the {options.timesteps} that the model was trained with")
    how = Denoising(options.noising, options.timesteps, options.target, wanted.sampler, wanted.steps, wanted.guidance)
    ascent = _ascent(wanted, about)
    goals, formats = wanted.goals or tuple(about.goals), wanted.formats or tuple(about.formats)
    for number in range(wanted.count):
        goal, form = goals[number % len(goals)], formats[number // len(goals) % len(formats)]
        tone = wanted.tones[number % len(wanted.tones)]
        told = torch.tensor([about.goals.index(goal)]), torch.tensor([about.formats.index(form)]), torch.tensor([tone])
        pixels = denoised(model, told, how, about.image_size, Key((wanted.seed, "sample", number)), ascent)
        yield f"{number:05}_{goal}_{form}_{tone:g}", Image.fromarray(pixels)


def _ascent(wanted: Sampling, about: Facts) -> Ascent | None:
    if bool(wanted.ascend) != bool(wanted.critic):
        raise HeadstartError("--ascend and --critic belong together: which score is to be higher, and who gives it")
    if not wanted.ascend:
        return None
    critic, known = _critic(as_workspace(about.workspace), wanted.critic, about.image_size)[1:]
    critic.requires_grad_(False)
    return Ascent(lambda image: score_of(critic, image, known, wanted.ascend), wanted.ascent_steps)
