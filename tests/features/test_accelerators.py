"""What is asked of torch about a device, with stand-ins for drivers: no GPU is needed, and none but NVIDIA's was ever tried."""

import os
import sys
from types import SimpleNamespace

import pynvml
import pytest
import torch
from torch.cuda._utils import _get_device_index

from headstart.features import accelerators
from headstart.features.accelerators import (
    DEVICE_KINDS,
    CudaMemory,
    as_float64,
    device_kind,
    has_nvidia_device,
    is_here,
    of_a_batch,
    place_again,
)
from headstart.pipeline.errors import HeadstartError
from tests.fake_gpu import fake_gpu

from .samples import python_says


@pytest.fixture
def driver(monkeypatch):
    """A driver that lists one device."""
    monkeypatch.setattr(accelerators, "_has_nvidia_driver", lambda: True)
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
        "import ctypes, sys; from headstart.features.accelerators import has_nvidia_device\n"
        "def fail(name): raise OSError(name)\n"
        "ctypes.CDLL = fail; print(has_nvidia_device(), 'pynvml' in sys.modules)"
    )
    assert python_says(code) == ("False False\n", "")


@pytest.mark.parametrize(("library", "is_likely"), [("libc10_xpu.so", True), ("c10_xpu.dll", True), ("libc10_cuda.so", False)])
def test_an_intel_gpu_is_looked_for_where_torch_was_built_for_them_and_that_is_known_without_torch(library, is_likely, tmp_path):
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "torch" / "lib" / library).touch()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from headstart.features.accelerators import DEVICE_KINDS; print(DEVICE_KINDS['xpu'].is_likely(), 'torch' in sys.modules)"
    )
    assert python_says(code) == (f"{is_likely} False\n", "")


@pytest.mark.parametrize(
    ("system", "machine", "torch_is_in", "is_likely"),
    [
        ("darwin", "arm64", ["there"], True),
        ("darwin", "x86_64", ["there"], False),
        ("linux", "arm64", ["there"], False),
        ("darwin", "arm64", [], False),
    ],
    ids=["Apple silicon", "an older Mac", "another ARM", "without torch"],
)
def test_an_apple_gpu_is_looked_for_on_apple_silicon_with_torch_alone(system, machine, torch_is_in, is_likely, monkeypatch):
    monkeypatch.setattr(accelerators, "_torch_folders", lambda: torch_is_in)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine), raising=False)
    assert DEVICE_KINDS["mps"].is_likely() is is_likely


@pytest.mark.parametrize(("given", "read"), [(None, "1"), ("0", "0")], ids=["by itself", "unless told otherwise"])
def test_missing_operators_of_apple_s_gpus_are_left_to_the_cpu_before_torch_is_imported(given, read, monkeypatch):
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK", raising=False)
    if given is not None:
        monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", given)
    code = "import sys, headstart, os; print(os.environ['PYTORCH_ENABLE_MPS_FALLBACK'], 'torch' in sys.modules)"
    assert python_says(code) == (f"{read} False\n", "")


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


@pytest.fixture
def resident(monkeypatch):
    """What the process holds, and what the machine has left."""
    held = {"rss": 700, "available": 10**9}
    monkeypatch.setattr(accelerators, "current_rss_bytes", lambda: held["rss"])
    monkeypatch.setattr(accelerators, "available_bytes", lambda: held["available"])
    return held


def test_of_apple_s_memory_what_is_resident_counts_and_what_the_machine_has_left(resident, monkeypatch):
    with fake_gpu(monkeypatch, "mps", total=6_000) as gpu:
        memory = device_kind("mps").memory("mps")
        assert (memory.is_shared, memory.process_bytes(), memory.free_bytes()) == (True, 700, 6_000)
        torch.zeros(250).to("mps")
        assert (memory.reserved_bytes(), memory.process_bytes(), memory.free_bytes()) == (1_000, 1_700, 5_000)
        resident["available"] = 3_000
        assert memory.free_bytes() == 3_000
        memory.cap(1_500)
        assert gpu.cap == 0.25
        memory.cap(0)
        assert gpu.cap > 0  # 0 would mean no limit


def test_the_peak_of_apple_s_memory_is_the_most_that_was_held_when_it_was_asked_for(monkeypatch):
    driver = iter([300, 900, 500, 500, 200])
    with fake_gpu(monkeypatch, "mps"):
        monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: next(driver))
        memory = device_kind("mps").memory("mps")
        assert [memory.reserved_bytes() for _ in range(2)] == [300, 900]
        assert memory.peak_reserved_bytes() == 900
        memory.forget()
        assert memory.peak_reserved_bytes() == 500
        assert memory.peak_reserved_bytes() == 500


@pytest.mark.parametrize(("is_integrated", "process"), [(False, None), (True, 700 + 400)])
def test_of_an_intel_gpu_the_process_s_share_is_known_where_memory_is_shared(is_integrated, process, resident, monkeypatch):
    with fake_gpu(monkeypatch, "xpu", total=8_000) as gpu:
        torch.xpu.get_device_properties("xpu").is_integrated_gpu = is_integrated
        torch.zeros(100).to("xpu")
        memory = device_kind("xpu").memory("xpu:0")
        assert (memory.is_shared, memory.process_bytes(), memory.free_bytes()) == (is_integrated, process, 7_600)
        assert device_kind("xpu").shares_memory("xpu") is is_integrated
        memory.cap(2_000)
        assert gpu.cap == 0.25


def test_a_torch_that_cannot_limit_an_intel_gpu_s_memory_is_refused_by_its_version(monkeypatch):
    with fake_gpu(monkeypatch, "xpu"):
        monkeypatch.delattr(torch.xpu, "set_per_process_memory_fraction")
        with pytest.raises(HeadstartError, match=r"--device xpu: torch .* cannot keep to a budget there, 2\.10 can"):
            device_kind("xpu").memory("xpu")


@pytest.mark.parametrize("kind", ["mps", "xpu"])
@pytest.mark.parametrize(("has_bfloat16", "precisions"), [(True, ("float16", "bfloat16")), (False, ("float16",))])
def test_bfloat16_is_tried_only_where_the_device_has_it(kind, has_bfloat16, precisions, monkeypatch):
    with fake_gpu(monkeypatch, kind, has_bfloat16=has_bfloat16):
        assert device_kind(kind).encoding_precisions(kind) == precisions


@pytest.mark.parametrize(("capability", "precisions"), [((7, 0), ("float16", "bfloat16")), ((6, 1), ())])
def test_an_nvidia_gpu_without_tensor_cores_keeps_to_float32(capability, precisions, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert device_kind("cuda").encoding_precisions("cuda:1") == precisions


@pytest.mark.parametrize(
    ("location", "stays"),
    [("cpu", True), ("mps", True), ("mps:0", True), ("mps:1", False), ("cuda:0", False), ("xpu:0", False), ("hpu", False)],
)
def test_a_tensor_of_a_checkpoint_comes_back_where_it_was_if_that_is_here_else_on_the_cpu(location, stays, monkeypatch):
    for kind in ("cuda", "xpu"):
        monkeypatch.setattr(getattr(torch, kind), "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    storage = object()
    assert place_again(storage, location) is (None if stays else storage)
    assert is_here(location) is stays


def test_numbers_that_a_device_lacks_are_made_before_they_go_there_or_after_they_came_back(monkeypatch):
    exact = torch.tensor([1 / 3], dtype=torch.float64)
    with fake_gpu(monkeypatch, "mps") as gpu:
        moved = of_a_batch(exact, "mps")
        back = as_float64(moved)
        assert gpu.has(moved)
        assert not gpu.has(back)
    assert (moved.dtype, back.dtype) == (torch.float32, torch.float64)
    assert torch.equal(back, exact.float().double())
    with fake_gpu(monkeypatch, "xpu", has_float64=True):
        assert torch.equal(of_a_batch(exact, "xpu").cpu(), exact)
