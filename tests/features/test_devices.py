import os
import sys

import pynvml
import pytest

from headstart.features import devices
from headstart.features.devices import choose_device, cores, device_to_go_on, has_nvidia_device, usable_device
from headstart.pipeline.errors import HeadstartError

from .samples import python_says


@pytest.fixture
def driver(monkeypatch):
    """A driver that lists one device."""
    monkeypatch.setattr(devices, "_has_nvidia_driver", lambda: True)
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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pynvml is asked")
def test_without_a_driver_its_library_is_not_even_imported():
    code = (
        "import ctypes, sys; from headstart.features.devices import has_nvidia_device\n"
        "def fail(name): raise OSError(name)\n"
        "ctypes.CDLL = fail; print(has_nvidia_device(), 'pynvml' in sys.modules)"
    )
    assert python_says(code) == ("False False\n", "")


def test_no_device_means_cpu_and_is_found_out_without_torch(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code = (
        "import sys; from headstart.features.devices import choose_device; print(choose_device('auto'), 'torch' in sys.modules)"
    )
    assert python_says(code) == ("cpu False\n", "")


def test_a_device_that_was_asked_for_is_taken_at_its_word():
    assert choose_device("cuda:1") == "cuda:1"


@pytest.mark.skipif(sys.platform != "linux", reason="joblib reads quotas of Linux")
@pytest.mark.parametrize(
    ("quota", "expected", "asks_joblib"),
    [
        pytest.param({"cpu.max": "150000 100000"}, 2, True, id="one and a half"),
        pytest.param({"cpu.max": "100000 100000"}, 1, True, id="one"),
        pytest.param({"cpu.max": "max 100000"}, 4, False, id="no limit"),
        pytest.param({"cpu.cfs_quota_us": "250000", "cpu.cfs_period_us": "100000"}, 3, True, id="version 1, two and a half"),
        pytest.param({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, 4, False, id="version 1, no limit"),
        pytest.param({}, 4, False, id="no container"),
    ],
)
def test_a_quota_of_a_container_counts_as_so_many_cores(tmp_path, quota, expected, asks_joblib):
    for name, content in quota.items():
        (tmp_path / name).write_text(f"{content}\n")
    code = f"""
import builtins, os, sys
plain, there = builtins.open, os.path.exists
is_limit = lambda path: str(path).startswith("/sys/fs/cgroup/")
moved = lambda path: {str(tmp_path)!r} + "/" + os.path.basename(path) if is_limit(path) else path
builtins.open = lambda path, *rest, **more: plain(moved(path), *rest, **more)
os.path.exists = lambda path: there(moved(path))
os.sched_getaffinity = lambda pid: {{0, 1, 2, 3}}
os.cpu_count = lambda: 4
from headstart.features.devices import cores
print(cores(), "joblib" in sys.modules)
"""
    assert python_says(code) == (f"{expected} {asks_joblib}\n", "")


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


@pytest.mark.parametrize(
    ("asked", "count", "words"),
    [
        ("cuda", 0, "--device cuda: torch finds no CUDA device here"),
        ("cuda:1", 0, "--device cuda:1: torch finds no CUDA device here"),
        ("cuda:2", 2, "--device cuda:2: torch finds cuda:0, cuda:1. Name one of them"),
        ("cuda:", 1, "--device cuda:: torch finds cuda:0. Name one of them"),
    ],
)
def test_a_gpu_that_is_not_here_is_refused_by_its_name(asked, count, words, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    with pytest.raises(HeadstartError, match=words):
        usable_device(asked)


@pytest.mark.parametrize("asked", ["cuda", "cuda:1", "cpu"])
def test_a_device_that_is_here_is_usable(asked, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert usable_device(asked) == asked


@pytest.mark.parametrize(
    ("before", "asked", "here", "device"),
    [
        pytest.param("cpu", "auto", "cuda", "cpu", id="a GPU that is here besides takes nothing over"),
        pytest.param("cuda", "auto", "cuda", "cuda", id="there is a GPU again"),
        pytest.param("cuda", "auto", "cpu", "cpu", id="there is none any more"),
        pytest.param("", "auto", "cuda", "cuda", id="nothing was done yet"),
        pytest.param("cuda", "cpu", "cuda", "cpu", id="another is asked for"),
    ],
)
def test_work_goes_on_on_the_device_that_it_was_begun_on_where_that_is_here(before, asked, here, device, monkeypatch):
    monkeypatch.setattr(devices, "choose_device", lambda asked: here if asked == "auto" else asked)
    assert device_to_go_on(before, asked) == device
