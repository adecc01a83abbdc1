"""Judges a model on a split, by what its recipe says of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, judging
from headstart.pipeline.errors import HeadstartError

if TYPE_CHECKING:
    from torch import nn

    from headstart.experiments.training.recipe import Recipe


def judge(recipe: Recipe, model: nn.Module, batches: Batches, amp: str = "none") -> list[Metric | Table]:
    """Everything that the recipe says of `model` on a split; the model is left as it was.

    Raises: HeadstartError if the split is empty or the evaluation yields no number.
    """
    import torch

    if not len(batches.rows):
        raise HeadstartError(f"the split '{batches.split}' is empty, so there is nothing to judge by. Give it some rows")
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode(), batches.key.of("judge", batches.split).seeding(), precision(amp, batches.device):
            metrics = list(recipe.evaluate(model, batches))
    finally:
        for module, is_training in was_training.items():
            module.training = is_training
    judging(metrics)
    return metrics


def precision(amp: str, device: str) -> contextlib.AbstractContextManager[Any]:
    """Products in the precision that the options ask for."""
    import torch

    if amp == "none":
        return contextlib.nullcontext()
    return torch.autocast(device.split(":", maxsplit=1)[0], dtype=getattr(torch, amp))
