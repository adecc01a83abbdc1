"""Put on PYTHONPATH it makes Pillow's decoders do what broken ones do, for images whose file ends with such a word.

Python imports it when it starts, in a worker as in each of its children. Bytes after an image's end are no part of the image.
"""

import ctypes
import time

from PIL import Image

TENS_OF_GB = 10 * 10**9
_open = Image.open


def _segfault() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    time.sleep(10**6)


def _eat() -> None:
    held = []
    while sum(map(len, held)) < TENS_OF_GB:
        held.append(bytearray(b"x" * 2**26))


_MISHAPS = {b"SEGFAULT": _segfault, b"HANG": _hang, b"EAT10GB": _eat}


def _breaking(file, *arguments, **options):
    for word, mishap in _MISHAPS.items():
        if file.getvalue().endswith(word):
            mishap()
    return _open(file, *arguments, **options)


Image.open = _breaking
