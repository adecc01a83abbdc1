"""An encoder's weights: where they come from, whether they fit, and the digest that stands for them.

Never random numbers in place of weights that are missing or do not fit.
"""

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.pipeline.doors import reading, records
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

from .architectures import build
from .weights_file import fit_tensors, read_tensors
from .weights_hub import fetch_pretrained

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

EMBEDDED = Path(__file__).parent / "embedded"
EMBEDDED_SOURCE = "embedded: small, for trying things out, no stand-in for pretrained weights"


@dataclass(frozen=True, eq=False)  # tensors have no single truth value
class Weights:
    """The tensors that decide an encoder's features.

    Attributes:
        source: for a person: where they came from.
        tensors: name to tensor, on the CPU, in the dtypes that timm builds; neither the classifier nor `num_batches_tracked`,
            because features do not depend on them: the same backbone under another classifier is the same encoder.
    """

    source: str
    tensors: "Mapping[str, torch.Tensor]"

    @functools.cached_property
    def sha256(self) -> str:
        return digest(self.tensors)


def digest(tensors: "Mapping[str, torch.Tensor]") -> str:
    """sha256 (hex) of names, dtypes, shapes and bytes, in the order of the names."""
    import torch

    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha256.update(_heading(name, str(tensor.dtype).removeprefix("torch."), tensor.shape))
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def digest_of_arrays(arrays: "Mapping[str, NDArray[Any]]") -> str:
    """As `digest` of the same tensors, without torch."""
    sha256 = hashlib.sha256()
    for name in sorted(arrays):
        values = arrays[name]
        sha256.update(_heading(name, str(values.dtype), values.shape))
        sha256.update(values.tobytes())
    return sha256.hexdigest()


def _heading(name: str, dtype: str, shape: Sequence[int]) -> bytes:
    return f"{name}\0{dtype}\0{list(shape)}\0".encode()


def resolve_weights(model: str, model_args: Mapping[str, Any], source: str) -> Weights:
    """The weights that `--weights source` means for timm's `model`.

    Args:
        source: 'hub', 'embedded', 'random:SEED' or the path of a safetensors file or torch state dict. float16 and bfloat16
            are cast to what timm builds, exactly.

    Raises: HeadstartError if there is no such source, it is damaged, or a tensor is missing, unexpected or of another shape.
    """
    if source == "hub":
        return Weights(f"timm's hub, {model}", _essential(fetch_pretrained(model, model_args)))
    if source.startswith("random:"):
        return Weights(f"random numbers, seed {_seed(source)}", _essential(build(model, model_args, _seed(source)).state_dict()))
    if source == "embedded":
        path = EMBEDDED / "encoder.safetensors"
        _require_card_of(model)
    else:
        path = Path(source)
    if not path.is_file():
        raise HeadstartError(f"--weights {source}: there is no such file. Pass hub, embedded, random:SEED or the path of a FILE")
    fitted = fit_tensors(read_tensors(path), model, model_args, path)
    unwrapped = f", without the prefix '{printable(fitted.prefix)}' of its names" if fitted.prefix else ""
    return Weights(EMBEDDED_SOURCE if source == "embedded" else f"{path}{unwrapped}", _essential(fitted.tensors))


def file_of(source: str) -> Path | None:
    """The file that `--weights source` names; None for a source that is none."""
    return None if source in ("hub", "embedded") or source.startswith("random:") else Path(source)


def _seed(source: str) -> int:
    match = re.fullmatch(r"random:(\d{1,9})", source)
    if match is None:
        raise HeadstartError(f"--weights {source}: the seed must be a number of at most nine digits, as in random:0")
    return int(match[1])


def _essential(tensors: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


def embedded_card() -> dict[str, Any]:
    """What the encoder inside the package says about itself: model, model_args, transform, sha256 of its weights file.

    Raises: HeadstartError if it is missing or damaged, both of which a new installation repairs.
    """
    path, weights = EMBEDDED / "encoder.json", EMBEDDED / "encoder.safetensors"
    try:
        card = records.parse_record(reading.read_given(path, reading.SMALL_BYTES), path, None)
        missing = {"model", "model_args", "transform", "sha256"} - set(card)
        if missing:
            raise ValueError(f"no {', '.join(sorted(missing))}")
        if hashlib.sha256(reading.read_given(weights, reading.WEIGHTS_BYTES)).hexdigest() != card["sha256"]:
            raise ValueError(f"{weights.name} has another sha256")
    except (OSError, ValueError, TypeError, HeadstartError) as error:
        raise HeadstartError(f"the embedded encoder at {path} is missing or damaged ({error}). Install headstart again") from None
    return card


def _require_card_of(model: str) -> None:
    card = embedded_card()
    if card["model"] != model:
        raise HeadstartError(
            f"the embedded weights are of {card['model']}, not of {model}. Leave --encoder out, or pass other --weights"
        )
