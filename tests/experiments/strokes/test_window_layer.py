"""The gradient that is written by hand is that of the numbers: of weights, characters, steps and where the layer stood."""

import torch

from headstart.experiments.strokes.window_layer import WindowLayer


def test_each_gradient_is_the_slope_of_each_result():
    torch.manual_seed(0)
    rows, points, characters, units, parts = 2, 4, 3, 3, 2
    is_there = torch.ones(rows, characters, dtype=torch.float64)
    is_there[1, 2:] = 0
    shapes = {
        "gates": (rows, points, 4 * units),
        "keys": (rows, characters, 4 * units),
        "recurrent": (4 * units, units),
        "weight": (3 * parts, units),
        "bias": (3 * parts,),
        "is_there": None,
        "hidden": (rows, units),
        "cell": (rows, units),
        "place": (rows, parts),
        "seen": (rows, characters),
    }
    given = [
        is_there if shape is None else torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes.values()
    ]
    assert torch.autograd.gradcheck(WindowLayer.apply, given)
