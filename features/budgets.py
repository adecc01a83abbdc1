"""From an encoder to batches that keep within the memory there may be, on either kind of device."""

import numpy as np

from .batching import Batching, is_out_of_memory
from .device_jpeg import DEVICE_BYTES
from .opening import Encoder
from .ram_plan import plan_ram
from .vram_plan import DEFAULT_BUDGET, plan_vram

CPU_BATCH = 2  # each of several threads: activations stay in its core's cache, and memory stays small
_CUDA_BATCH = 64


def plan_batching(
    encoder: Encoder, batch: int | None, ram_bytes: int | None, vram_bytes: int | None, held_bytes: int
) -> tuple[Batching, dict[str, int]]:
    """Batches that fit, and what was planned, as markers record it.

    Args:
        batch: images a call; None means: chosen for the device.
        ram_bytes: resident memory that the process may take; None means: no limit.
        vram_bytes: likewise on a GPU; None means 4 GB.
        held_bytes: what the process will hold besides, such as decoded images.

    Raises: HeadstartError if not even one image fits.
    """
    batch = batch or (CPU_BATCH if encoder.device == "cpu" else _CUDA_BATCH)
    lanes = encoder.lanes
    facts: dict[str, int] = {}
    if encoder.memory is not None:
        budget = vram_bytes or DEFAULT_BUDGET
        shape = (*encoder.spec.transform.image_size, 3)
        vram = plan_vram(
            encoder.memory,
            lambda images: encoder.encode(np.zeros((images, *shape), np.uint8)),
            is_out_of_memory,
            batch,
            budget,
            encoder.spec.model,
            DEVICE_BYTES if encoder.spec.transform.device_decode else 0,
        )
        batch = vram.batch
        facts |= {"vram_budget_bytes": budget, "vram_planned_bytes": vram.peak_bytes, "vram_cap_bytes": vram.cap_bytes}
    if ram_bytes is not None:
        ram = plan_ram(encoder, batch, ram_bytes, held_bytes)
        batch, lanes = ram.batch, ram.lanes
        facts |= {"ram_budget_bytes": ram_bytes, "ram_planned_bytes": ram.peak_bytes}
    return Batching(encoder, batch, lanes), facts


def measured(encoder: Encoder) -> dict[str, int | None]:
    """What the GPU's memory came to, as markers record it; nothing on a CPU, whose peak the engine records."""
    if encoder.memory is None:
        return {}
    return {
        "peak_vram_reserved_bytes": encoder.memory.peak_reserved_bytes(),
        "vram_process_bytes": encoder.memory.process_bytes(),
    }
