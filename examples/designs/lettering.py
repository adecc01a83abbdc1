"""Letters: the scalable font that comes inside Pillow, so that no font of the machine decides what is drawn."""

from __future__ import annotations

import functools
import math
from typing import Any

_ASCENT = 0.78  # of a line's height; the rest is for descenders


@functools.lru_cache(maxsize=64)
def font(size: int) -> Any:
    """A font whose lines are `size` pixels high from ascender to descender."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=4096)
def line_width(words: str, size: int) -> int:
    """Pixels that a line fills, rounded up."""
    return math.ceil(font(size).getlength(words))


def baseline(top: int, size: int) -> int:
    return top + round(_ASCENT * size)
