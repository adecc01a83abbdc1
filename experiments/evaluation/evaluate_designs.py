"""What the pictures of a run of diffusion are worth: a run of critic judges them, and real designs of the same descriptions.

A distance means something beside others alone, so these real ones, the same blurred or with noise, and noise are judged, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.experiments.designs.measures import Images, Numbers, flatness, frechet, nearest_pictures, pair_distance
from headstart.experiments.runs.recipe_experiment import RecipeExperiment, options_of, recipe_of, splits_of
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.judging.metrics import mean
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace, as_workspace

from .publish_recipe import numbers_of
from .trained_model import trained_model

if TYPE_CHECKING:
    from torch import nn

    from headstart.experiments.designs.critic_network import CriticNetwork
    from headstart.experiments.designs.denoising import Denoising
    from headstart.experiments.training.data.batch import Batch, Facts

_AT_ONCE = 64  # images that the judge sees
_BLUR, _NOISE = 1.0, 20.0  # pixels; levels of 255: a standard deviation each
_EDGE = 8  # pictures of a grid, across and down
_PAIRS = 16  # samples that stand above the training image next to them: those that come nearest to one


@dataclass(frozen=True)
class DesignsEvaluation:
    """Pictures that were drawn, beside real ones of the same descriptions.

    Attributes:
        run, judge: names of the experiments.
        images: how many of each kind.
        numbers: by 'drawn', 'real', 'blurred', 'noisy' and 'noise'. By the judge, each with its 95 % interval over pictures:
            goal_accuracy, format_accuracy, tone_error, and score, the mean of the four. distance: Fréchet's, of the judge's
            features to those of the other real designs. diversity: mean distance of two pictures of the same goal and format, a
            part of the real ones'. flatness: see `measures`. nearest: the distance of the one that comes nearest to a training
            image; of 'real': of all real designs that no training saw, because the least of a few is chance. Distances of
            pictures are root mean squares in levels of 255.
        distance_by_count: distance of the drawn and the real ones by how many they are: it shrinks as they become more.
        pictures: names and PIL images: a grid, and pictures beside the training images next to them.
    """

    run: str
    judge: str
    split: str
    images: int
    numbers: Mapping[str, Mapping[str, Any]]
    distance_by_count: Mapping[int, Mapping[str, float]]
    pictures: tuple[tuple[str, Any], ...]

    def as_json(self) -> dict[str, Any]:
        facts = {"experiment": self.run, "judge": self.judge, "split": self.split, "images": self.images}
        numbers = {name: dict(one) for name, one in self.numbers.items()}
        return {
            **facts,
            "numbers": numbers,
            "distance_by_count": {str(count): dict(one) for count, one in self.distance_by_count.items()},
        }


def evaluate_designs(
    run: str | int,
    judge: str | int,
    workspace: Workspace | Path | str | None = None,
    *,
    split: str = "test",
    most: int = 500,
    steps: int = 25,
    guidance: float = 1.5,
    seed: int = 0,
) -> DesignsEvaluation:
    """How good the pictures of a run of diffusion are: what `headstart evaluate RUN --judge JUDGE` says.

    Args:
        run, judge: numbers of runs of the recipes diffusion and critic, of the same size. A judge that learnt from other designs,
            drawn by another seed, is as good a judge, and a better one if they are more.
        workspace: a folder; None is the one that every command would take, see `find_root`.
        split: test or val: designs whose descriptions are drawn, and which are judged beside.
        most: of these designs, drawn by the seed where there are more.
        steps, guidance: of sampling by DDIM.
        seed: of the pictures, too.

    Raises: HeadstartError if there is no such run, it is of another recipe, or the two are of other sizes, goals or formats.
    """
    from headstart.experiments.designs.critic_network import CriticNetwork
    from headstart.experiments.designs.denoiser import Denoiser
    from headstart.experiments.designs.denoising import Denoising

    opened = as_workspace(workspace)
    drawing, network, about = trained_model(opened, run, Denoiser, "draws, such as one of diffusion")
    judging, critic, seen = trained_model(opened, judge, CriticNetwork, "judges pictures, such as one of critic")
    if about.image_size != seen.image_size:
        raise HeadstartError(
            f"{judging.folder.name} judges pictures of {seen.image_size} pixels, {drawing.folder.name} draws them of "
            f"{about.image_size}. Train one: headstart train critic --image-size {about.image_size}"
        )
    if (about.goals, about.formats) != (seen.goals, seen.formats):
        raise HeadstartError(f"{judging.folder.name} knows other goals or formats than {drawing.folder.name}. Train one anew")
    recipe = recipe_of(drawing)
    options: Any = options_of(drawing, recipe)
    if steps > options.timesteps:
        raise HeadstartError(f"{steps} steps are more than the {options.timesteps} that {drawing.folder.name} was trained with")
    parts = splits_of(opened, drawing, recipe, options, split).named()
    chosen = np.sort(Key((seed, "designs")).numpy().permutation(len(parts[split]))[:most])
    if len(chosen) < 2:
        raise HeadstartError(f"the split '{split}' of {_made(drawing)} has fewer than two designs. Make more: --count 1000")
    wanted = parts[split].batch(chosen, None)
    how = Denoising(options.noising, options.timesteps, options.target, steps=steps, guidance=guidance)
    kinds = {"drawn": _drawn(network, wanted, how, about.image_size, seed), **_references(wanted, seed)}
    other = "val" if split == "test" else "test"
    whole = {name: _as_images(rows.batch(np.arange(len(rows)), None)) for name, rows in parts.items()}
    features = {name: _features(critic, images) for name, images in kinds.items()}
    reference = _features(critic, whole[other])
    distances, places = nearest_pictures(kinds["drawn"], whole["train"])
    unseen = min(nearest_pictures(whole[name], whole["train"])[0].min() for name in ("val", "test"))
    nearest = {"drawn": float(distances.min()), "real": float(unseen)}
    groups = wanted.goal.numpy() * len(about.formats) + wanted.format.numpy()
    spread = {name: pair_distance(images, groups) for name, images in kinds.items()}
    numbers = {
        name: {
            **_judged(critic, features[name], wanted, about),
            "distance": frechet(features[name], reference),
            "diversity": spread[name] / spread["real"] if spread["real"] else None,
            "flatness": flatness(images),
            **({"nearest": nearest[name]} if name in nearest else {}),
        }
        for name, images in kinds.items()
    }
    counts = sorted({max(2, len(chosen) // part) for part in (8, 4, 2, 1)})
    by_count = {count: {name: frechet(features[name][:count], reference) for name in nearest} for count in counts}
    pictures = tuple(_pictures(kinds["drawn"], whole["train"], distances, places))
    return DesignsEvaluation(drawing.folder.name, judging.folder.name, split, len(chosen), numbers, by_count, pictures)


def _made(experiment: RecipeExperiment) -> str:
    return str(experiment.settled["made"])


def _as_images(batch: Batch) -> Images:
    return np.asarray(batch.image.permute(0, 2, 3, 1).contiguous().numpy())


def _drawn(network: nn.Module, wanted: Batch, how: Denoising, size: int, seed: int) -> Images:
    """A picture of each description, by the seed and its place alone."""
    from headstart.experiments.designs.denoising import denoised

    pictures = []
    for place in range(len(wanted)):
        told = tuple(column[place : place + 1] for column in (wanted.goal, wanted.format, wanted.tone))
        pictures.append(denoised(network, told, how, size, Key((seed, "sample", place))))
    return np.stack(pictures)


def _references(wanted: Batch, seed: int) -> dict[str, Images]:
    from scipy.ndimage import gaussian_filter

    real, draws = _as_images(wanted), Key((seed, "reference")).numpy()
    blurred = gaussian_filter(real.astype(np.float32), (0, _BLUR, _BLUR, 0))
    noisy = real + draws.normal(0, _NOISE, real.shape)
    noise = draws.integers(0, 256, real.shape)
    changed = {"blurred": blurred, "noisy": noisy, "noise": noise}
    return {"real": real} | {name: images.round().clip(0, 255).astype(np.uint8) for name, images in changed.items()}


def _features(critic: CriticNetwork, images: Images) -> Numbers:
    import torch

    from headstart.experiments.designs.blocks import as_input

    device, parts = next(critic.parameters()).device, []
    with torch.inference_mode():
        for begin in range(0, len(images), _AT_ONCE):
            part = torch.from_numpy(images[begin : begin + _AT_ONCE]).permute(0, 3, 1, 2).to(device)
            parts.append(critic.features(as_input(part)).cpu().double().numpy())
    return np.concatenate(parts)


def _judged(critic: CriticNetwork, features: Numbers, wanted: Batch, about: Facts) -> dict[str, Any]:
    import torch

    from headstart.experiments.designs.judgement import judgement_of

    with torch.inference_mode():
        one = judgement_of(critic.answers(torch.from_numpy(features).float().to(next(critic.parameters()).device)).cpu(), about)
        goal, form = (one.goal.argmax(1) == wanted.goal, one.format.argmax(1) == wanted.format)
        tone = (one.tone - wanted.tone).abs()
    said = [
        mean("goal_accuracy", goal.numpy()),
        mean("format_accuracy", form.numpy()),
        mean("tone_error", tone.double().numpy(), better="lower"),
        mean("score", one.scores.mean(1).double().numpy()),
    ]
    return numbers_of(said)


def _pictures(drawn: Images, learnt: Images, distances: Numbers, places: Any) -> Iterator[tuple[str, Any]]:
    yield "drawn", _grid(drawn[: _EDGE**2], _EDGE)
    closest = np.argsort(distances, kind="stable")[:_PAIRS]
    yield "nearest", _grid(np.concatenate([drawn[closest], learnt[places[closest]]]), len(closest))


def _grid(images: Images, across: int) -> Any:
    """Row by row, a gap between them, four times as large where they are small."""
    from PIL import Image

    size, gap = images.shape[1], 2
    down = -(-len(images) // across)
    canvas = np.full((down * (size + gap) + gap, across * (size + gap) + gap, 3), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = (gap + place * (size + gap) for place in divmod(number, across))
        canvas[top : top + size, left : left + size] = image
    picture = Image.fromarray(canvas)
    scale = max(1, 128 // size)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
