"""The circuit of `quantum.py` computed by PennyLane, many times as slow: what it does there can be looked at, and compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from headstart.pipeline.errors import HeadstartError

from .quantum import EntanglingCircuit

SIMULATORS = ("torch", "pennylane")


def circuit_of(simulator: str, qubits: int, layers: int) -> EntanglingCircuit:
    """A circuit with weights drawn from torch's generator, the same ones whatever computes it.

    Args: simulator: of SIMULATORS. Raises: HeadstartError if PennyLane is wanted and absent.
    """
    return EntanglingCircuit(qubits, layers) if simulator == "torch" else PennyLaneCircuit(qubits, layers)


class PennyLaneCircuit(EntanglingCircuit):
    """The same answers and gradients within 1e-5 in float32; traced, it is the simulation in torch."""

    def __init__(self, qubits: int, layers: int) -> None:
        super().__init__(qubits, layers)
        try:
            import pennylane
        except ImportError:
            raise HeadstartError("PennyLane is not installed. Install it: pip install 'headstart[quantum]'") from None
        device = pennylane.device("default.qubit", wires=qubits)

        def run(angles: Tensor, weights: Tensor) -> list[Any]:
            pennylane.AngleEmbedding(angles, wires=range(qubits))
            pennylane.StronglyEntanglingLayers(weights, wires=range(qubits))
            return [pennylane.expval(pennylane.PauliZ(qubit)) for qubit in range(qubits)]

        self._run = pennylane.qnode(device, interface="torch", diff_method="backprop")(run)

    def forward(self, angles: Tensor) -> Tensor:
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return super().forward(angles)
        return torch.stack(list(self._run(angles, self.weights)), dim=1).to(angles.dtype)
