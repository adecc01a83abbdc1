"""A recipe on a GPU that is not here: it asks for nothing that Apple's lack, and ends as on the CPU."""

import json

import pytest
import torch

from headstart.experiments.training.state.final_weights import read_final
from tests.commands.calling import call
from tests.fake_gpu import fake_gpu

SHORT = ("--max-steps", 3, "--evaluate-every", 2, "--threads", 1, "--data-workers", 0)


def ends_as_on_the_cpu(words, root, monkeypatch, experiment=""):
    """Args: words: of `train`, the recipe first. root: a workspace. experiment: how its names begin, "" as the recipe's."""
    with fake_gpu(monkeypatch, "mps") as gpu:
        weights, numbers = _trained(words, "mps", root, experiment)
        assert gpu.held_bytes() > 0
    expected, numbers_of_cpu = _trained(words, "cpu", root, experiment)
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():  # where maps lie otherwise in memory, sums may be rounded otherwise
        torch.testing.assert_close(weights[name], tensor)
    assert (numbers["device"], numbers_of_cpu["device"]) == ("mps", "cpu")
    assert numbers["best"] == numbers_of_cpu["best"]
    judge = numbers["judged_by"]["metric"]
    assert numbers["val"][judge] == pytest.approx(numbers_of_cpu["val"][judge])


def _trained(words, device, root, experiment):
    name = f"{experiment or words[0]}_{device}"
    done = call("train", *words, *SHORT, "--device", device, "--name", name, "-w", root)
    assert done.status == 0, done.errors
    [folder] = (root / "experiments").glob(f"exp_*_{name}")
    numbers = json.loads((folder / "metrics.json").read_text())
    return read_final(folder / "checkpoints" / "final.safetensors").weights, numbers
