"""The memory of one GPU: what an encoder and its budget ask of it, and torch's allocator and NVML, which answer."""

import contextlib
import os
from typing import Protocol


class CudaMemory:
    """Args: device: cuda, cuda:1 ..., as torch names it."""

    def __init__(self, device: str) -> None:
        import torch

        self._torch = torch
        named = torch.device(device)
        # With its number: what sets the allocator's limit refuses `cuda` alone.
        self._device = torch.device(named.type, torch.cuda.current_device() if named.index is None else named.index)
        properties = torch.cuda.get_device_properties(self._device)
        self._total = int(properties.total_memory)
        # By its UUID: torch counts what CUDA_VISIBLE_DEVICES leaves, NVML counts all.
        self._uuid = f"GPU-{properties.uuid}"

    def process_bytes(self) -> int | None:
        import pynvml

        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            try:
                handle = pynvml.nvmlDeviceGetHandleByUUID(self._uuid)
                for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
                    # In a container the pid is another there, and Windows does not tell how much: both mean None.
                    if process.pid == os.getpid() and process.usedGpuMemory is not None:
                        return int(process.usedGpuMemory)
            finally:
                pynvml.nvmlShutdown()
        return None

    def reserved_bytes(self) -> int:
        return int(self._torch.cuda.memory_reserved(self._device))

    def peak_reserved_bytes(self) -> int:
        return int(self._torch.cuda.max_memory_reserved(self._device))

    def free_bytes(self) -> int:
        return int(self._torch.cuda.mem_get_info(self._device)[0])

    def forget(self) -> None:
        self._torch.cuda.synchronize(self._device)
        self._torch.cuda.empty_cache()
        self._torch.cuda.reset_peak_memory_stats(self._device)

    def cap(self, size: int) -> None:
        self._torch.cuda.set_per_process_memory_fraction(min(1.0, size / self._total), self._device)


class DeviceMemory(Protocol):
    """The memory of one GPU. torch and NVML answer for a real one (`CudaMemory`), a fake in tests."""

    def process_bytes(self) -> int | None:
        """All that this process holds, context included; None if the driver does not tell."""

    def reserved_bytes(self) -> int:
        """What the allocator holds of it now, in use or not."""

    def peak_reserved_bytes(self) -> int:
        """The most that it held since `forget`."""

    def free_bytes(self) -> int:
        """What no process holds."""

    def forget(self) -> None:
        """Gives unused blocks back and begins a new peak."""

    def cap(self, size: int) -> None:
        """Lets the allocator run out of memory beyond `size` bytes."""
