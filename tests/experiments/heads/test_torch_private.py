"""What torch does not promise: its private steps against torch.optim, bit for bit."""

import pytest
import torch

from headstart.experiments.config import HeadConfig
from headstart.experiments.heads.torch_private import adamw_step, copy_all, sgd_step
from headstart.experiments.heads.trainer import train
from tests.experiments.trainings import CLASSES, OPTIONS

SHAPES = [(3, 5), (7,), (2, 2, 2)]
STEPS = 5


def tensors(seed: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=random) for shape in SHAPES]


def zeros() -> list[torch.Tensor]:
    return [torch.zeros(shape) for shape in SHAPES]


def stepped(optimizer: type[torch.optim.Optimizer], **options) -> list[torch.Tensor]:
    parameters = [torch.nn.Parameter(tensor) for tensor in tensors(0)]
    theirs = optimizer(parameters, fused=True, **options)
    for step in range(1, STEPS + 1):
        for parameter, gradient in zip(parameters, tensors(step), strict=True):
            parameter.grad = gradient
        theirs.step()
    return [parameter.detach() for parameter in parameters]


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_an_adamw_step_is_that_of_torch_optim_to_the_bit(decay):
    ours, moments = tensors(0), (zeros(), zeros())
    for step in range(1, STEPS + 1):
        adamw_step(ours, tensors(step), moments, torch.tensor(float(step)), 1e-2, (0.9, 0.999), 1e-8, decay)
    assert_same(ours, stepped(torch.optim.AdamW, lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_an_sgd_step_is_that_of_torch_optim_to_the_bit(momentum, decay):
    ours, momenta = tensors(0), zeros()
    for step in range(1, STEPS + 1):
        sgd_step(ours, tensors(step), momenta, 1e-2, momentum, decay)
    assert_same(ours, stepped(torch.optim.SGD, lr=1e-2, momentum=momentum, weight_decay=decay))


def test_copies_are_equal_and_their_own():
    targets, sources = zeros(), tensors(0)
    copy_all(targets, sources)
    assert_same(targets, sources)
    sources[0].zero_()
    assert targets[0].any()


def test_a_head_is_trained_by_sgd_without_momentum():
    config = HeadConfig(optimizer="sgd", momentum=0.0, learning_rate=0.1, hidden=(8,))
    [outcome] = train(CLASSES, [config], OPTIONS)
    assert outcome.history[-1]["train_loss"] < outcome.history[0]["train_loss"]
