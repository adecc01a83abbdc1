"""The network agrees with a plain loop of cells, in outputs and gradients, and goes on where it stood."""

import torch
from torch import nn

from headstart.experiments.strokes.network import SynthesisNetwork


def plain(network, steps, text):
    """The same, cell by cell and point by point, as it stands in the paper."""
    cells = [network.first, *(cell_of(layer) for layer in network.upper)]
    rows, characters = len(steps), torch.nn.functional.one_hot(text, network.symbols + 1).to(steps.dtype)
    characters[..., 0] = 0
    states = [(steps.new_zeros(rows, network.width), steps.new_zeros(rows, network.width)) for _ in cells]
    place, window = steps.new_zeros(rows, network.windows), steps.new_zeros(rows, network.symbols + 1)
    places, outputs = torch.arange(1, text.shape[1] + 1).to(steps.dtype), []
    for step in steps.unbind(1):
        states[0] = cells[0](torch.cat([step, window], 1), states[0])
        height, narrow, stride = nn.functional.softplus(network.to_window(states[0][0])).chunk(3, 1)
        place = place + stride
        seen = (height[..., None] * torch.exp(-narrow[..., None] * (place[..., None] - places) ** 2)).sum(1)
        window = (seen[..., None] * characters).sum(1)
        for number, cell in enumerate(cells[1:], 1):
            states[number] = cell(torch.cat([step, window, states[number - 1][0]], 1), states[number])
        outputs.append(network.to_numbers(torch.cat([hidden for hidden, _ in states], 1)))
    return torch.stack(outputs, 1)


def cell_of(layer):
    cell = nn.LSTMCell(layer.input_size, layer.hidden_size).to(layer.weight_ih_l0.dtype)
    del cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
    cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh = layer._flat_weights
    return cell


def made(rows=3, points=9, characters=5):
    torch.manual_seed(0)
    network = SynthesisNetwork(8, 3, 2, 6).double()
    text = torch.randint(1, 7, (rows, characters))
    text[1, 3:] = 0
    return network, torch.randn(rows, points, 3, dtype=torch.float64), text


def test_outputs_and_weight_gradients_are_those_of_a_plain_loop_of_cells():
    network, steps, text = made()
    weights = torch.randn(3, 9, 13, dtype=torch.float64)
    outputs, expected = network(steps, text)[0], plain(network, steps, text)
    torch.testing.assert_close(outputs, expected)
    parameters = list(network.parameters())
    gradients = torch.autograd.grad((outputs * weights).sum(), parameters)
    for mine, theirs in zip(gradients, torch.autograd.grad((expected * weights).sum(), parameters), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_it_goes_on_where_it_stood():
    network, steps, text = made()
    whole = network(steps, text)[0]
    first, state = network(steps[:, :4], text)
    torch.testing.assert_close(torch.cat([first, network(steps[:, 4:], text, state)[0]], 1), whole)


def test_a_line_is_the_same_beside_longer_ones():
    network, steps, text = made()
    alone = network(steps[1:2, :6], text[1:2, :3])[0]
    torch.testing.assert_close(network(steps, text)[0][1:2, :6], alone)


def test_before_anything_was_learnt_the_window_moves_a_character_in_ten_points():
    network, _, text = made()
    with torch.no_grad():
        network.to_window.weight.zero_()
        state = network(torch.zeros(3, 30, 3, dtype=torch.float64), text)[1]
    torch.testing.assert_close(state.place, torch.full_like(state.place, 3.0))


def test_in_bfloat16_the_window_stays_in_full_precision():
    network, steps, text = (part.float() for part in made())
    text = text.long()
    with torch.autocast("cpu", torch.bfloat16):
        outputs, state = network(steps, text)
    outputs.sum().backward()
    assert state.place.dtype == torch.float32
    torch.testing.assert_close(state.place, network(steps, text)[1].place)
