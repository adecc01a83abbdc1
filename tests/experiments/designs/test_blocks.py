"""Blocks of which training keeps the inputs alone: the same bits for less memory."""

import pytest
import torch

from headstart.experiments.designs.blocks import ConvBlock
from headstart.experiments.designs.denoiser import TimedBlock
from headstart.experiments.training.loop import _checkpoint_gradients
from headstart.experiments.training.step_memory import step_memory


class Stack(torch.nn.Module):
    def __init__(self, block, given):
        super().__init__()
        torch.manual_seed(0)
        self.blocks, self.given = torch.nn.ModuleList([block() for _ in range(6)]), given

    def forward(self, maps):
        for block in self.blocks:
            maps = block(maps, *(part[: len(maps)] for part in self.given))
        return maps


def stack(kind):
    timed = [torch.randn(4, 32), torch.randn(4, 3, 32)]
    return Stack(lambda: ConvBlock(8, 8), []) if kind == "convolutions" else Stack(lambda: TimedBlock(8, 8, 32), timed)


KINDS = pytest.mark.parametrize("kind", ["convolutions", "timed"])


def learnt(network, maps):
    loss = network(maps).square().mean()
    loss.backward()
    return loss.detach(), [weight.grad.clone() for weight in network.parameters()]


@KINDS
def test_blocks_computed_again_give_the_same_loss_and_gradients(kind):
    maps = torch.randn(4, 8, 16, 16)
    network = stack(kind)
    before = learnt(network, maps)
    network.zero_grad()
    _checkpoint_gradients(network)
    after = learnt(network, maps)
    assert torch.equal(before[0], after[0])
    assert all(map(torch.equal, before[1], after[1]))
    assert len(before[1]) == len(after[1])


@KINDS
def test_what_blocks_keep_is_counted_by_their_inputs_and_the_largest_block(kind):
    network, maps = stack(kind), torch.randn(4, 8, 16, 16)
    optimizer = torch.optim.SGD(network.parameters())

    def row_bytes():
        return step_memory(network, optimizer, lambda rows: network(maps[:rows]).square().mean(), 4).row_bytes

    whole = row_bytes()
    _checkpoint_gradients(network)
    assert whole / 6 < row_bytes() < whole / 2
    assert all(not block._forward_pre_hooks for block in network.blocks)


def test_only_the_outermost_of_those_that_offer_it_is_asked():
    network = stack("convolutions")
    network.set_grad_checkpointing = lambda enable: None
    _checkpoint_gradients(network)
    assert not any(block.is_recomputed for block in network.blocks)
