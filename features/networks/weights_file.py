"""Weights files of other people: read without running anything that stands in them, and made to fit an architecture."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import reason_of

from .architectures import build, classifier_names

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

# Where training scripts put the state dict; averaged weights first, as timm does.
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model")
_NAMED = 3
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
        foreign = _foreign_objects(path)
        if foreign:
            raise HeadstartError(
                f"{path} holds other objects than tensors ({', '.join(foreign[:_NAMED])}), and none of those is read. Save its "
                "state dict alone: torch.save(checkpoint['state_dict'], FILE)"
            ) from None
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


def _foreign_objects(path: Path) -> list[str]:
    """Names of what a torch file would make besides tensors and plain values; nothing of it is run."""
    import torch

    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # damaged, or not torch's
        return []


def _load(path: Path) -> Any:
    import safetensors.torch
    import torch

    with reading.opened_given(path) as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(_TORCH_MAGIC):
            with torch.serialization.safe_globals([argparse.Namespace]):  # plain values that timm's training script saves along
                return torch.load(file, map_location="cpu", weights_only=True)
    return safetensors.torch.load_file(path, device="cpu")


def fit_tensors(tensors: "Tensors", model: str, model_args: Mapping[str, Any], path: Path) -> "dict[str, torch.Tensor]":
    """The tensors of `model` without classifier, taken from `tensors`, in the dtypes that timm builds.

    A classifier of any size and `num_batches_tracked` may be there or not. What timm itself would rename or drop when it loads
    such a file is renamed or dropped; positions are resampled only if model_args ask for another image size.

    Raises: HeadstartError naming up to three tensors that are missing, unexpected or of another shape.
    """
    network = build(model, model_args)
    wanted: Tensors = network.state_dict()
    ignored = classifier_names(model, model_args)
    tensors = _unwrapped(tensors, wanted, path)
    differing = _differences(tensors, wanted, ignored)
    if differing:
        adapted = _as_timm_loads(tensors, network)
        reshaped = [name for name in tensors.keys() & wanted.keys() if tensors[name].shape != wanted[name].shape]
        # Only positions may be resampled, and only for another image size: timm's filter would bend patch embeddings as well.
        bendable = "img_size" in model_args and all("pos" in name for name in reshaped)
        if (bendable or not reshaped) and not _differences(adapted, wanted, ignored):
            tensors, differing = adapted, []
    if differing:
        more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        raise HeadstartError(f"{path} does not fit {model}: {'; '.join(differing[:_NAMED])}{more}. {_advice(model, path)}")
    return {name: tensors[name].to(tensor.dtype).contiguous() for name, tensor in wanted.items() if name in tensors}


# What scripts call the head that they put behind a network. Anything else that the network lacks is another network's.
_HEADS = frozenset({"head", "heads", "fc", "classifier", "linear", "last_linear", "projector", "projection_head", "criterion"})


def _unwrapped(tensors: "Tensors", wanted: "Tensors", path: Path) -> "Tensors":
    """`tensors` without the prefix that a training script put before the network's names (`model.`, `backbone.`, `student.`).

    Unchanged where no prefix, or the empty one, leaves all that is wanted. Raises: HeadstartError if several do.
    """
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")]
    if not needed or all(name in tensors for name in needed):
        return tensors
    first = needed[0]
    prefixes = [name[: -len(first)] for name in tensors if name.endswith(f".{first}")]
    fitting = [
        prefix
        for prefix in prefixes
        if all(f"{prefix}{name}" in tensors and tensors[f"{prefix}{name}"].shape == wanted[name].shape for name in needed)
    ]
    if len(fitting) > 1:
        raise HeadstartError(
            f"{path} holds {len(fitting)} networks that fit: {', '.join(sorted(fitting)[:_NAMED])}. Save one of them alone"
        )
    if not fitting:
        return tensors
    [prefix] = fitting
    kept = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return {name: tensor for name, tensor in kept.items() if name in wanted or name.partition(".")[0] not in _HEADS}


def _differences(tensors: "Tensors", wanted: "Tensors", ignored: set[str]) -> list[str]:
    """One phrase for each tensor that does not fit, other shapes first, because they tell most."""
    shared = sorted(tensors.keys() & wanted.keys())
    shapes = [
        f"{name} is {list(tensors[name].shape)}, expected {list(wanted[name].shape)}"
        for name in shared
        if tensors[name].shape != wanted[name].shape
    ]
    # Integers in place of floats are quantized weights, which mean nothing without their scales.
    kinds = [
        f"{name} is {tensors[name].dtype}, expected {wanted[name].dtype}"
        for name in shared
        if tensors[name].is_floating_point() != wanted[name].is_floating_point()
    ]
    missing = sorted(name for name in wanted.keys() - tensors.keys() if not name.endswith("num_batches_tracked"))
    unexpected = sorted(tensors.keys() - wanted.keys() - ignored)
    return (
        shapes
        + kinds
        + [f"{name} {list(wanted[name].shape)} is missing" for name in missing]
        + [f"{name} {list(tensors[name].shape)} is unexpected" for name in unexpected]
    )


def _as_timm_loads(tensors: "Tensors", network: "torch.nn.Module") -> "Tensors":
    """`tensors` through the filter that timm keeps beside an architecture for files of its first authors; else unchanged."""
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if adapt is None:
        return tensors
    try:
        adapted: Tensors = adapt(dict(tensors), network)
    except Exception:  # a filter may assume anything about a file that it was not made for
        return tensors
    return adapted


def _advice(model: str, path: Path) -> str:
    import timm

    named = [name for name in timm.list_models() if path.name.startswith(name) and name != model.partition(".")[0]]
    if named:
        return f"By its name it fits --encoder {max(named, key=len)}"
    return "Pass the --encoder that these weights were made for"
