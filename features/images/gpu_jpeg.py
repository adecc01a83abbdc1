"""JPEGs decoded, scaled and cropped on a GPU, by torchcodec (nvJPEG) and torch. What a GPU does not do as well is left to Pillow.

Which of the two decodes an image follows from its bytes alone, never from how much memory is free.
"""

import base64
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import reason_of

from .transform import Transform, geometry_of, padded

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

GPU_INTERPOLATIONS = ("bilinear", "bicubic")  # those that torch computes with antialiasing
_PIXELS = 2**24  # in an image that the device decodes; larger ones, and those that are enlarged beyond it, are Pillow's
_DECODER_BYTES = 64 * 10**6  # of nvJPEG itself
# One image at a time: as decoded, in float32, then scaled in float32 and what scaling takes.
DEVICE_BYTES = _PIXELS * (3 + 12 + 12 + 1) + _DECODER_BYTES
_EXIF = re.compile(rb"\xff\xe1(?=..Exif\0)", re.DOTALL)
_END = b"\xff\xd9"
_ALLOCATOR_FAILED = re.compile(r"Failed to [a-z ]+: 5\b")  # as torchcodec hands on what nvJPEG says
_TINY = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqmx5mo"
    "q6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCAAQABADASIAAhEB"
    "AxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAP/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFQEBAQAAAAAAAAAAAAAAAAAAAgP/xAAUEQEAAAAAAAAAAAAA"
    "AAAAAAAA/9oADAMBAAIRAxEAPwCACAP/2Q=="
)


class DeviceJpeg:
    """Decodes one image at a time, in a stream of its own.

    Args: device: cuda, cuda:1 ...; on 'cpu' the same steps give other pixels.
    Raises: HeadstartError if torchcodec is missing or cannot decode there.
    """

    def __init__(self, transform: Transform, device: str) -> None:
        try:
            from torchcodec.decoders import decode_jpeg  # type: ignore[attr-defined,unused-ignore]
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            reason = reason_of(error)
            raise HeadstartError(f"--device-decode needs torchcodec ({reason}). Run: pip install 'torchcodec>=0.16'") from None
        self._decode: Callable[..., Any] = decode_jpeg
        self._transform = transform
        self._device = device
        self._turn = threading.Lock()
        self._stream: torch.cuda.Stream | None = None
        self._require_device()  # and takes what only the first image takes, time and memory

    def __call__(self, data: bytes, image: "Image") -> NDArray[np.uint8] | None:
        """The pixels of the JPEG `data`, whose header Pillow has read as `image`; None if that is Pillow's to decode.

        Raises: HeadstartError if the device fails.
        """
        import torch

        if not _is_for_device(data, image, self._transform):
            return None
        with self._turn, torch.inference_mode(), self._own_stream():
            try:
                return self._pixels_of(data)
            except RuntimeError as error:  # torchcodec has no other kind
                if not _is_lack_of_memory(error):
                    self._require_device()
                    return None  # it is the image: Pillow says what is wrong with it, or reads it all the same
            if self._device != "cpu":
                torch.cuda.empty_cache()
            try:
                return self._pixels_of(data)
            except RuntimeError as error:
                raise HeadstartError(
                    f"--device-decode: {self._device} could not decode an image of {image.width} x {image.height} pixels "
                    f"({reason_of(error)}). Close other programs on the GPU, raise --vram-budget or lower --batch-size"
                ) from None

    def _require_device(self) -> None:
        try:
            with self._own_stream():
                self._decode([_TINY], mode="RGB", device=self._device)
        except RuntimeError as error:
            raise HeadstartError(f"--device-decode: torchcodec cannot decode on {self._device} ({reason_of(error)})") from None

    def _pixels_of(self, data: bytes) -> NDArray[np.uint8]:
        # torchcodec turns an image as EXIF says; nobody else here does, so that segment becomes one that means nothing to it.
        [decoded] = self._decode([_EXIF.sub(b"\xff\xe9", data)], mode="RGB", device=self._device)
        return _fit(decoded, self._transform)

    def _own_stream(self) -> AbstractContextManager[object]:
        """In the encoder's stream an image would wait for the batch that is being encoded."""
        import torch

        if self._device == "cpu":
            return nullcontext()
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device, priority=-1)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(self._stream)


def _is_lack_of_memory(error: RuntimeError) -> bool:
    from headstart.features.devices import is_out_of_memory

    return is_out_of_memory(error) or _ALLOCATOR_FAILED.search(str(error)) is not None


def _is_for_device(data: bytes, image: "Image", transform: Transform) -> bool:
    geometry = geometry_of(image.height, image.width, transform)
    return (
        image.format == "JPEG"
        and image.mode in ("RGB", "L")
        # RGB that was never made YCbCr: decoders disagree on how to tell.
        and image.info.get("adobe_transform", 1) == 1
        and [layer[0] for layer in getattr(image, "layer", [])] != list(b"RGB")
        # Cut off, it would be grey below; Pillow refuses such images.
        and data.rstrip(b"\0").endswith(_END)
        and max(image.width * image.height, geometry.scaled[0] * geometry.scaled[1]) <= _PIXELS
        and not geometry.is_strip
    )


def _fit(image: "torch.Tensor", transform: Transform) -> NDArray[np.uint8]:
    """`transform.fit`, scaled on the device: (3, h, w) uint8 in, (height, width, 3) out; the same within two grey levels."""
    import torch
    from torch.nn.functional import interpolate

    geometry = geometry_of(image.shape[1], image.shape[2], transform)
    scaled = interpolate(image[None].float(), geometry.scaled, mode=transform.interpolation, antialias=True, align_corners=False)[
        0
    ]
    kept = (
        scaled[:, geometry.top : geometry.top + geometry.rows, geometry.left : geometry.left + geometry.columns]
        .round()
        .clamp(0, 255)
    )
    return padded(kept.permute(1, 2, 0).to(torch.uint8).contiguous().cpu().numpy(), geometry, transform)
