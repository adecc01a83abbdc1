"""Judges a model on a split, by what its recipe says of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, judging
from headstart.features.accelerators import device_kind
from headstart.pipeline.errors import HeadstartError

if TYPE_CHECKING:
    from torch import nn

    from headstart.experiments.training.recipe import Recipe


def judge(recipe: Recipe, model: nn.Module, batches: Batches, amp: str = "none") -> list[Metric | Table]:
    """Everything that the recipe says of `model` on a split; the model is left as it was.

    Raises: HeadstartError if the split is empty, the evaluation yields no number, or as `require_amp`.
    """
    import torch

    if not len(batches.rows):
        raise HeadstartError(f"the split '{batches.split}' is empty, so there is nothing to judge by. Give it some rows")
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode(), batches.key.of("judge", batches.split).seeding(), precision(amp, batches.device, model):
            metrics = list(recipe.evaluate(model, batches))
    finally:
        for module, is_training in was_training.items():
            module.training = is_training
    judging(metrics)
    return metrics


def require_amp(amp: str, device: str, model: nn.Module) -> None:
    """Raises: HeadstartError if torch cannot train in that precision there, or not a layer of `model`.

    What a device lacks its kind knows. A CPU has float16 for linear layers, convolutions, attention, GRU and simple recurrent
    layers, but for no LSTM.
    """
    from torch import nn

    reason = device_kind(device).refusal(amp, device)
    if reason:
        raise HeadstartError(f"--amp {amp} on {device}: {reason}")
    if amp == "float16" and device == "cpu" and any(isinstance(module, nn.LSTM) for module in model.modules()):
        raise HeadstartError(
            "--amp float16: torch computes no LSTM layer so on a CPU. Train with --amp bfloat16, or on a GPU (--device cuda)"
        )


def precision(amp: str, device: str, model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Products in the precision that the options ask for. Raises as `require_amp`."""
    import torch

    require_amp(amp, device, model)
    if amp == "none":
        return contextlib.nullcontext()
    return torch.autocast(device_kind(device).name, dtype=getattr(torch, amp))
