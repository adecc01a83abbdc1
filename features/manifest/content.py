"""What stands for an image's content, however it is stored: the digest of its bytes, or of its pixels.

BLAKE2b of the standard library: reading a file costs several times as much, so a faster digest would gain nothing here.
"""

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIGEST_BYTES = 16


def digest_of_bytes(data: bytes | memoryview) -> str:
    """32 hex digits that stand for an image's bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def digest_of_pixels(pixels: "NDArray[Any]") -> str:
    """Of an image that is stored as an array: its shape and its bytes."""
    shape = "x".join(map(str, pixels.shape)).encode()
    return hashlib.blake2b(pixels.tobytes(), digest_size=DIGEST_BYTES, person=shape[:16]).hexdigest()
