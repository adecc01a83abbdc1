"""A torch module as the bytes of an ONNX graph."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

_OPSET = 17


def onnx_bytes(module: nn.Module, example: tuple[Any, ...], inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """`module` traced on `example`; the first axis of every input and output is free.

    Args:
        example: a tensor for each of `inputs`. outputs: names of what the module returns, in its order.

    Raises: whatever torch raises for a module that it cannot export.
    """
    import torch

    buffer = io.BytesIO()
    with torch.no_grad():
        # The older exporter: torch's newer one needs onnxscript, and takes many times as long.
        torch.onnx.export(
            module,
            example,
            buffer,  # type: ignore[arg-type]  # of the newer exporter, which takes paths only
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: {0: "n"} for name in (*inputs, *outputs)},
            opset_version=_OPSET,
            dynamo=False,
        )
    return buffer.getvalue()
