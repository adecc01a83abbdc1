"""The circuit against PennyLane, against a simulation gate by gate, and against numerical gradients."""

import itertools
import math

import numpy as np
import pytest
import torch

from headstart.experiments.heads.pennylane_circuit import circuit_of as simulated
from headstart.experiments.heads.quantum import MOST_QUBITS, EntanglingCircuit

SHAPES = list(itertools.product(range(1, 9), range(1, 5)))
CLOSE = {torch.float32: 1e-5, torch.float64: 1e-10}


def circuit_of(qubits, layers, dtype, seed=0):
    torch.manual_seed(seed)
    # Beyond a turn and below zero, where signs of moduli differ.
    circuit = EntanglingCircuit(qubits, layers).to(dtype)
    circuit.weights.data = (4 * math.pi * (torch.rand(layers, qubits, 3, dtype=torch.float64) - 0.5)).to(dtype)
    angles = (4 * math.pi * (torch.rand(5, qubits, dtype=torch.float64) - 0.5)).to(dtype)
    wanted = torch.randn(5, qubits, dtype=torch.float64).to(dtype)
    return circuit, angles.requires_grad_(), wanted


def with_gradients(circuit, angles, wanted):
    """Outputs, and the gradients of sum(outputs * wanted) to weights and angles."""
    outputs = circuit(angles)
    gradients = torch.autograd.grad((outputs * wanted).sum(), [circuit.weights, angles])
    return [one.detach().double().numpy() for one in (outputs, *gradients)]


def gate_by_gate(weights, angles):
    """The same circuit with 2^n x 2^n matrices in float64, straight from its definition: outputs (b, n)."""
    layers, qubits, _ = weights.shape
    identity, zero, one = np.eye(2), np.diag([1, 0]), np.diag([0, 1])
    flip = np.array([[0, 1], [1, 0]])

    def whole(**gates):
        product = np.eye(1)
        for qubit in range(qubits):
            product = np.kron(product, gates.get(f"q{qubit}", identity))
        return product

    def turned(axis, angle):
        pauli = {"x": flip, "y": np.array([[0, -1j], [1j, 0]]), "z": np.diag([1, -1])}[axis]
        return math.cos(angle / 2) * np.eye(2) - 1j * math.sin(angle / 2) * pauli

    outputs = []
    for row in angles:
        state = np.zeros(2**qubits, complex)
        state[0] = 1
        for qubit, angle in enumerate(row):
            state = whole(**{f"q{qubit}": turned("x", angle)}) @ state
        for layer in range(layers):
            for qubit in range(qubits):
                phi, theta, omega = weights[layer, qubit]
                state = whole(**{f"q{qubit}": turned("z", omega) @ turned("y", theta) @ turned("z", phi)}) @ state
            for control in range(qubits if qubits > 1 else 0):
                target = (control + 1 + layer % (qubits - 1)) % qubits
                state = (whole(**{f"q{control}": zero}) + whole(**{f"q{control}": one, f"q{target}": flip})) @ state
        probabilities = abs(state) ** 2
        outputs.append([whole(**{f"q{q}": np.diag([1, -1])}).diagonal() @ probabilities for q in range(qubits)])
    return np.array(outputs)


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize(("qubits", "layers"), SHAPES)
def test_outputs_and_gradients_are_those_of_pennylane(qubits, layers, dtype):
    pennylane = pytest.importorskip("pennylane", reason="pennylane is absent: pip install '.[quantum]'")
    circuit, angles, wanted = circuit_of(qubits, layers, dtype)
    device = pennylane.device("default.qubit", wires=qubits)

    @pennylane.qnode(device, interface="torch", diff_method="backprop")
    def oracle(inputs, weights):
        pennylane.AngleEmbedding(inputs, wires=range(qubits))
        pennylane.StronglyEntanglingLayers(weights, wires=range(qubits))
        return [pennylane.expval(pennylane.PauliZ(qubit)) for qubit in range(qubits)]

    inputs, weights = (one.detach().double().requires_grad_() for one in (angles, circuit.weights))
    outputs = torch.stack(list(oracle(inputs, weights)), dim=1)
    gradients = torch.autograd.grad((outputs * wanted.double()).sum(), [weights, inputs])
    expected = [one.detach().numpy() for one in (outputs, *gradients)]
    for ours, theirs in zip(with_gradients(circuit, angles, wanted), expected, strict=True):
        assert abs(ours - theirs).max() <= CLOSE[dtype] * max(1, abs(theirs).max())


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
def test_pennylane_computes_the_same_circuit_with_the_same_weights(dtype):
    pytest.importorskip("pennylane", reason="pennylane is absent: pip install '.[quantum]'")
    ours, angles, wanted = circuit_of(3, 2, dtype)
    theirs = simulated("pennylane", 3, 2).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    for one, other in zip(with_gradients(ours, angles, wanted), with_gradients(theirs, angles, wanted), strict=True):
        assert abs(one - other).max() <= CLOSE[dtype] * max(1, abs(other).max())


@pytest.mark.parametrize(("qubits", "layers"), [(1, 1), (1, 3), (2, 2), (3, 4), (5, 2)])
def test_outputs_are_those_of_the_gates_one_by_one(qubits, layers):
    circuit, angles, _ = circuit_of(qubits, layers, torch.float64)
    expected = gate_by_gate(circuit.weights.detach().numpy(), angles.detach().numpy())
    assert abs(circuit(angles).detach().numpy() - expected).max() < 1e-12


@pytest.mark.parametrize(("qubits", "layers"), [(1, 2), (2, 1), (3, 3), (4, 2)])
def test_gradients_of_weights_and_angles_are_the_numerical_ones(qubits, layers):
    circuit, angles, _ = circuit_of(qubits, layers, torch.float64)

    def said(weights, inputs):
        return torch.func.functional_call(circuit, {"weights": weights}, (inputs,))

    assert torch.autograd.gradcheck(said, (circuit.weights, angles))


def test_rows_of_a_batch_do_not_meet():
    circuit, angles, _ = circuit_of(4, 3, torch.float64)
    together = circuit(angles)
    alone = torch.cat([circuit(row[None]) for row in angles])
    assert (together - alone).abs().max() < 1e-14


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(("qubits", "layers"), [(1, 1), (4, 3), (8, 2)])
def test_a_traced_circuit_is_real_and_says_the_same(qubits, layers):
    circuit, angles, _ = circuit_of(qubits, layers, torch.float32)
    traced = torch.jit.trace(circuit, angles.detach())
    assert "complex" not in str(traced.graph).lower()
    assert (traced(angles.detach()) - circuit(angles)).abs().max() < 1e-5


@pytest.mark.parametrize(("qubits", "layers"), [(0, 1), (MOST_QUBITS + 1, 1), (2, 0)])
def test_a_circuit_that_cannot_be_is_refused(qubits, layers):
    with pytest.raises(ValueError, match="expected 1 to 12 qubits"):
        EntanglingCircuit(qubits, layers)
