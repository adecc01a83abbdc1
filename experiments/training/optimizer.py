"""How weights change: which of them, by what optimizer, at what rate. The rate is a function of the step and the history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.pipeline.errors import HeadstartError

from .schedule import learning_rate_factor

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .options import RecipeOptions

_PLATEAU_PATIENCE = 3  # evaluations without a better one after which the rate falls to a tenth


@dataclass(frozen=True)
class Group:
    """Weights that are trained alike.

    Attributes:
        weights: a module, or parameters.
        scale: what the learning rate is multiplied with for them.
    """

    weights: nn.Module | Iterable[nn.Parameter]
    scale: float = 1.0

    def parameters(self) -> list[nn.Parameter]:
        from torch import nn

        return list(self.weights.parameters() if isinstance(self.weights, nn.Module) else self.weights)


def layer_decay(modules: Sequence[nn.Module], decay: float) -> list[Group]:
    """Each module learns `decay` times as fast as the one after it; the last one at full rate."""
    return [Group(module, decay ** (len(modules) - 1 - number)) for number, module in enumerate(modules)]


def freeze_all_but(model: nn.Module, groups: Sequence[Group]) -> None:
    """What is in no group is not trained. Raises: HeadstartError if a weight stands in two groups."""
    chosen: set[int] = set()
    for group in groups:
        mine = {id(parameter) for parameter in group.parameters()}
        if chosen & mine:
            raise HeadstartError("groups() names a weight twice. Let every weight stand in one group")
        chosen |= mine
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)


def set_training(module: nn.Module) -> None:
    """Training mode for all but what is frozen: there statistics stay as they are, and nothing is dropped."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
        return
    module.training = True
    for child in module.children():
        set_training(child)


def make_optimizer(model: nn.Module, groups: Sequence[Group] | None, options: RecipeOptions) -> torch.optim.Optimizer:
    """torch's own, over the weights that are trained. Biases and scales of normalization (one dimension) do not decay.

    Raises: HeadstartError if there is nothing to train.
    """
    import torch

    if groups is not None:
        freeze_all_but(model, groups)
    param_groups: list[dict[str, Any]] = []
    for group in groups if groups is not None else [Group(model)]:
        trained = [parameter for parameter in group.parameters() if parameter.requires_grad]
        for decays in (True, False):
            mine = [parameter for parameter in trained if (parameter.ndim > 1) == decays]
            if mine:
                decay = options.weight_decay if decays else 0.0
                rate = options.learning_rate * group.scale
                param_groups.append({"params": mine, "lr": rate, "weight_decay": decay, "rate": rate})
    if not param_groups:
        raise HeadstartError("the model has no weight to train. Leave requires_grad of some at True, or name them in groups()")
    if options.optimizer == "sgd":
        return torch.optim.SGD(param_groups, lr=options.learning_rate, momentum=options.momentum, nesterov=options.momentum > 0)
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(param_groups, lr=options.learning_rate)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["rate"] * factor


def rate_factor(options: RecipeOptions, step: int, steps: int, judged: Sequence[float]) -> float:
    """What every learning rate is multiplied with at `step` (from 0) of `steps`.

    Args:
        judged: what validation was judged by so far, larger is better; only a plateau rule reads it.
    """
    factor = learning_rate_factor(step, steps, round(options.warmup * steps), options.schedule)
    return factor * (_plateau_factor(judged) if options.schedule == "plateau" else 1.0)


def _plateau_factor(judged: Sequence[float]) -> float:
    import torch

    # torch's rule from its beginning each time: it is a function of the history then, and there is no state to lose.
    played = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rule = torch.optim.lr_scheduler.ReduceLROnPlateau(played, mode="max", factor=0.1, patience=_PLATEAU_PATIENCE)
    for value in judged:
        rule.step(value)
    return float(played.param_groups[0]["lr"])
