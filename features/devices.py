"""What there is to compute on: cores, an NVIDIA device, and whether an error means that memory ran out. Imports no torch."""

import contextlib
import os
import sys

from headstart.pipeline.errors import HeadstartError

_QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")  # of version 2 and 1


def cores() -> int:
    """Cores this process may use, which in a container or under taskset are fewer than the machine has.

    A container's quota of processor time counts as so many cores, rounded up.
    """
    if any(map(_is_set, _QUOTAS)):  # joblib costs 60 ms of the start
        import joblib

        return int(joblib.cpu_count())
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_set(quota: str) -> bool:
    # A machine's own root group has no such file; most containers have one that sets no quota.
    with contextlib.suppress(OSError), open(quota, encoding="ascii") as file:
        return file.read(3).rstrip() not in ("max", "-1")
    return False


def processor_features() -> frozenset[str]:
    """What the kernel says that every core can do, as it spells it (avx512_vnni ...); nothing where it does not say."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return frozenset(value.split())
    return frozenset()


def choose_device(asked: str) -> str:
    """The device that --device means: 'auto' is 'cuda' where torch can use one, else 'cpu'."""
    if asked != "auto":
        return asked
    if not has_nvidia_device():
        return "cpu"
    import torch  # only here: with a device torch is needed anyway, and it may have been built without CUDA

    return "cuda" if torch.cuda.is_available() else "cpu"


def usable_device(asked: str) -> str:
    """`choose_device`. Raises: HeadstartError if a GPU (cuda, cuda:1 ...) was asked for and torch cannot use that one."""
    name, _, number = asked.partition(":")
    if name == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise HeadstartError(f"--device {asked}: torch finds no CUDA device here. Use --device cpu, or leave --device out")
        numbers = list(map(str, range(torch.cuda.device_count())))
        if asked != name and number not in numbers:
            raise HeadstartError(
                f"--device {asked}: torch finds {', '.join(f'cuda:{each}' for each in numbers)}. Name one of them"
            )
    return choose_device(asked)


def device_to_go_on(before: str, asked: str) -> str:
    """For work that was begun on the device `before` ('' for none): that one again where it is here, unless another is asked for.

    Raises: HeadstartError if a GPU is asked for and torch can use none.
    """
    if asked != "auto" or not before:
        return usable_device(asked)
    return before if before == "cpu" else choose_device("auto")


def _has_nvidia_driver() -> bool:
    """Whether NVML's library is there. Asked first, because pynvml takes 15 ms to be imported, on each start of a worker."""
    if sys.platform != "linux":
        return True  # pynvml knows where to look
    import ctypes

    try:
        ctypes.CDLL("libnvidia-ml.so.1")  # what pynvml loads
    except OSError:
        return False
    return True


def has_nvidia_device() -> bool:
    """Whether the driver lists a device that CUDA_VISIBLE_DEVICES does not hide. No driver, no device."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.split(",")[0].strip() in ("", "-1"):
        return False
    if not _has_nvidia_driver():
        return False
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    try:
        return int(pynvml.nvmlDeviceGetCount()) > 0
    except pynvml.NVMLError:
        return False
    finally:
        pynvml.nvmlShutdown()


# How ONNX Runtime words it; it has no kind of error for this, and those it has are no RuntimeError.
_WORDS = ("Failed to allocate memory", "bad_alloc", "bad allocation", "Available memory of", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help against `error`."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # not imported for the question
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    is_native = isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime.")
    return is_native and any(word in str(error) for word in _WORDS)
