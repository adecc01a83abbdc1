import os
import sys

import pynvml
import pytest

from headstart.features.devices import choose_device, cores, has_nvidia_device

from .samples import python_says


@pytest.fixture
def driver(monkeypatch):
    """A driver that lists one device."""
    for name in ("nvmlInit", "nvmlShutdown"):
        monkeypatch.setattr(pynvml, name, lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_device_that_the_driver_lists_is_seen(driver):
    assert has_nvidia_device()


@pytest.mark.parametrize("hidden", ["", "-1", " -1,0"])
def test_hidden_devices_are_not_seen(driver, monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not has_nvidia_device()


@pytest.mark.parametrize("step", ["nvmlInit", "nvmlDeviceGetCount"])
def test_a_driver_that_does_not_answer_is_no_device(driver, monkeypatch, step):
    def fail():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, step, fail)
    assert not has_nvidia_device()


def test_no_device_means_cpu_and_is_found_out_without_torch(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code = (
        "import sys; from headstart.features.devices import choose_device; print(choose_device('auto'), 'torch' in sys.modules)"
    )
    assert python_says(code) == ("cpu False\n", "")


def test_a_device_that_was_asked_for_is_taken_at_its_word():
    assert choose_device("cuda:1") == "cuda:1"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason=f"{sys.platform} cannot bind a process to cores")
def test_only_the_cores_that_the_process_may_use_count():
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from headstart.features.devices import cores
print(cores())
"""
    assert cores() >= 1
    assert python_says(code) == ("1\n", "")
