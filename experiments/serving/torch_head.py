"""A head as TorchScript or as torch's exported program (pt2): bytes that depend on the head alone, not on when and where."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.experiments.heads.trained_head import TrainedHead

if TYPE_CHECKING:
    import torch

FACTS_NAME = "headstart.json"
_EXAMPLE_ROWS = 2
_EPOCH = (1980, 1, 1, 0, 0, 0)
# Where the source lay and what it was traced with: differs from machine to machine, and loading needs none of it.
_LEFT_OUT = (".debug_pkl", "/.data/serialization_id")


def module_of(head: TrainedHead, logits: bool = False) -> torch.nn.Module:
    """(n, d) float32 to probabilities, numbers or logits (n, k), in evaluation mode."""
    import torch

    layers, output = head.module(), head.config.output_for(head.task)

    outputs = head.outputs
    units = None if outputs is None else (torch.from_numpy(outputs.scale), torch.from_numpy(outputs.mean))

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            values: torch.Tensor = self.layers(features)
            if units is not None:  # float32 has too few digits for these
                return values.double() * units[0] + units[1]
            if logits or output == "linear":
                return values
            if output == "softmax":
                return values.softmax(1)
            if head.task == "regression":
                return values.sigmoid()
            positive = values.sigmoid() + float(np.finfo(np.float32).tiny)
            return positive / positive.sum(1, keepdim=True)

    return Head().eval().requires_grad_(False)


def torchscript(head: TrainedHead, facts: Mapping[str, Any], logits: bool = False) -> bytes:
    """For `torch.jit.load`; `facts` are its extra file headstart.json.

    The same bytes in every process; a second call within one may differ in names that torch makes up.
    """
    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch wants everybody to move to pt2; who asks for this format knows
        traced = torch.jit.trace(module_of(head, logits), _example(head))  # type: ignore[no-untyped-call]
        traced = torch.jit.freeze(traced)
        torch.jit.save(traced, buffer, _extra_files={FACTS_NAME: _json(facts)})
    return _normal(buffer.getvalue())


def exported_program(head: TrainedHead, facts: Mapping[str, Any], logits: bool = False) -> bytes:
    """For `torch.export.load(...).module()`; `facts` are its extra file headstart.json."""
    import torch

    rows = torch.export.Dim("n", min=1)
    program = torch.export.export(module_of(head, logits), (_example(head),), dynamic_shapes={"features": {0: rows}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={FACTS_NAME: _json(facts)})
    return _normal(buffer.getvalue())


def _example(head: TrainedHead) -> torch.Tensor:
    import torch

    return torch.zeros(_EXAMPLE_ROWS, head.inputs)


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, sort_keys=True)


def _normal(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            if not entry.filename.endswith(_LEFT_OUT):
                target.writestr(zipfile.ZipInfo(entry.filename, _EPOCH), source.read(entry))
    return buffer.getvalue()
