"""What there is to compute on: the cores this process may use, and whether an NVIDIA device is here, without importing torch."""

import os


def cores() -> int:
    """Cores this process may use, which in a container or under taskset are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(asked: str) -> str:
    """The device that --device means: 'auto' is 'cuda' where torch can use one, else 'cpu'."""
    if asked != "auto":
        return asked
    if not has_nvidia_device():
        return "cpu"
    import torch  # only here: with a device torch is needed anyway, and it may have been built without CUDA

    return "cuda" if torch.cuda.is_available() else "cpu"


def has_nvidia_device() -> bool:
    """Whether the driver lists a device that CUDA_VISIBLE_DEVICES does not hide. No driver, no device."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.split(",")[0].strip() in ("", "-1"):
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
