"""An encoder's network in torch, its weights verified: the reference that everything faster is measured against."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headstart.features.accelerators import DeviceMemory, device_kind
from headstart.features.devices import usable_device
from headstart.features.networks.feature_map import outputs
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.versions import versions_of

from .saved import read_network
from .similarity import cosines
from .spec import EncoderSpec, read_encoder, require_pixels

if TYPE_CHECKING:
    import torch

_ALIKE = 0.9999  # cosine
_ROUNDED_TO = 8  # images


class TorchEncoder:
    """A network on a device, for images that `spec.transform` made. An `runtime.Encoder`.

    Args:
        precision: float32, or float16 or bfloat16 for autocast.
    """

    def __init__(self, spec: EncoderSpec, network: "torch.nn.Module", device: str, precision: str = "float32") -> None:
        import torch

        self.spec = spec
        self.device = device
        self.precision = precision
        self.memory: DeviceMemory | None = None
        self._kind = device_kind(device)
        # One thread hands over the next batch while the other waits for the last one's features.
        self.threads = 2 if self._kind.runs_ahead else 1
        # Only the waiting overlaps: launched one after the other in one stream, two batches share one batch's memory. And all by
        # one thread: cuDNN finds its kernels, and compiles those of depthwise convolutions, for each thread and shape anew, which
        # took 2 to 5 s of an H100 each time.
        self._launcher = ThreadPoolExecutor(1, "launch") if self._kind.runs_ahead else None
        self.versions: Mapping[str, str] = versions_of("torch", "timm")
        # Channels-last is how images arrive, and about 1.7 times as fast on a CPU.
        self._network = network.to(device, memory_format=self._kind.layout()).eval()  # type: ignore[call-overload]
        self._mean, self._std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (spec.transform.mean, spec.transform.std)
        )

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        require_pixels(images, self.spec)
        if not len(images):
            return np.empty((0, self.spec.row_length), np.float32)
        if self._launcher is not None:
            pixels = _tensor_of(rounded_up(images)).pin_memory()  # else the copy to the device would wait for all that runs there
            rows = self._launcher.submit(self._launch, pixels).result()
        else:
            rows = self._launch(_tensor_of(images if self.device == "cpu" else rounded_up(images)))
        values: NDArray[np.float32] = rows[: len(images)].cpu().numpy()
        return values

    def _launch(self, pixels: "torch.Tensor") -> "torch.Tensor":
        import torch

        with torch.inference_mode():
            # In this order and in float32, as torchvision's ToTensor and Normalize compute it.
            moved = pixels.to(self.device, non_blocking=self._kind.runs_ahead)
            colours = moved.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=self._kind.layout())
            inputs = colours.sub(self._mean).div(self._std)
            dtype = getattr(torch, self.precision)
            with torch.autocast(self._kind.name, dtype if dtype != torch.float32 else None, enabled=dtype != torch.float32):
                made = outputs(self._network, inputs, self.spec.spatial, self.spec.parts, colours)
            return torch.cat([output.flatten(1).float() for output in made], 1)

    def close(self) -> None:
        if self._launcher is not None:
            self._launcher.shutdown()
        del self._network


def _tensor_of(images: NDArray[np.uint8]) -> "torch.Tensor":
    import torch

    # torch cannot say that a tensor is read-only, and warns; such arrays are small or come from a map, so they are copied.
    return torch.from_numpy(images if images.flags.writeable else images.copy())


def rounded_up(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One image as it is, several with black ones after them up to a multiple of 8: so that few shapes come to a GPU."""
    missing = -len(images) % _ROUNDED_TO if len(images) > 1 else 0
    return np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)]) if missing else images


def choose_precision(encode: Callable[[str], NDArray[np.float32]], shorter: Sequence[str] = ("float16", "bfloat16")) -> str:
    """The first of `shorter` whose features are those of float32, else float32.

    float16 first: it is as fast on tensor cores and eight times as exact; what it lacks is range, and that shows.
    """
    exact = encode("float32")
    for name in shorter:
        if (cosines(exact, encode(name)) >= _ALIKE).all():
            return name
    return "float32"


def _open_on_gpu(spec: EncoderSpec, network: "torch.nn.Module", device: str) -> TorchEncoder:
    import torch

    kind = device_kind(device)
    height, width = spec.transform.image_size
    probe = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    of_cpu = TorchEncoder(spec, network, "cpu").encode(probe) if kind.is_compared else None
    torch.set_float32_matmul_precision("high")  # TF32: ten bits like float16, but the range of float32
    encoder = TorchEncoder(spec, network, device)
    encoder.memory = kind.memory(device)

    def encode(precision: str) -> NDArray[np.float32]:
        encoder.precision = precision
        # One at a time, which is a shape that is met again when the memory is planned.
        return np.concatenate([encoder.encode(image[None]) for image in probe])

    if of_cpu is not None and not (cosines(of_cpu, encode("float32")) >= _ALIKE).all():
        raise HeadstartError(
            f"--device {device}: torch {torch.__version__} computes other features of {spec.model} there than on the CPU. "
            "Use --device cpu"
        )
    shorter = kind.encoding_precisions(device)
    if shorter:
        encoder.precision = choose_precision(encode, shorter)
    encoder.versions = {**encoder.versions, "precision": encoder.precision}
    return encoder


def open_torch(folder: Path, device: str) -> TorchEncoder:
    """The encoder in `folder` on `device` (cpu, cuda, cuda:1, xpu, mps ...), in torch.

    Raises: HeadstartError if the folder is damaged or newer, timm builds the model differently, there is no such device, or it
        computes other features than the CPU.
    """
    spec = read_encoder(folder)
    network = read_network(folder, spec)
    usable_device(device)
    return TorchEncoder(spec, network, device) if device == "cpu" else _open_on_gpu(spec, network, device)
