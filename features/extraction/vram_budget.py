"""Whether an encoder fits into a budget of GPU memory, and with which batch: measured, then enforced by a cap."""

from collections.abc import Callable
from dataclasses import dataclass

from headstart.features.accelerators import DeviceMemory
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import size_words

DEFAULT_BUDGET = 4 * 10**9
_UNKNOWN_CONTEXT = 700 * 10**6  # where no driver tells: more than the contexts of CUDA 11 to 13 with their kernels take


@dataclass(frozen=True)
class VramPlan:
    """What fits.

    Attributes:
        batch: images a call.
        peak_bytes: of the whole process, context included, at most.
        cap_bytes: what the allocator may hold of it.
    """

    batch: int
    peak_bytes: int
    cap_bytes: int


def gpu_budget(is_shared: bool, ram_bytes: int | None, vram_bytes: int | None) -> int:
    """Bytes that the process may take of a GPU. Of one that shares the machine's memory both limits hold for the same bytes."""
    asked = [vram_bytes, ram_bytes] if is_shared else [vram_bytes]
    return min((size for size in asked if size), default=DEFAULT_BUDGET)


def plan_vram(
    memory: DeviceMemory,
    encode: Callable[[int], object],
    is_full: Callable[[BaseException], bool],
    batch: int,
    budget: int,
    model: str,
    beside: int = 0,
) -> VramPlan:
    """The largest batch, halved from `batch` as often as it takes, whose measured peak is within the budget; the cap is set.

    Args:
        encode: encodes so many black images; the weights are on the device already.
        is_full: whether an error of `encode` means that memory ran out.
        budget: bytes that the process may take.
        beside: bytes that others in this process may come to hold there, such as images being decoded.

    Raises: HeadstartError if one image at a time is too much.
    """

    def peak_of(images: int) -> int | None:
        # The room again each time: loading the kernels that a first batch needs has made the context larger.
        room = room_within(memory, budget, model) - beside
        if room <= 0:
            return None
        memory.cap(room)
        memory.forget()
        try:
            encode(images)
        except Exception as error:
            if not is_full(error):
                raise
            return None
        return memory.peak_reserved_bytes()

    # One image first, for most kernels; then batches in the shape that all others will have.
    if peak_of(1) is None:
        raise _too_small(memory, budget, model, beside)
    while True:
        peak = peak_of(batch)
        memory.forget()
        room = room_within(memory, budget, model)
        memory.cap(room)
        if peak is not None and peak + beside <= room:
            return VramPlan(batch, peak + beside + _context(memory), room)
        if batch == 1:
            raise _too_small(memory, budget, model, beside)
        batch //= 2


def room_within(memory: DeviceMemory, budget: int, model: str) -> int:
    """What the allocator may hold: the budget less the context, and no more than other programs left."""
    room = min(budget - _context(memory), memory.reserved_bytes() + memory.free_bytes())
    if room <= 0:
        raise _too_small(memory, budget, model)
    return room


def _context(memory: DeviceMemory) -> int:
    held = memory.process_bytes()
    return _UNKNOWN_CONTEXT if held is None else max(0, held - memory.reserved_bytes())


def _too_small(memory: DeviceMemory, budget: int, model: str, beside: int = 0) -> HeadstartError:
    images = "decoded images" if memory.is_shared else "--device-decode"
    decoding = f" and {size_words(beside)} for {images}" if beside else ""
    holder = "what the process holds besides" if memory.is_shared else "the driver"
    taken = f"{size_words(_context(memory))} of it for {holder}{decoding}"
    sizes = f"{size_words(budget)}, {taken}, {size_words(memory.free_bytes())} free"
    return HeadstartError(
        f"--vram-budget: {model} does not fit even with one image at a time ({sizes}). "
        "Raise the budget, close other programs on the GPU, or choose a smaller --encoder or --image-size"
    )
