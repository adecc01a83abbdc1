"""Whether an encoder fits into a budget of memory, and with which batch: tried out on one image before the first real batch."""

from dataclasses import dataclass

import numpy as np

from headstart.pipeline.budget import current_rss_bytes, peak_rss_bytes
from headstart.pipeline.errors import HeadstartError

from .opening import Encoder

_MARGIN = 1.15  # allocators round up
_KEPT_BYTES = 2**20


@dataclass(frozen=True)
class RamPlan:
    """What fits.

    Attributes:
        batch, lanes: images a call, and calls at once.
        peak_bytes: resident memory of the process that this should need at most.
    """

    batch: int
    lanes: int
    peak_bytes: int


def plan_ram(encoder: Encoder, batch: int, budget_bytes: int, other_bytes: int) -> RamPlan:
    """The largest batch, halved from `batch` as often as it takes, whose predicted peak is within `budget_bytes`.

    Args:
        other_bytes: what else the process will hold then, such as decoded images.

    Raises: HeadstartError if one image at a time is too much.
    """
    base = current_rss_bytes() + other_bytes
    image_bytes = _bytes_of_one_image(encoder)
    lanes = encoder.lanes
    while True:
        peak = max(peak_rss_bytes(), base + round(_MARGIN * image_bytes * batch * lanes))
        if peak <= budget_bytes:
            return RamPlan(batch, lanes, peak)
        if batch == 1 and lanes == 1:
            raise HeadstartError(
                f"--ram-budget {_mb(budget_bytes)}: {encoder.spec.model} needs {_mb(peak)} even with one image at a time. "
                "Raise the budget, or choose a smaller --encoder or --image-size"
            )
        # Fewer lanes only at the end: a second core brings more than a second image.
        batch, lanes = (batch // 2, lanes) if batch > 1 else (batch, lanes // 2)


def _bytes_of_one_image(encoder: Encoder) -> int:
    before, peak_before = current_rss_bytes(), peak_rss_bytes()
    encoder.encode(np.zeros((1, *encoder.spec.transform.image_size, 3), np.uint8))
    kept, peak = current_rss_bytes() - before, peak_rss_bytes()
    # Some allocators keep what they took; of those that give it back at once, the peak knows, unless loading took more before.
    return max(kept, peak - before) if peak > peak_before or kept < _KEPT_BYTES else kept


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
