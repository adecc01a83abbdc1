"""The private functions of torch that heads are trained with; no other module calls one.

Those of a step are what torch.optim's fused optimizers and torch.nn.utils call themselves, without a parameter object and a state
a tensor, which for small heads cost more than the arithmetic. A new torch may change them: tests hold them against torch.optim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def has_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16: without them they are emulated, and slower."""
    import torch

    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check is not None)


def sgd_step(
    values: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], learning_rate: float, momentum: float, decay: float
) -> None:
    """One step of torch.optim.SGD(..., fused=True) in place, the penalty in the gradient; `momenta` begin with 0."""
    import torch

    torch._fused_sgd_(
        values,
        gradients,
        momenta if momentum else [],  # without momentum torch refuses to be given buffers
        weight_decay=decay,
        momentum=momentum,
        lr=learning_rate,
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,  # a buffer of 0 gives the same
    )


def adamw_step(
    values: list[Tensor],
    gradients: list[Tensor],
    moments: tuple[list[Tensor], list[Tensor]],
    step: Tensor,
    learning_rate: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
) -> None:
    """One step of torch.optim.AdamW(..., fused=True) in place.

    Args:
        moments: first and second, beginning with 0.
        step: its number from 1, float32, on the device of the values.
    """
    import torch

    torch._fused_adamw_(
        values,
        gradients,
        moments[0],
        moments[1],
        [],
        [step] * len(values),
        lr=learning_rate,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=decay,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )


def copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Each source into its target, in one call."""
    import torch

    torch._foreach_copy_(targets, sources)
