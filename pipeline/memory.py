"""Resident memory of this process: what a worker writes into every marker and its budget is held against."""

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of glibc's malloc.h


def peak_rss_bytes() -> int:
    """The largest resident memory this process ever had, in bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "linux":
        # Not getrusage: its figure begins with what the parent held when it forked this process.
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def current_rss_bytes() -> int:
    """Resident memory of this process now, in bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def available_bytes() -> int:
    """Memory that a process could still take without anything being swapped, in bytes."""
    if sys.platform == "linux":
        # Read here: psutil reads the same line and takes 7 ms to import, when a worker starts.
        with open("/proc/meminfo", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    import psutil

    return int(psutil.virtual_memory().available)


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """What is freed within stays with this process, for whatever asks for memory next. Without glibc nothing changes.

    Else large blocks go back to the system at once, and each step of a training waits until it has made their pages anew.
    """
    tune, trim = _of_glibc("mallopt"), _of_glibc("malloc_trim")
    if tune is None or trim is None:
        yield
        return
    tune(_MMAP_MAX, 0)
    tune(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        # What glibc itself comes to when large blocks are freed.
        tune(_MMAP_MAX, 65_536)
        tune(_MMAP_THRESHOLD, 32 * 2**20)
        tune(_TRIM_THRESHOLD, 64 * 2**20)
        trim(0)


def give_freed_memory_back() -> None:
    """What this process freed goes back to the system. Without glibc nothing happens."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., Any] | None:
    import ctypes

    try:
        function: Callable[..., Any] | None = getattr(ctypes.CDLL(None), name) if sys.platform == "linux" else None
    except (OSError, AttributeError):  # musl has no such function
        return None
    return function


@contextlib.contextmanager
def no_cycle_search() -> Iterator[None]:
    """Python looks for no cycles of objects within: where a million of them all stay, each search is for nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
