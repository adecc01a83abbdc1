"""What is asked of a device that torch computes on: one class for each kind. Imports no torch before a question needs it.

Whoever computes asks here and compares no names. What is said of xpu and mps is what torch documents: neither was ever tried.
"""

from __future__ import annotations

import contextlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.memory import available_bytes, current_rss_bytes

if TYPE_CHECKING:
    import torch

_TENSOR_CORES = (7, 0)  # of CUDA; before these, half precision is slower
_SCALES_ON_MPS = (2, 8)  # the first torch that does
_XPU_LIBRARIES = ("libc10_xpu.so", "c10_xpu.dll")


class DeviceMemory(Protocol):
    """The memory of one GPU. torch and its driver answer for a real one, a fake in tests.

    Attributes:
        is_shared: whether it is the machine's own: then a budget also holds what the process takes of that.
    """

    is_shared: bool

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


class DeviceKind(ABC):
    """A kind of device. `device` is always one of this kind, with or without its number.

    Attributes:
        name: as torch names it.
        is_threaded: whether several threads may share it; of xpu and mps nothing says so.
        runs_ahead: whether copies to it go on while the next batch is made, from pinned memory.
        is_channels_last: whether the channels of a pixel lie side by side in what its convolutions take.
        decodes_jpeg: whether torchcodec decodes images on it.
        is_compared: whether an encoder's features are compared with the CPU's before it is used there.
        repeatable_with: what deterministic algorithms want in the environment before the first of them runs.
    """

    name: ClassVar[str]
    is_threaded: ClassVar[bool] = False
    runs_ahead: ClassVar[bool] = False
    is_channels_last: ClassVar[bool] = True
    decodes_jpeg: ClassVar[bool] = False
    is_compared: ClassVar[bool] = True
    repeatable_with: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def is_likely(self) -> bool:
        """Whether there may be such a device. Asked without torch, which a worker on a CPU never imports."""

    @abstractmethod
    def count(self) -> int:
        """Devices of this kind that torch can use here."""

    @abstractmethod
    def memory(self, device: str) -> DeviceMemory | None:
        """None for a CPU. Raises: HeadstartError if this torch cannot keep to a budget there."""

    def shares_memory(self, device: str) -> bool:
        """Whether its memory is the machine's own; known before any of it is asked for."""
        return False

    def has_float64(self, device: str) -> bool:
        return True

    @abstractmethod
    def encoding_precisions(self, device: str) -> tuple[str, ...]:
        """Shorter numbers than float32 in which an encoder may be faster, in the order in which they are tried."""

    def refusal(self, amp: str, device: str) -> str:
        """Why nothing can be trained in that precision there, and what to do; '' if it can."""
        return ""

    @abstractmethod
    def seed(self, number: int) -> None:
        """Its own generator begins at this number."""

    @abstractmethod
    def empty_cache(self) -> None:
        """Gives unused blocks of its memory back."""

    def layout(self) -> torch.memory_format:
        """Of images and maps of four dimensions."""
        import torch

        return torch.channels_last if self.is_channels_last else torch.contiguous_format


class Cpu(DeviceKind):
    """The processor, by which every other kind is judged."""

    name = "cpu"
    is_threaded = True
    is_compared = False

    def is_likely(self) -> bool:
        return True

    def count(self) -> int:
        return 1

    def memory(self, device: str) -> DeviceMemory | None:
        return None

    def encoding_precisions(self, device: str) -> tuple[str, ...]:
        return ()

    def seed(self, number: int) -> None:
        """Its generator is torch's default one, which whoever draws seeds anyway."""

    def empty_cache(self) -> None:
        """Has none."""


class Cuda(DeviceKind):
    """NVIDIA's."""

    name = "cuda"
    is_threaded = True
    runs_ahead = True
    decodes_jpeg = True
    is_compared = False  # `headstart doctor --gpu` does
    # Without it cuBLAS may sum in another order from one run to the next; read when its first product is asked for.
    repeatable_with: ClassVar[Mapping[str, str]] = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

    def is_likely(self) -> bool:
        return has_nvidia_device()

    def count(self) -> int:
        import torch

        return torch.cuda.device_count() if torch.cuda.is_available() else 0

    def memory(self, device: str) -> DeviceMemory:
        return CudaMemory(device)

    def encoding_precisions(self, device: str) -> tuple[str, ...]:
        import torch

        return ("float16", "bfloat16") if torch.cuda.get_device_capability(device) >= _TENSOR_CORES else ()

    def seed(self, number: int) -> None:
        import torch

        torch.cuda.manual_seed(number)

    def empty_cache(self) -> None:
        import torch

        torch.cuda.empty_cache()


class Xpu(DeviceKind):
    """Intel's, for a torch that was built for them."""

    name = "xpu"

    def is_likely(self) -> bool:
        return any(Path(folder, "lib", library).exists() for folder in _torch_folders() for library in _XPU_LIBRARIES)

    def count(self) -> int:
        import torch

        return torch.xpu.device_count() if torch.xpu.is_available() else 0

    def memory(self, device: str) -> DeviceMemory:
        import torch

        if not hasattr(torch.xpu, "set_per_process_memory_fraction"):
            version = str(torch.__version__)
            raise HeadstartError(
                f"--device {device}: torch {version} cannot keep to a budget there, 2.10 can. Upgrade it, or --device cpu"
            )
        return XpuMemory(device, self.shares_memory(device))

    def shares_memory(self, device: str) -> bool:
        return bool(getattr(_xpu_properties(device), "is_integrated_gpu", False))

    def has_float64(self, device: str) -> bool:
        return bool(_xpu_properties(device).has_fp64)

    def encoding_precisions(self, device: str) -> tuple[str, ...]:
        return tuple(one for one, is_there in (("float16", True), ("bfloat16", _has_bfloat16(device))) if is_there)

    def refusal(self, amp: str, device: str) -> str:
        if amp == "float16" and not self.has_float64(device):
            return "torch scales gradients in float64, which this GPU lacks. Train with --amp bfloat16"
        if amp == "bfloat16" and not _has_bfloat16(device):
            return "this GPU has no such numbers. Train with --amp float16, or without"
        return ""

    def seed(self, number: int) -> None:
        import torch

        torch.xpu.manual_seed(number)

    def empty_cache(self) -> None:
        import torch

        torch.xpu.empty_cache()


def _torch_folders() -> list[str]:
    """Where torch is, which is not imported for the question; empty where it is not installed."""
    from importlib.util import find_spec

    spec = find_spec("torch")
    return list(spec.submodule_search_locations or ()) if spec else []


def _xpu_properties(device: str) -> Any:
    import torch

    return torch.xpu.get_device_properties(device)


def _has_bfloat16(device: str) -> bool:
    return bool(getattr(_xpu_properties(device), "has_bfloat16_conversions", False))


class Mps(DeviceKind):
    """Apple's, whose memory is the machine's.

    Convolutions there were wrong for some of the channels of maps whose channels lie side by side (pytorch issue 180984), and
    copies that nobody waits for read memory that is gone (189690): so images come to an encoder in planes, and all is waited for.
    """

    name = "mps"
    is_channels_last = False

    def is_likely(self) -> bool:
        return sys.platform == "darwin" and os.uname().machine == "arm64" and bool(_torch_folders())

    def count(self) -> int:
        import torch

        return int(torch.backends.mps.is_available())

    def memory(self, device: str) -> DeviceMemory:
        return MpsMemory()

    def shares_memory(self, device: str) -> bool:
        return True

    def has_float64(self, device: str) -> bool:
        return False

    def encoding_precisions(self, device: str) -> tuple[str, ...]:
        return ("float16", "bfloat16") if _is_sonoma() else ("float16",)

    def refusal(self, amp: str, device: str) -> str:
        import torch

        version = str(torch.__version__)
        if amp == "float16" and tuple(map(int, version.split(".")[:2])) < _SCALES_ON_MPS:
            return f"torch {version} scales no gradients on mps, 2.8 does. Upgrade it, or train without --amp"
        if amp == "bfloat16" and not _is_sonoma():
            return "macOS has it from version 14 on. Train with --amp float16, or without"
        return ""

    def seed(self, number: int) -> None:
        import torch

        torch.mps.manual_seed(number)

    def empty_cache(self) -> None:
        import torch

        torch.mps.empty_cache()


def _is_sonoma() -> bool:
    import torch

    return bool(torch.backends.mps.is_macos_or_newer(14, 0))


# In the order in which `auto` looks for one.
DEVICE_KINDS: dict[str, DeviceKind] = {kind.name: kind for kind in (Cuda(), Xpu(), Mps(), Cpu())}


def device_kind(device: str) -> DeviceKind:
    """Raises: HeadstartError if there is no such kind."""
    kind = DEVICE_KINDS.get(device.partition(":")[0])
    if kind is None:
        raise HeadstartError(f"--device {device}: unknown. Use auto, {', '.join(sorted(DEVICE_KINDS))}")
    return kind


def likely_accelerators() -> Iterator[DeviceKind]:
    """Kinds of GPU that there may be, the first choice first; which of them torch can use, their `count` says."""
    return (kind for kind in DEVICE_KINDS.values() if kind.name != "cpu" and kind.is_likely())


def move(model: torch.nn.Module, device: str) -> torch.nn.Module:
    """`model` on the device. Raises: HeadstartError if it has numbers that the device lacks."""
    import torch

    if not device_kind(device).has_float64(device):
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.dtype == torch.float64:
                raise HeadstartError(
                    f"--device {device} has no float64, and '{name}' of the model is of that. Make it float32, or --device cpu"
                )
    return model.to(device)


def of_a_batch(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """`tensor` on the device, maybe not before whoever waits for the device; in float32 where that has no float64."""
    import torch

    kind = device_kind(device)
    is_too_long = tensor.dtype == torch.float64 and not kind.has_float64(device)
    return (tensor.float() if is_too_long else tensor).to(device, non_blocking=kind.runs_ahead)


def as_float64(tensor: torch.Tensor) -> torch.Tensor:
    """In float64; on the CPU, if the device of `tensor` has none."""
    device = str(tensor.device)
    return tensor.double() if device_kind(device).has_float64(device) else tensor.cpu().double()


def place_again(storage: Any, location: str) -> Any:
    """For `torch.load(map_location=...)`: a tensor comes back where it was if that device is here, else on the CPU."""
    return None if is_here(location) else storage


def is_here(device: str) -> bool:
    """Whether torch can use that very device here."""
    name, _, number = device.partition(":")
    if name not in DEVICE_KINDS or (device != name and not number.isdecimal()):
        return False
    return int(number or 0) < DEVICE_KINDS[name].count()


class _AllocatorMemory(ABC):
    """Of devices whose allocator torch tells all about. Args: functions: torch.cuda or torch.xpu."""

    def __init__(self, functions: Any, device: str, is_shared: bool) -> None:
        import torch

        self._functions, self.is_shared = functions, is_shared
        named = torch.device(device)
        # With its number: what sets the allocator's limit refuses `cuda` alone.
        self._device = torch.device(named.type, functions.current_device() if named.index is None else named.index)
        self._properties = functions.get_device_properties(self._device)

    @abstractmethod
    def process_bytes(self) -> int | None: ...

    def reserved_bytes(self) -> int:
        return int(self._functions.memory_reserved(self._device))

    def peak_reserved_bytes(self) -> int:
        return int(self._functions.max_memory_reserved(self._device))

    def free_bytes(self) -> int:
        return int(self._functions.mem_get_info(self._device)[0])

    def forget(self) -> None:
        self._functions.synchronize(self._device)
        self._functions.empty_cache()
        self._functions.reset_peak_memory_stats(self._device)

    def cap(self, size: int) -> None:
        fraction = min(1.0, size / int(self._properties.total_memory))
        self._functions.set_per_process_memory_fraction(fraction, self._device)


class CudaMemory(_AllocatorMemory):
    """Args: device: cuda, cuda:1 ..., as torch names it."""

    def __init__(self, device: str) -> None:
        import torch

        super().__init__(torch.cuda, device, is_shared=False)
        # By its UUID: torch counts what CUDA_VISIBLE_DEVICES leaves, NVML counts all.
        self._uuid = f"GPU-{self._properties.uuid}"

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


class XpuMemory(_AllocatorMemory):
    """Args: device: xpu, xpu:1 ...; is_shared: see `DeviceMemory`."""

    def __init__(self, device: str, is_shared: bool) -> None:
        import torch

        super().__init__(torch.xpu, device, is_shared)

    def process_bytes(self) -> int | None:
        """Of a GPU that shares the machine's memory what is resident is told, too; of another one torch asks no driver."""
        return current_rss_bytes() + self.reserved_bytes() if self.is_shared else None


class MpsMemory:
    """What Metal recommends at most, less what it has given to this process.

    Pages of a buffer that the CPU touched may count twice, as resident and as Metal's: a budget is kept rather too well.
    """

    is_shared = True

    def __init__(self) -> None:
        import torch

        self._functions = torch.mps
        self._total = int(torch.mps.recommended_max_memory())
        self._peak = 0

    def process_bytes(self) -> int | None:
        return current_rss_bytes() + self.reserved_bytes()

    def reserved_bytes(self) -> int:
        reserved = int(self._functions.driver_allocated_memory())
        self._peak = max(self._peak, reserved)
        return reserved

    def peak_reserved_bytes(self) -> int:
        """Metal notes none. Its allocator keeps what it took until memory is short: so the most that it ever held when asked."""
        self.reserved_bytes()
        return self._peak

    def free_bytes(self) -> int:
        return max(0, min(self._total - self.reserved_bytes(), available_bytes()))

    def forget(self) -> None:
        self._functions.synchronize()
        self._functions.empty_cache()
        self._peak = 0

    def cap(self, size: int) -> None:
        # A part of 0 would mean no limit.
        self._functions.set_per_process_memory_fraction(min(1.0, max(1, size) / self._total))


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
