"""The GPU that is not here refuses what a real one would: else a test with it could not fail."""

import pytest
import torch

from .fake_gpu import fake_gpu


def side_by_side():
    """Two channels of each pixel, there."""
    return torch.ones(1, 2, 2, 2, device="mps").permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("use", "kind_of_error"),
    [
        (lambda here, there: there + here, RuntimeError),
        (lambda here, there: torch.nn.functional.linear(there, here), RuntimeError),
        (lambda here, there: there.numpy(), TypeError),
        (lambda here, there: there.double(), TypeError),
        (lambda here, there: here.double().to("mps"), TypeError),
        (lambda here, there: torch.zeros(2, dtype=torch.float64, device="mps"), TypeError),
        (lambda here, there: here.to("mps", non_blocking=True), AssertionError),
        (lambda here, there: torch.conv2d(side_by_side()[:, :1], torch.ones(1, 1, 1, 1).to("mps")), AssertionError),
    ],
    ids=[
        "two devices",
        "their product",
        "numpy",
        "float64",
        "float64 that goes there",
        "float64 made there",
        "no waiting",
        "some channels",
    ],
)
def test_what_a_gpu_refuses_is_refused(use, kind_of_error, monkeypatch):
    with fake_gpu(monkeypatch, "mps") as gpu:
        here = torch.ones(2, 2)
        there = here.to("mps")
        assert (gpu.has(here), gpu.has(there)) == (False, True)
        with pytest.raises(kind_of_error):
            use(here, there)


def test_what_comes_of_a_tensor_there_is_there_until_it_is_fetched(monkeypatch):
    with fake_gpu(monkeypatch, "mps") as gpu:
        model = torch.nn.Linear(2, 3).to("mps")
        loss = model(torch.ones(4, 2, device="mps")).square().mean()
        loss.backward()
        assert all(map(gpu.has, (loss, model.weight, model.weight.grad, loss.detach(), model.weight[:1])))
        assert str(loss.device) == "mps:0"
        assert not gpu.has(loss.detach().cpu())
        assert loss.detach().cpu().numpy() > 0
