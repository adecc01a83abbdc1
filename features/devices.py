"""What there is to compute on: cores, which device, and whether an error means that memory ran out. Imports no torch."""

import contextlib
import os
import sys

from headstart.pipeline.errors import HeadstartError

from .accelerators import device_kind, is_here, likely_accelerators

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
    """The device that --device means: 'auto' is the first of cuda, xpu and mps that torch can use here, else 'cpu'.

    torch is asked only where there may be one: with a device it is needed anyway.
    """
    if asked != "auto":
        return asked
    return next((kind.name for kind in likely_accelerators() if kind.count()), "cpu")


def has_accelerator() -> bool:
    """Whether 'auto' is likely to find a GPU. Asked without torch, which may turn out to be unable to use it."""
    return next(likely_accelerators(), None) is not None


def usable_device(asked: str) -> str:
    """`choose_device`. Raises: HeadstartError if a device (cuda, xpu:1 ...) was asked for and torch cannot use that one."""
    if asked == "auto" or is_here(asked):
        return choose_device(asked)
    kind = device_kind(asked)
    numbers = [f"{kind.name}:{number}" for number in range(kind.count())]
    if not numbers:
        raise HeadstartError(
            f"--device {asked}: torch finds no {kind.name.upper()} device here. Use --device cpu, or leave --device out"
        )
    raise HeadstartError(f"--device {asked}: torch finds {', '.join(numbers)}. Name one of them")


def device_of_heads(asked: str) -> tuple[str, str]:
    """Where heads are trained, by several threads, and a note if that is not where it was asked for.

    It is that of `usable_device`, and raises as that; but the CPU where that is of a kind which threads may not share.
    """
    device = usable_device(asked)
    if device_kind(device).is_threaded:
        return device, ""
    note = f"heads are trained on the CPU: by several threads, and nothing says that these may share {device}"
    return "cpu", "" if asked == "auto" else note


def device_to_go_on(before: str, asked: str) -> str:
    """For work that was begun on the device `before` ('' for none): that one again where it is here, unless another is asked for.

    Raises: HeadstartError if a GPU is asked for and torch can use none.
    """
    if asked != "auto" or not before:
        return usable_device(asked)
    return before if is_here(before) else choose_device("auto")


# How ONNX Runtime words it, which has no kind of error for this, and those it has are no RuntimeError; and how torch does.
_WORDS = ("Failed to allocate memory", "bad_alloc", "bad allocation", "Available memory of", "out of memory")
_OF_METAL = ("Invalid buffer size",)  # of a tensor that is larger than one buffer may be


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help against `error`."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # not imported for the question
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    is_native = isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime.")
    return is_native and any(word in str(error) for word in _WORDS + _OF_METAL)
