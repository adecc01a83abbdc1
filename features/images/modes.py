"""From any mode of Pillow to RGB of 8 bits: a wider range is scaled to the full one, transparency is composited on white.

Pillow's own `convert('RGB')` clips what is beyond 8 bits to white or black, and keeps whatever colour stands under transparency.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

DEPTHS = (8, 10, 12, 14, 16, 24, 31, 32)  # bits of a sample that cameras and scanners have


def to_rgb(image: "PillowImage") -> "PillowImage":
    """A loaded image as RGB; one that has 8 bits and is opaque has the pixels of `convert('RGB')`."""
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(to_8_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        if layered.getchannel("A").getextrema() == (255, 255):
            return layered.convert("RGB")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def to_8_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Samples (h, w) of any range as 0 to 255.

    Whole numbers: the least of DEPTHS that holds the largest sample is the full range, so 12 bits in 16 are bright enough.
    Fractions: 0 to 1 if all are in it, else as whole numbers. With negative samples: from the least to the largest. What is no
    number is black.
    """
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    if low < 0:
        full, wide = high - low, wide - low
    elif values.dtype.kind == "f" and high <= 1:
        full = 1.0
    else:
        full = float(next((2**depth - 1 for depth in DEPTHS if high <= 2**depth - 1), high))
    return np.asarray(np.rint(wide * (255 / full)) if full else wide, np.uint8)
