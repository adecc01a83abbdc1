"""From any mode of Pillow to RGB of 8 bits: a wider range is scaled to the full one, transparency is composited on white.

Pillow's own `convert('RGB')` clips what is beyond 8 bits to white or black, and keeps whatever colour stands under transparency.
Of colours of 16 bits it reads the upper byte alone, so that 12 bits in 16 are nearly black: `load_pixels` reads the other, too.
"""

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_DEEP_BITS = 14  # what has more keeps its upper byte
# How Pillow calls samples of 16 bits, and how those whose bytes stand the other way round.
_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
DEPTHS = (8, 10, 12, 14, 16, 24, 31, 32)  # bits of a sample that cameras and scanners have


def to_rgb(image: "PillowImage", is_deep: bool = True) -> "PillowImage":
    """A loaded image as RGB; one that has 8 bits and is opaque has the pixels of `convert('RGB')`. `is_deep`: see `to_8_bits`."""
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(to_8_bits(np.asarray(image), is_deep)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        if layered.getchannel("A").getextrema() == (255, 255):
            return layered.convert("RGB")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def load_pixels(image: "PillowImage", is_deep: bool, reopened: Callable[[bytes], "PillowImage"]) -> None:
    """Reads the pixels. With `is_deep`, colours of 16 bits of which at most 14 are used become as bright as grey ones.

    Args:
        reopened: from the bytes of the same file to the image, not yet loaded.
    """
    from PIL import Image

    tiles = _tiles_of_lower_bytes(image) if is_deep else None
    file = getattr(image, "fp", None)
    image.load()
    if tiles is None or not isinstance(file, io.BytesIO):
        return
    upper = np.asarray(image)
    if upper[..., :3].max() >> (_DEEP_BITS - 8):
        return
    again = reopened(file.getvalue())
    again.tile = tiles  # type: ignore[attr-defined]
    again.load()
    samples = upper.astype(np.uint16) << 8 | np.asarray(again)
    spread = [_of_depth(samples[..., :3]), *([_of_depth(samples[..., 3:])] if image.mode == "RGBA" else [])]
    image.paste(Image.fromarray(np.concatenate(spread, axis=-1)))


def _tiles_of_lower_bytes(image: "PillowImage") -> "list[Any] | None":
    """Where Pillow is to read the lower byte of each colour of 16 bits from; None if it is no such image, or is loaded."""
    if image.mode not in ("RGB", "RGBA") or "transparency" in image.info:
        return None
    tiles = []
    for tile in getattr(image, "tile", None) or ():
        codec, extents, offset, arguments = tile
        raw, *others = (arguments,) if isinstance(arguments, str) else arguments or ("",)
        kind, _, order = str(raw).partition(";")
        if order not in _OTHER_BYTE:
            return None
        swapped = f"{kind};{_OTHER_BYTE[order]}"
        tiles.append(_like(tile, codec, extents, offset, (swapped, *others) if others else swapped))
    return tiles or None


def _like(tile: Any, *parts: Any) -> Any:
    return type(tile)(*parts) if hasattr(tile, "_fields") else parts  # older versions of Pillow have plain tuples


def _of_depth(samples: NDArray[np.uint16]) -> NDArray[np.uint8]:
    full = next(2**depth - 1 for depth in DEPTHS if samples.max() <= 2**depth - 1)
    return to_8_bits(np.arange(full + 1))[samples]


def to_8_bits(values: NDArray[np.generic], is_deep: bool = True) -> NDArray[np.uint8]:
    """Samples of any range as 0 to 255.

    Whole numbers: the least of DEPTHS that holds the largest sample is the full range, so 12 bits in 16 are bright enough.
    Fractions: 0 to 1 if all are in it, else as whole numbers; with `is_deep`, those up to 2, which are fractions with highlights,
    from 0 to the largest. With negative samples: from the least to the largest. What is no number is black.
    """
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    if low < 0:
        full, wide = high - low, wide - low
    elif values.dtype.kind == "f" and high <= 1:
        full = 1.0
    elif is_deep and values.dtype.kind == "f" and high <= 2:
        full = high
    else:
        full = float(next((2**depth - 1 for depth in DEPTHS if high <= 2**depth - 1), high))
    return np.asarray(np.rint(wide * (255 / full)) if full else wide, np.uint8)
