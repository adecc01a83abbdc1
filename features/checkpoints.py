"""Weights files of other people: safetensors and torch state dicts, read without running anything that stands in them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.pipeline.errors import HeadstartError

from .reasons import reason_of

if TYPE_CHECKING:
    import torch

# Where training scripts put the state dict; averaged weights first, as timm does.
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model")
_TORCH_MAGIC = (b"PK\x03\x04", b"\x80\x02")


def read_tensors(path: Path) -> "dict[str, torch.Tensor]":
    """All tensors of `path` by name, without the prefixes that DataParallel and torch.compile add; on the CPU, as they are.

    The content decides the format, not the suffix. Raises: HeadstartError if the file is damaged or neither of the two.
    """
    import torch
    from timm.models import clean_state_dict

    try:
        loaded = _load(path)
    except Exception as error:  # garbage raises anything: KeyError, EOFError, UnpicklingError, SafetensorError ...
        raise HeadstartError(
            f"{path} cannot be read as weights: {reason_of(error)}. "
            "Is it cut off? Fetch it again, or save its state dict as safetensors"
        ) from None
    for nest in _NESTS:
        if isinstance(loaded, dict) and isinstance(loaded.get(nest), dict):
            loaded = loaded[nest]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise HeadstartError(f"{path} holds no state dict (a table of named tensors). Save model.state_dict() as safetensors")
    cleaned: dict[str, torch.Tensor] = clean_state_dict(loaded)
    return cleaned


def _load(path: Path) -> Any:
    import safetensors.torch
    import torch

    with path.open("rb") as file:
        magic = file.read(4)
    if magic.startswith(_TORCH_MAGIC):
        with torch.serialization.safe_globals([argparse.Namespace]):  # plain values that timm's training script saves along
            return torch.load(path, map_location="cpu", weights_only=True)
    return safetensors.torch.load_file(path, device="cpu")
