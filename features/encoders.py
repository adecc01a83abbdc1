"""Encoders in a workspace: a folder that holds one, and the network that turns pixels into features.

Plain float32 in torch: the reference that anything faster behind `Encoder` is measured against.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

from .architectures import build, load
from .checkpoints import read_tensors
from .encoder_choice import DEFAULT_MODEL, resolve_encoder
from .encoder_spec import SPEC_NAME, WEIGHTS_NAME, DamagedEncoderError, EncoderSpec, read_encoder
from .reasons import reason_of
from .weights import Weights, digest

if TYPE_CHECKING:
    import torch

__all__ = ["DEFAULT_MODEL", "Encoder", "EncoderSpec", "open_encoder", "read_encoder", "resolve_encoder", "save_encoder"]


def save_encoder(workspace: Workspace, spec: EncoderSpec, weights: Weights) -> Path:
    """The encoder's folder in the workspace, complete when this returns.

    What is there and sound is kept, what is damaged is replaced.
    Raises: HeadstartError if a newer version made the folder; TryLaterError if the disk is full.
    """
    import safetensors.torch

    folder = workspace.features / spec.folder_name
    workspace.files.make_folder(folder)
    try:
        _read_weights(folder, spec)
    except DamagedEncoderError:
        _put(workspace, folder / WEIGHTS_NAME, safetensors.torch.save(dict(weights.tensors)))
    # The description is published last: where it stands, the weights stand too.
    try:
        existing = read_encoder(folder)
    except DamagedEncoderError:
        _put(workspace, folder / SPEC_NAME, spec.to_json())
        return folder
    if existing.fingerprint != spec.fingerprint:  # one chance in four billion, or a folder that somebody renamed
        raise HeadstartError(f"{folder} holds another encoder ({existing.fingerprint[:16]}, expected {spec.fingerprint[:16]})")
    return folder


def _put(workspace: Workspace, path: Path, data: bytes) -> None:
    if not workspace.files.publish(path, data):
        workspace.files.replace(path, data)


def _read_weights(folder: Path, spec: EncoderSpec) -> "dict[str, torch.Tensor]":
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


class Encoder:
    """A network on a device, for images that `spec.transform` made.

    Attributes:
        spec: what it is.
        device: where it runs, as torch names it.
    """

    def __init__(self, spec: EncoderSpec, network: "torch.nn.Module", device: str) -> None:
        import torch

        self.spec = spec
        self.device = device
        self._network = network.to(device).eval()
        self._mean, self._std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (spec.transform.mean, spec.transform.std)
        )

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What a classifier would see of each image, in float32: (n, h, w, 3) uint8 in, (n, embed_dim) out.

        On a CPU the same images give the same bits. Raises: ValueError if the shape or dtype is another.
        """
        import torch

        if images.dtype != np.uint8 or images.shape[1:] != (*self.spec.transform.image_size, 3):
            raise ValueError(f"got {images.dtype} {images.shape}, expected uint8 (n, {self.spec.transform.image_size}, 3)")
        if not len(images):
            return np.empty((0, self.spec.embed_dim), np.float32)
        # torch cannot say that a tensor is read-only, and warns; such arrays are small or come from a map, so they are copied.
        pixels = torch.from_numpy(images if images.flags.writeable else images.copy())
        with torch.inference_mode():
            # In this order and in float32, as torchvision's ToTensor and Normalize compute it.
            inputs = pixels.to(self.device).permute(0, 3, 1, 2).float().div(255).sub(self._mean).div(self._std)
            features: NDArray[np.float32] = self._network(inputs.contiguous()).float().cpu().numpy()
        return features


def open_encoder(folder: Path, device: str) -> Encoder:
    """The encoder that `save_encoder` put into `folder`, its weights verified, on `device` (cpu, cuda, cuda:1 ...).

    Raises: HeadstartError if the folder is damaged or newer, timm builds the model differently, or there is no such device.
    """
    import torch

    spec = read_encoder(folder)
    tensors = _read_weights(folder, spec)
    try:
        network = build(spec.model, spec.model_args)
        load(network, tensors)
    except Exception as error:
        raise HeadstartError(
            f"{folder}: the installed timm cannot build {spec.model} as it was ({reason_of(error)}). "
            "Install the timm that enqueued it"
        ) from error
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise HeadstartError(f"--device {device}: torch sees no such device here. Pass --device cpu")
    return Encoder(spec, network, device)
