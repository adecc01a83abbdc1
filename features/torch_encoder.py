"""An encoder's network in torch, its weights verified: the reference that everything faster is measured against."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError

from .architectures import build, load
from .checkpoints import read_tensors
from .encoder_spec import WEIGHTS_NAME, DamagedEncoderError, EncoderSpec, read_encoder, require_pixels
from .reasons import reason_of
from .spatial import outputs
from .weights import digest

if TYPE_CHECKING:
    import torch


def read_weights(folder: Path, spec: EncoderSpec) -> "dict[str, torch.Tensor]":
    """The tensors in `folder`. Raises: DamagedEncoderError if they are not those that `spec` names."""
    path = folder / WEIGHTS_NAME
    repair = "Run the same enqueue again: it puts them back and keeps all features"
    if not path.is_file():
        raise DamagedEncoderError(f"{path} is missing. {repair}")
    try:
        tensors = read_tensors(path)
    except HeadstartError as error:
        raise DamagedEncoderError(f"{error}. {repair}") from None
    found = digest(tensors)
    if found != spec.weights_sha256:
        raise DamagedEncoderError(f"{path} has digest {found[:16]}, expected {spec.weights_sha256[:16]}. {repair}")
    return tensors


def read_network(folder: Path, spec: EncoderSpec) -> "torch.nn.Module":
    """The network with its weights, on the CPU. Raises: HeadstartError if they are damaged or timm builds it differently."""
    tensors = read_weights(folder, spec)
    try:
        network = build(spec.model, spec.model_args)
        load(network, tensors)
    except Exception as error:
        raise HeadstartError(
            f"{folder}: the installed timm cannot build {spec.model} as it was ({reason_of(error)}). "
            "Install the timm that enqueued it"
        ) from error
    return network


class TorchEncoder:
    """A network on a device, for images that `spec.transform` made. An `opening.Encoder`."""

    lanes = 1

    def __init__(self, spec: EncoderSpec, network: "torch.nn.Module", device: str) -> None:
        import timm
        import torch

        self.spec = spec
        self.device = device
        self.versions: Mapping[str, str] = {"torch": torch.__version__, "timm": timm.__version__}
        # Channels-last is how images arrive, and about 1.7 times as fast on a CPU.
        self._network = network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._mean, self._std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (spec.transform.mean, spec.transform.std)
        )

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        require_pixels(images, self.spec)
        if not len(images):
            return np.empty((0, self.spec.row_length), np.float32)
        # torch cannot say that a tensor is read-only, and warns; such arrays are small or come from a map, so they are copied.
        pixels = torch.from_numpy(images if images.flags.writeable else images.copy())
        with torch.inference_mode():
            # In this order and in float32, as torchvision's ToTensor and Normalize compute it.
            inputs = pixels.to(self.device).permute(0, 3, 1, 2).float().div(255).sub(self._mean).div(self._std)
            made = outputs(self._network, inputs, self.spec.spatial)
            rows: NDArray[np.float32] = torch.cat([output.flatten(1) for output in made], 1).float().cpu().numpy()
        return rows

    def close(self) -> None:
        del self._network


def open_torch(folder: Path, device: str) -> TorchEncoder:
    """The encoder in `folder` on `device` (cpu, cuda, cuda:1 ...), in torch.

    Raises: HeadstartError if the folder is damaged or newer, timm builds the model differently, or there is no such device.
    """
    import torch

    spec = read_encoder(folder)
    network = read_network(folder, spec)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise HeadstartError(f"--device {device}: torch sees no such device here. Pass --device cpu")
    return TorchEncoder(spec, network, device)
