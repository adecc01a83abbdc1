"""From an encoder to batches that keep within the memory there may be: tried out on one image before the first real batch."""

from dataclasses import dataclass

import numpy as np

from headstart.features.devices import is_out_of_memory
from headstart.features.encoders.runtime import Encoder
from headstart.features.images.gpu_jpeg import DEVICE_BYTES
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.memory import current_rss_bytes, peak_rss_bytes
from headstart.pipeline.text import rough_size_words

from .batching import Batching
from .vram_budget import gpu_budget, plan_vram

CPU_BATCH = 2  # each of several threads: activations stay in its core's cache, and memory stays small
_GPU_BATCH = 64


def plan_batching(
    encoder: Encoder, batch: int | None, ram_bytes: int | None, vram_bytes: int | None, held_bytes: int
) -> tuple[Batching, dict[str, int]]:
    """Batches that fit, and what was planned, as markers record it.

    Args:
        batch: images a call; None means: chosen for the device.
        ram_bytes: resident memory that the process may take; None means: no limit.
        vram_bytes: likewise on a GPU; None means 4 GB. On one that shares the machine's memory both limits hold for both.
        held_bytes: what the process will hold besides, such as decoded images.

    Raises: HeadstartError if not even one image fits.
    """
    batch = batch or (CPU_BATCH if encoder.device == "cpu" else _GPU_BATCH)
    threads = encoder.threads
    facts: dict[str, int] = {}
    if encoder.memory is not None:
        budget = gpu_budget(encoder.memory.is_shared, ram_bytes, vram_bytes)
        beside = DEVICE_BYTES if encoder.spec.transform.device_decode else 0
        shape = (*encoder.spec.transform.image_size, 3)
        vram = plan_vram(
            encoder.memory,
            lambda images: encoder.encode(np.zeros((images, *shape), np.uint8)),
            is_out_of_memory,
            batch,
            budget,
            encoder.spec.model,
            beside + (held_bytes if encoder.memory.is_shared else 0),
        )
        batch = vram.batch
        facts |= {"vram_budget_bytes": budget, "vram_planned_bytes": vram.peak_bytes, "vram_cap_bytes": vram.cap_bytes}
    if ram_bytes is not None:
        ram = plan_ram(encoder, batch, ram_bytes, held_bytes)
        batch, threads = ram.batch, ram.threads
        facts |= {"ram_budget_bytes": ram_bytes, "ram_planned_bytes": ram.peak_bytes}
    return Batching(encoder, batch, threads), facts


def gpu_facts(encoder: Encoder) -> dict[str, int | None]:
    """What the GPU's memory came to, as markers record it; nothing on a CPU, whose peak the engine records."""
    if encoder.memory is None:
        return {}
    return {
        "peak_vram_reserved_bytes": encoder.memory.peak_reserved_bytes(),
        "vram_process_bytes": encoder.memory.process_bytes(),
    }


_MARGIN = 1.15  # allocators round up
_KEPT_BYTES = 2**20


@dataclass(frozen=True)
class RamPlan:
    """What fits.

    Attributes:
        batch, threads: images a call, and calls at once.
        peak_bytes: resident memory of the process that this should need at most.
    """

    batch: int
    threads: int
    peak_bytes: int


def plan_ram(encoder: Encoder, batch: int, budget_bytes: int, other_bytes: int) -> RamPlan:
    """The largest batch, halved from `batch` as often as it takes, whose predicted peak is within `budget_bytes`.

    Args:
        other_bytes: what else the process will hold then, such as decoded images.

    Raises: HeadstartError if one image at a time is too much.
    """
    base = current_rss_bytes() + other_bytes
    image_bytes = _bytes_of_one_image(encoder)
    threads = encoder.threads
    while True:
        peak = max(peak_rss_bytes(), base + round(_MARGIN * image_bytes * batch * threads))
        if peak <= budget_bytes:
            return RamPlan(batch, threads, peak)
        if batch == 1 and threads == 1:
            raise HeadstartError(
                f"--ram-budget {rough_size_words(budget_bytes, 'MB')}: {encoder.spec.model} needs {rough_size_words(peak, 'MB')} "
                "even with one image at a time. Raise the budget, or choose a smaller --encoder or --image-size"
            )
        # Fewer threads only at the end: a second core brings more than a second image.
        batch, threads = (batch // 2, threads) if batch > 1 else (batch, threads // 2)


def _bytes_of_one_image(encoder: Encoder) -> int:
    before, peak_before = current_rss_bytes(), peak_rss_bytes()
    encoder.encode(np.zeros((1, *encoder.spec.transform.image_size, 3), np.uint8))
    kept, peak = current_rss_bytes() - before, peak_rss_bytes()
    # Some allocators keep what they took; of those that give it back at once, the peak knows, unless loading took more before.
    return max(kept, peak - before) if peak > peak_before or kept < _KEPT_BYTES else kept
