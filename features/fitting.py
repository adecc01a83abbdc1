"""Whether the tensors of a file are those of an architecture, and which are not."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.pipeline.errors import HeadstartError

from .architectures import build, classifier_names

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

_NAMED = 3


def fit_tensors(found: "Tensors", model: str, model_args: Mapping[str, Any], path: Path) -> "dict[str, torch.Tensor]":
    """The tensors of `model` without classifier, taken from `found`, in the dtypes that timm builds.

    A classifier of any size and `num_batches_tracked` may be there or not. What timm itself would rename or drop when it loads
    such a file is renamed or dropped; positions are resampled only if model_args ask for another image size.

    Raises: HeadstartError naming up to three tensors that are missing, unexpected or of another shape.
    """
    network = build(model, model_args)
    wanted: Tensors = network.state_dict()
    ignored = classifier_names(model, model_args)
    differing = _differences(found, wanted, ignored)
    if differing:
        adapted = _as_timm_loads(found, network)
        reshaped = [name for name in found.keys() & wanted.keys() if found[name].shape != wanted[name].shape]
        # Only positions may be resampled, and only for another image size: timm's filter would bend patch embeddings as well.
        bendable = "img_size" in model_args and all("pos" in name for name in reshaped)
        if (bendable or not reshaped) and not _differences(adapted, wanted, ignored):
            found, differing = adapted, []
    if differing:
        more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        raise HeadstartError(f"{path} does not fit {model}: {'; '.join(differing[:_NAMED])}{more}. {_advice(model, path)}")
    return {name: found[name].to(tensor.dtype).contiguous() for name, tensor in wanted.items() if name in found}


def _differences(found: "Tensors", wanted: "Tensors", ignored: set[str]) -> list[str]:
    """One phrase for each tensor that does not fit, other shapes first, because they tell most."""
    shared = sorted(found.keys() & wanted.keys())
    shapes = [
        f"{name} is {list(found[name].shape)}, expected {list(wanted[name].shape)}"
        for name in shared
        if found[name].shape != wanted[name].shape
    ]
    # Integers in place of floats are quantized weights, which mean nothing without their scales.
    kinds = [
        f"{name} is {found[name].dtype}, expected {wanted[name].dtype}"
        for name in shared
        if found[name].is_floating_point() != wanted[name].is_floating_point()
    ]
    missing = sorted(name for name in wanted.keys() - found.keys() if not name.endswith("num_batches_tracked"))
    unexpected = sorted(found.keys() - wanted.keys() - ignored)
    return (
        shapes
        + kinds
        + [f"{name} {list(wanted[name].shape)} is missing" for name in missing]
        + [f"{name} {list(found[name].shape)} is unexpected" for name in unexpected]
    )


def _as_timm_loads(found: "Tensors", network: "torch.nn.Module") -> "Tensors":
    """`found` through the filter that timm keeps beside an architecture for files of its first authors; else unchanged."""
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if adapt is None:
        return found
    try:
        adapted: Tensors = adapt(dict(found), network)
    except Exception:  # a filter may assume anything about a file that it was not made for
        return found
    return adapted


def _advice(model: str, path: Path) -> str:
    import timm

    named = [name for name in timm.list_models() if path.name.startswith(name) and name != model.partition(".")[0]]
    if named:
        return f"By its name it fits --encoder {max(named, key=len)}"
    return "Pass the --encoder that these weights were made for"
