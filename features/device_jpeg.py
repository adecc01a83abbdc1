"""JPEGs decoded, scaled and cropped on a GPU, by torchcodec (nvJPEG) and torch. What a GPU does not do as well is left to Pillow.

Which of the two decodes an image follows from its bytes alone, never from how much memory is free.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError

from .devices import choose_device
from .images import decode
from .transform import Transform, place

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

INTERPOLATIONS = ("bilinear", "bicubic")  # those that torch computes with antialiasing
_PIXELS = 2**24  # in all images that are being decoded at once; larger photos are Pillow's
_PIXEL_BYTES = 3 + 12 + 1  # as decoded, in float32, and what scaling takes
DEVICE_BYTES = _PIXELS * _PIXEL_BYTES
_END = b"\xff\xd9"


def open_decoder(transform: Transform, asked_device: str) -> Callable[[bytes], NDArray[np.uint8]]:
    """From the bytes of an image to its pixels, (h, w, 3) uint8, as `transform` says; many threads may call it at once.

    Args:
        asked_device: what --device says; it matters only if `transform.device_decode`.

    Raises: HeadstartError if images are to be decoded on a GPU and there is none, or no torchcodec. The function: ImageError.
    """
    if not transform.device_decode:
        return lambda data: decode(data, transform)
    device = choose_device(asked_device)
    if not device.startswith("cuda"):
        raise HeadstartError(
            "this encoder was enqueued with --device-decode: its images are decoded on a CUDA GPU, and here is none or none was "
            "asked for. Run this where there is one, or enqueue without --device-decode: that makes another folder of features"
        )
    on_device = DeviceJpeg(transform, device)
    return lambda data: decode(data, transform, on_device)


class DeviceJpeg:
    """Args: device: cuda, cuda:1 ...; on 'cpu' the same steps give other pixels. Raises: HeadstartError without torchcodec."""

    def __init__(self, transform: Transform, device: str) -> None:
        try:
            from torchcodec.decoders import decode_jpeg  # type: ignore[attr-defined,unused-ignore]
        except (ImportError, OSError, RuntimeError) as error:
            raise HeadstartError(f"--device-decode needs torchcodec ({error}). Run: pip install 'torchcodec>=0.16'") from None
        self._decode = decode_jpeg
        self._transform = transform
        self._device = device
        self._of_thread = threading.local()
        self._quiet = threading.Condition()
        self._pixels = 0

    def __call__(self, data: bytes, image: "Image") -> NDArray[np.uint8] | None:
        """The pixels of the JPEG `data`, whose header Pillow has read as `image`; None if that is Pillow's to decode."""
        if not _is_for_device(data, image, self._transform):
            return None
        with self._room(image.width * image.height):
            return self._pixels_of(data, (image.height, image.width))

    def _pixels_of(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
        import torch

        with torch.inference_mode(), self._own_stream():
            try:
                [decoded] = self._decode([data], mode="RGB", device=self._device)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # damaged, or of a kind that nvJPEG lacks: Pillow says which
                return None
            if tuple(decoded.shape[1:]) != shape:
                return None
            pixels: NDArray[np.uint8] = _fit(decoded, self._transform).cpu().numpy()
            return pixels

    def _own_stream(self) -> AbstractContextManager[object]:
        """In the encoder's stream an image would wait for the batch that is being encoded."""
        import torch

        if self._device == "cpu":
            return nullcontext()
        if not hasattr(self._of_thread, "stream"):
            self._of_thread.stream = torch.cuda.Stream(self._device, priority=-1)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(self._of_thread.stream)

    @contextmanager
    def _room(self, pixels: int) -> Iterator[None]:
        """Waits until so many more may be on the device."""
        with self._quiet:
            self._quiet.wait_for(lambda: self._pixels + pixels <= _PIXELS)
            self._pixels += pixels
        try:
            yield
        finally:
            with self._quiet:
                self._pixels -= pixels
                self._quiet.notify_all()


def _is_for_device(data: bytes, image: "Image", transform: Transform) -> bool:
    return (
        image.format == "JPEG"
        and image.mode in ("RGB", "L")
        # RGB that was never made YCbCr: decoders disagree on how to tell.
        and image.info.get("adobe_transform", 1) == 1
        and [layer[0] for layer in getattr(image, "layer", [])] != list(b"RGB")
        # Cut off, it would be grey below; Pillow refuses such images.
        and data.rstrip(b"\0").endswith(_END)
        and image.width * image.height <= _PIXELS
        and not place(image.height, image.width, transform).is_strip
    )


def _fit(image: "torch.Tensor", transform: Transform) -> "torch.Tensor":
    """`transform.fit` on the device: (3, h, w) uint8 in, (height, width, 3) uint8 out; the same within two grey levels or so."""
    import torch
    from torch.nn.functional import interpolate

    spot = place(image.shape[1], image.shape[2], transform)
    scaled = interpolate(image[None].float(), spot.scaled, mode=transform.interpolation, antialias=True, align_corners=False)[0]
    kept = scaled[:, spot.top : spot.top + spot.rows, spot.left : spot.left + spot.columns].round().clamp(0, 255)
    canvas = torch.tensor(transform.fill, dtype=torch.uint8, device=image.device).expand(*transform.image_size, 3).clone()
    canvas[spot.above : spot.above + spot.rows, spot.before : spot.before + spot.columns] = kept.permute(1, 2, 0).to(torch.uint8)
    return canvas
