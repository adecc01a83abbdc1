"""How well a run of abstractor judges what a run of unet sees, beside the true structure of the same designs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.experiments.runs.recipe_experiment import options_of, recipe_of, splits_of
from headstart.experiments.training.judging.evaluation import judged_batches
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace, as_workspace

from .publish_recipe import numbers_of
from .trained_model import trained_model


@dataclass(frozen=True)
class AbstractorEvaluation:
    """The same numbers twice.

    Attributes:
        run, eyes: names of the experiments.
        numbers: by 'true' and 'seen': those of the run's own test, each with its 95 % interval over designs.
    """

    run: str
    eyes: str
    split: str
    designs: int
    numbers: Mapping[str, Mapping[str, Any]]

    def as_json(self) -> dict[str, Any]:
        facts = {"experiment": self.run, "seen_by": self.eyes, "split": self.split, "designs": self.designs}
        return {**facts, "numbers": {name: dict(one) for name, one in self.numbers.items()}}


def evaluate_abstractor(
    run: str | int, seen_by: str | int, workspace: Workspace | Path | str | None = None, *, split: str = "test"
) -> AbstractorEvaluation:
    """How good a run of abstractor is at what a U-Net sees: what `headstart evaluate RUN --seen-by UNET` says.

    Args:
        run, seen_by: numbers of runs of the recipes abstractor and unet, both of the same designs and size.
        workspace: a folder; None is the one that every command would take, see `find_root`.
        split: test or val.

    Raises: HeadstartError if there is no such run, it is of another recipe, or the two learnt from other designs or sizes.
    """
    import torch

    from headstart.experiments.designs.abstractor_network import Abstractor
    from headstart.experiments.designs.judgement import judgement_metrics, judgement_of
    from headstart.experiments.designs.seen_structure import seen_structure
    from headstart.experiments.designs.unet_network import UNet

    opened = as_workspace(workspace)
    judging, abstractor, about = trained_model(opened, run, Abstractor, "judges structure, such as one of abstractor")
    seeing, unet, known = trained_model(opened, seen_by, UNet, "sees structure, such as one of unet")
    if (about.image_size, judging.settled["made"]) != (known.image_size, seeing.settled["made"]):
        raise HeadstartError(
            f"{seeing.folder.name} has learnt from {seeing.settled['made']} at {known.image_size} pixels, {judging.folder.name} "
            f"from {judging.settled['made']} at {about.image_size}. First: headstart train unet --image-size {about.image_size}"
        )
    recipe = recipe_of(judging)
    options = options_of(judging, recipe)
    splits = splits_of(opened, judging, recipe, options, split)
    batches = judged_batches(splits, split, options, "cpu")
    views = {
        "true": lambda batch: batch.structure,
        "seen": lambda batch: seen_structure(unet, batch.image),
    }
    with torch.inference_mode():
        numbers = {
            name: numbers_of(list(judgement_metrics(batches, lambda batch, see=see: judgement_of(abstractor(see(batch)), about))))  # type: ignore[misc]
            for name, see in views.items()
        }
    return AbstractorEvaluation(judging.folder.name, seeing.folder.name, split, len(batches.rows), numbers)
