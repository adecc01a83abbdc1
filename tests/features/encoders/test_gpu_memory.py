"""What is asked of torch about a GPU, with a stand-in for the driver; torch's own check of the device's name is the real one."""

from types import SimpleNamespace

import pytest
import torch
from torch.cuda._utils import _get_device_index

from headstart.features.encoders.gpu_memory import CudaMemory


@pytest.mark.parametrize(("device", "number"), [("cuda", 1), ("cuda:0", 0), ("cuda:2", 2)])
def test_the_allocator_is_capped_on_the_device_that_was_named_or_else_the_current_one(monkeypatch, device, number):
    capped = []
    properties = SimpleNamespace(total_memory=8 * 10**9, uuid="0")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    # As torch begins: a device without a number is refused.
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda part, device: capped.append((part, _get_device_index(device)))
    )
    CudaMemory(device).cap(2 * 10**9)
    assert capped == [(0.25, number)]
