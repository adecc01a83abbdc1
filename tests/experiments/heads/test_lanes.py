import numpy as np
import pytest
import torch

from headstart.experiments.config import HeadConfig
from headstart.experiments.heads.lanes import Lane, Task, split_into_lanes
from headstart.experiments.heads.trainer import train
from tests.experiments.trainings import MIXED, NUMBERS, OPTIONS


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_is_that_of_torch_optim_to_1e_6(optimizer):
    heads = [
        HeadConfig(name=str(i), hidden=(5,), optimizer=optimizer, learning_rate=0.01 * (i + 1), weight_decay=0.1 * i)
        for i in range(3)
    ]
    lane = Lane(heads, Task("classification", 7, 3, ()))
    found = lane.parameters
    plain = [[view.clone().requires_grad_() for view in found.views(found.values, head)] for head in range(3)]
    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    extra = {"momentum": 0.9} if optimizer == "sgd" else {}
    theirs = [
        kinds[optimizer](tensors, lr=head.learning_rate, weight_decay=head.weight_decay, **extra)
        for head, tensors in zip(heads, plain, strict=True)
    ]
    random = torch.Generator().manual_seed(0)
    for number in range(1, 20):
        found.gradients.normal_(generator=random)
        for head, tensors in enumerate(plain):
            for tensor, gradient in zip(tensors, found.views(found.gradients, head), strict=True):
                tensor.grad = gradient.clone()
            theirs[head].step()
        found.step(number, 1.0)
    for head, tensors in enumerate(plain):
        for tensor, view in zip(tensors, found.views(found.values, head), strict=True):
            assert (tensor - view).abs().max() <= 1e-6


def test_one_head_that_diverges_harms_no_other():
    broken = HeadConfig(name="broken", optimizer="sgd", learning_rate=1e30, hidden=(8,))
    fine, lost = train(NUMBERS, [HeadConfig(hidden=(8,)), broken], OPTIONS)
    assert lost.best_epoch == -1
    assert np.isfinite(fine.best_score)


def test_lanes_do_not_depend_on_the_machine_and_share_a_shape():
    heads = [HeadConfig(name=str(i), learning_rate=1e-3 * (i + 1)) for i in range(30)]
    assert [len(lane) for lane in split_into_lanes(heads, 10)] == [15, 15]
    assert split_into_lanes(MIXED[:4], 10) == [[0, 1, 2, 3]]
    assert split_into_lanes([HeadConfig(), HeadConfig(name="m", hidden=(8,))], 10) == [[0], [1]]


def gradient_of(head, rows, targets, place=(0, 0)):
    lane = Lane([head], Task("classification", rows.shape[1], targets.shape[0], ()))
    lane.batch(rows, targets, place, 1.0, True)
    return lane


def test_mixup_mixes_rows_and_their_targets_alike():
    rows, targets = torch.randn(16, 7), torch.eye(3)[:, torch.arange(16) % 3]
    lane = gradient_of(HeadConfig(mixup=0.8), rows, targets)
    portion = float(lane._portions((0, 0)))
    assert 0 < portion < 1
    mixed_rows = portion * rows + (1 - portion) * rows.roll(1, 0)
    mixed_targets = portion * targets + (1 - portion) * targets.roll(1, 1)
    plain = gradient_of(HeadConfig(), mixed_rows, mixed_targets)
    assert (lane.parameters.gradients - plain.parameters.gradients).abs().max() < 1e-6


def test_dropout_noise_and_mixup_are_functions_of_the_place_and_of_nothing_else():
    lane = Lane([HeadConfig(hidden=(50,), dropout=0.4, noise=0.5, mixup=0.5)], Task("classification", 7, 3, ()))
    drawn = {
        "dropout": lambda place: lane._dropped(torch.ones(1, 50, 200), 0, place),
        "noise": lambda place: lane._normal((200, 7), place),
        "mixup": lane._portions,
    }
    for draw in drawn.values():
        first = draw((1, 2))
        assert not torch.equal(draw((1, 3)), first)
        assert not torch.equal(draw((2, 2)), first)
        assert torch.equal(draw((1, 2)), first)
    kept = drawn["dropout"]((0, 0))
    assert sorted(set(kept.flatten().tolist())) == pytest.approx([0, 1 / 0.6])
    assert float(kept.mean()) == pytest.approx(1, abs=0.05)
    assert float(drawn["noise"]((0, 0)).std()) == pytest.approx(1, abs=0.1)


def test_heads_with_other_seeds_do_not_share_their_noise():
    heads = [HeadConfig(noise=0.5), HeadConfig(name="other", noise=0.5, seed=1), HeadConfig(name="same", noise=0.5)]
    assert split_into_lanes(heads, 3) == [[0, 2], [1]]
