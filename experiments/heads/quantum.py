"""A small quantum circuit simulated in torch: angles in, expectations out, differentiable, a batch at once.

The state of n qubits is a vector of 2^n complex numbers, qubit 0 being the first factor. Rotations of a layer are one product
with the Kronecker product of its first qubits and one with that of its last ones; its CNOTs together are a permutation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MOST_QUBITS = 12


class EntanglingCircuit(nn.Module):
    """Angle embedding (RX), strongly entangling layers, expectation of Z of each qubit; as PennyLane has them.

    A layer turns each qubit by RZ(omega) RY(theta) RZ(phi) and then entangles qubit i with qubit i + r by CNOT, r being 1 in the
    first layer, 2 in the second and so on, round again from n - 1. Schuld et al., "Circuit-centric quantum classifiers", 2020.

    Attributes:
        weights: (layers, qubits, 3), phi, theta and omega, drawn from [0, 2 pi).
    """

    def __init__(self, qubits: int, layers: int) -> None:
        """Raises: ValueError if there are no qubits, more than MOST_QUBITS, or no layers."""
        super().__init__()
        if not (1 <= qubits <= MOST_QUBITS and layers >= 1):
            raise ValueError(f"{qubits} qubits and {layers} layers, expected 1 to {MOST_QUBITS} qubits and 1 layer or more")
        self.qubits, self.layers = qubits, layers
        self.weights = nn.Parameter(2 * math.pi * torch.rand(layers, qubits, 3))
        numbers = torch.arange(2**qubits)
        bits = (numbers[:, None] >> torch.arange(qubits - 1, -1, -1)) & 1  # (2^n, n), that of qubit 0 first
        # RX turns |0> into cos |0> - i sin |1>: of each amplitude the phase is (-i) to the number of its ones.
        ones = bits.sum(1) % 4
        phases = torch.tensor([[1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 1.0]])[ones]
        self._real: Tensor
        self._imaginary: Tensor
        self._signs: Tensor
        self.register_buffer("_real", phases[:, 0].contiguous(), persistent=False)
        self.register_buffer("_imaginary", phases[:, 1].contiguous(), persistent=False)
        self.register_buffer("_signs", (1.0 - 2.0 * bits), persistent=False)
        ranges = [1 + layer % (qubits - 1) for layer in range(layers)] if qubits > 1 else []
        self._permutations = [_entangled(numbers, qubits, distance) for distance in ranges]

    def forward(self, angles: Tensor) -> Tensor:
        """Expectations (b, n) from -1 to 1 of angles (b, n); float32 or float64, as the weights are."""
        amplitudes = self._embedded(angles)
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return self._folded(amplitudes)
        state = torch.complex(amplitudes * self._real, amplitudes * self._imaginary)
        return self._expected(self._evolved(state))

    def _embedded(self, angles: Tensor) -> Tensor:
        """Moduli with sign of the amplitudes after the embedding, (b, 2^n): products of cosines and sines of half angles."""
        halves = angles / 2
        factors = torch.stack([halves.cos(), halves.sin()], dim=2)
        amplitudes = factors[:, 0]
        for qubit in range(1, self.qubits):
            amplitudes = (amplitudes[:, :, None] * factors[:, None, qubit]).flatten(1)
        return amplitudes

    def _evolved(self, state: Tensor) -> Tensor:
        """The state (b, 2^n), complex, after all layers."""
        gates = self._rotations()
        split = self.qubits // 2
        last = _kronecker(gates[:, split:])
        first = _kronecker(gates[:, :split]) if split else None
        for layer in range(self.layers):
            parts = state.view(len(state), -1, last.shape[1])
            parts = parts @ last[layer].T
            if first is not None:
                parts = first[layer] @ parts
            state = parts.reshape(len(state), -1)
            if self._permutations:
                state = state[:, self._permutations[layer].to(state.device)]
        return state

    def _rotations(self) -> Tensor:
        """(layers, qubits, 2, 2) complex. Not by `torch.polar`: for a negative modulus its gradient has the wrong sign."""
        phi, theta, omega = self.weights.unbind(2)
        cosine, sine = (theta / 2).cos(), (theta / 2).sin()
        plus, minus = (phi + omega) / 2, (phi - omega) / 2
        rows = [
            torch.complex(cosine * plus.cos(), -cosine * plus.sin()),
            torch.complex(-sine * minus.cos(), -sine * minus.sin()),
            torch.complex(sine * minus.cos(), -sine * minus.sin()),
            torch.complex(cosine * plus.cos(), cosine * plus.sin()),
        ]
        return torch.stack(rows, dim=2).view(self.layers, self.qubits, 2, 2)

    def _expected(self, state: Tensor) -> Tensor:
        return (state.real**2 + state.imag**2) @ self._signs

    def _folded(self, amplitudes: Tensor) -> Tensor:
        """As `forward`, with all layers as one constant unitary in real numbers: what formats without complex numbers take."""
        with torch.no_grad():
            unitary = self._evolved(torch.diag(torch.complex(self._real, self._imaginary)))
            real, imaginary = (torch.from_numpy(part.cpu().numpy().copy()) for part in (unitary.real, unitary.imag))
        return ((amplitudes @ real) ** 2 + (amplitudes @ imaginary) ** 2) @ self._signs


def _kronecker(gates: Tensor) -> Tensor:
    """Of the gates of each layer, (layers, k, 2, 2): (layers, 2^k, 2^k)."""
    product = gates[:, 0]
    for number in range(1, gates.shape[1]):
        pairs = torch.einsum("lab,lcd->lacbd", product, gates[:, number])
        product = pairs.reshape(len(gates), 2 * product.shape[1], 2 * product.shape[2])
    return product


def _entangled(numbers: Tensor, qubits: int, distance: int) -> Tensor:
    """(2^n,) from where each amplitude comes when every qubit has flipped the one at that distance, qubit 0 first."""
    sources = numbers
    for control in range(qubits):
        target = (control + distance) % qubits
        flipped = numbers ^ (((numbers >> (qubits - 1 - control)) & 1) << (qubits - 1 - target))
        sources = sources[flipped]
    return sources
