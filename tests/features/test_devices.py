import os
import re
import sys

import pytest

from headstart.commands.options import device_option
from headstart.features import accelerators
from headstart.features.devices import (
    choose_device,
    cores,
    device_of_heads,
    device_to_go_on,
    has_accelerator,
    is_out_of_memory,
    usable_device,
)
from headstart.pipeline.errors import HeadstartError

from .samples import python_says


def test_no_device_means_cpu_and_is_found_out_without_torch(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code = (
        "import sys; from headstart.features.devices import choose_device; print(choose_device('auto'), 'torch' in sys.modules)"
    )
    assert python_says(code) == ("cpu False\n", "")


class There:
    """A kind of device of which there are so many."""

    def __init__(self, name, is_likely, count):
        self.name, self.is_likely, self.count = name, lambda: is_likely, lambda: count


@pytest.mark.parametrize(
    ("likely", "usable", "chosen"),
    [
        pytest.param("cuda xpu mps", "cuda xpu mps", "cuda", id="all"),
        pytest.param("xpu mps", "xpu mps", "xpu", id="all but NVIDIA's"),
        pytest.param("mps", "mps", "mps", id="Apple's"),
        pytest.param("cuda xpu", "xpu", "xpu", id="a torch that cannot use the first one"),
        pytest.param("cuda", "", "cpu", id="a torch that can use none"),
        pytest.param("", "cuda xpu mps", "cpu", id="not even asked"),
    ],
)
def test_auto_is_the_first_of_cuda_xpu_and_mps_that_torch_can_use(likely, usable, chosen, monkeypatch):
    kinds = {name: There(name, name in likely.split(), name in usable.split()) for name in accelerators.DEVICE_KINDS}
    monkeypatch.setattr(accelerators, "DEVICE_KINDS", kinds)
    assert choose_device("auto") == chosen
    assert has_accelerator() == bool(likely)


def test_the_option_takes_every_kind_of_device():
    assert set(device_option(lambda: None).__click_params__[0].type.choices) == {"auto", *accelerators.DEVICE_KINDS}


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 20.00 MiB",
        "XPU out of memory. Tried to allocate 20.00 MiB",
        "MPS backend out of memory (MPS allocated: 5.56 GB, other allocations: 1.10 GB, max allowed: 6.80 GB)",
        "Invalid buffer size: 9.75 GB",
    ],
)
def test_memory_that_ran_out_is_known_by_the_words_of_every_device(words):
    assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(ValueError(words))


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
        ("xpu", 0, "--device xpu: torch finds no XPU device here. Use --device cpu, or leave --device out"),
        ("mps", 0, "--device mps: torch finds no MPS device here. Use --device cpu, or leave --device out"),
        ("mps:1", 1, "--device mps:1: torch finds mps:0. Name one of them"),
        ("tpu", 1, "--device tpu: unknown. Use auto, cpu, cuda, mps, xpu"),
    ],
)
def test_a_gpu_that_is_not_here_is_refused_by_its_name(asked, count, words, monkeypatch):
    for kind in ("cuda", "xpu"):
        monkeypatch.setattr(f"torch.{kind}.is_available", lambda: count > 0)
        monkeypatch.setattr(f"torch.{kind}.device_count", lambda: count)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: count > 0)
    with pytest.raises(HeadstartError, match=re.escape(words)):
        usable_device(asked)


@pytest.mark.parametrize("asked", ["cuda", "cuda:1", "cpu"])
def test_a_device_that_is_here_is_usable(asked, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert usable_device(asked) == asked


@pytest.mark.parametrize(
    ("asked", "here", "device", "note"),
    [
        ("auto", "cuda", "cuda", ""),
        ("auto", "mps", "cpu", ""),
        ("cpu", "mps", "cpu", ""),
        ("mps", "mps", "cpu", "heads are trained on the CPU: by several threads, and nothing says that these may share mps"),
    ],
)
def test_heads_are_trained_on_the_cpu_where_threads_may_not_share_the_gpu(asked, here, device, note, monkeypatch):
    monkeypatch.setattr(accelerators, "DEVICE_KINDS", {**accelerators.DEVICE_KINDS})
    for name in ("cuda", "xpu", "mps"):
        there = There(name, name == here, name == here)
        there.is_threaded = accelerators.DEVICE_KINDS[name].is_threaded
        accelerators.DEVICE_KINDS[name] = there
    assert device_of_heads(asked) == (device, note)


@pytest.mark.parametrize(
    ("before", "asked", "here", "device"),
    [
        pytest.param("cpu", "auto", ["cuda"], "cpu", id="a GPU that is here besides takes nothing over"),
        pytest.param("cuda", "auto", ["cuda"], "cuda", id="there is a GPU again"),
        pytest.param("cuda", "auto", [], "cpu", id="there is none any more"),
        pytest.param("cuda", "auto", ["mps"], "mps", id="there is another one"),
        pytest.param("xpu", "auto", ["cuda", "xpu"], "xpu", id="there is a better one besides"),
        pytest.param("", "auto", ["cuda"], "cuda", id="nothing was done yet"),
        pytest.param("cuda", "cpu", ["cuda"], "cpu", id="another is asked for"),
    ],
)
def test_work_goes_on_on_the_device_that_it_was_begun_on_where_that_is_here(before, asked, here, device, monkeypatch):
    kinds = {name: There(name, True, name in here or name == "cpu") for name in accelerators.DEVICE_KINDS}
    monkeypatch.setattr(accelerators, "DEVICE_KINDS", kinds)
    assert device_to_go_on(before, asked) == device
