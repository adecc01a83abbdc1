"""What a design is for and how well it is laid out, from its structure: goal, format, tone and four scores of its grammar.

headstart make examples/designs/designs.py --count 8000
headstart train abstractor

`experiments/designs/abstractor_network.py` says what the network looks at, and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from headstart.experiments.designs.abstractor_network import Abstractor
from headstart.experiments.designs.data_set import DesignOptions, find_designs, require_size
from headstart.experiments.designs.description import SCORES
from headstart.experiments.designs.judgement import judgement_loss, judgement_metrics, judgement_of, judgement_sizes
from headstart.experiments.designs.new_designs import read_designs, structure_words
from headstart.experiments.designs.seen_structure import seen_structure
from headstart.experiments.designs.unet_network import UNet
from headstart.experiments.evaluation.trained_model import model_of
from headstart.experiments.runs.recipe_experiment import list_recipe_experiments
from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.sets import Splits
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table
from headstart.experiments.training.options import option
from headstart.features.images.decode import ImageError
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace, as_workspace


@dataclass(frozen=True)
class Options(DesignOptions):
    image_size: int = option(256, "pixels of an edge that designs are reduced to; small ones lose gaps", at_least=16, at_most=256)
    boxes: int = option(32, "of a design at most, the widest ones", at_least=2, at_most=256)
    width: int = option(48, "numbers of a box", at_least=8, at_most=1024)
    rounds: int = option(2, "in which boxes hear of each other", at_least=0, at_most=12)
    grammar_weight: float = option(4.0, "of the scores' error in the loss, and of tone's", at_least=0)
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 3e-3
    clip: float = 1.0


def data(options: Options, workspace: Workspace) -> Splits:
    require_size(options.image_size, 1)
    return find_designs(workspace, options.made).splits(options.image_size)


def model(options: Options, about: Facts) -> Abstractor:
    return Abstractor(options.image_size, options.width, options.boxes, options.rounds, judgement_sizes(about))


def loss(model: Abstractor, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Any]]:
    return judgement_loss(judgement_of(model(batch.structure), step.about), batch, step.options.grammar_weight)


def evaluate(model: Abstractor, batches: Batches) -> Iterator[Metric | Table]:
    """Judged by the mean error of the scores; of each score its error, and how it goes with the truth (Pearson)."""
    yield from judgement_metrics(batches, lambda batch: judgement_of(model(batch.structure), batches.about))


def predict(model: Abstractor, files: Sequence[Path], options: Options, about: Facts) -> Iterator[Mapping[str, Any]]:
    """What it makes of the structure that the newest run of unet sees, and that structure.

    Raises: HeadstartError if no run of unet has learnt from such designs.
    """
    unet = _eyes(as_workspace(about.workspace), about.image_size)
    for design in read_designs(files, about.image_size):
        if isinstance(design, ImageError):
            yield {"error": str(design)}
            continue
        small, size = design
        structure = seen_structure(unet, small)
        said = judgement_of(model(structure), about)
        yield {
            "goal": about.goals[int(said.goal[0].argmax())],
            "format": about.formats[int(said.format[0].argmax())],
            "tone": round(float(said.tone[0]), 3),
            **{name: round(value, 3) for name, value in zip(SCORES, said.scores[0].tolist(), strict=True)},
            **structure_words(structure[0, :2] > 0, structure[0, 2], size),
        }


def _eyes(workspace: Workspace, size: int) -> UNet:
    for experiment in reversed(list_recipe_experiments(workspace)):
        if experiment.recipe == "unet" and experiment.final_weights.exists():
            unet, known = model_of(experiment)
            if isinstance(unet, UNet) and known.image_size == size:
                return unet
    raise HeadstartError(
        f"an abstractor judges structure, and no run of unet here sees it in pictures of {size} pixels. First: "
        f"headstart train unet --image-size {size}"
    )
