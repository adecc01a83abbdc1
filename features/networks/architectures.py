"""timm's architectures as encoders: which names exist, and a network that ends where its classifier would begin."""

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headstart.pipeline.errors import HeadstartError

if TYPE_CHECKING:
    import torch


def require_known(model: str) -> None:
    """Returns if timm has `model`, with or without a tag (`efficientnet_b0.ra_in1k`). Raises: HeadstartError with near names."""
    import timm
    from timm.models import get_pretrained_cfg, split_model_name_tag

    if ":" in model or "/" in model:
        raise HeadstartError(f"--encoder {model}: not a name that timm lists. Name its architecture, and pass --weights FILE")
    architecture, tag = split_model_name_tag(model)
    if not timm.is_model(architecture):
        raise HeadstartError(f"timm has no encoder '{model}'. {_nearest(architecture, timm.list_models())}")
    try:
        get_pretrained_cfg(model, allow_unregistered=True)
    except RuntimeError:
        names = timm.list_models(f"{architecture}.*", pretrained=True)
        raise HeadstartError(f"timm's '{architecture}' has no weights tagged '{tag}'. {_nearest(model, names)}") from None


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[:3]
    return f"Nearest: {', '.join(near)}" if near else "Leave the tag out"


def build(model: str, model_args: Mapping[str, Any], seed: int = 0) -> "torch.nn.Module":
    """The network of `model` without classifier, in evaluation mode on the CPU, its weights random numbers from `seed`.

    Nothing outside sees that random numbers were drawn. Raises: whatever timm raises on arguments it does not accept.
    """
    return _create(model, {**model_args, "num_classes": 0}, seed)


def classifier_names(model: str, model_args: Mapping[str, Any]) -> set[str]:
    """Names of the tensors that `build` leaves out: the classifier's, and whatever else stands behind the features."""
    complete = _create(model, {**model_args, "num_classes": 2}, seed=0)
    return set(complete.state_dict()) - set(build(model, model_args).state_dict())


def _create(model: str, arguments: dict[str, Any], seed: int) -> "torch.nn.Module":
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: torch.nn.Module = timm.create_model(model, pretrained=False, **arguments)
    return network.eval()


def load(network: "torch.nn.Module", tensors: "Mapping[str, torch.Tensor]") -> None:
    """Puts `tensors` into `network`; only `num_batches_tracked` may be missing.

    Raises: ValueError or RuntimeError if they do not fit.
    """
    result = network.load_state_dict(dict(tensors), strict=False)
    wrong = [*result.unexpected_keys, *(name for name in result.missing_keys if not name.endswith("num_batches_tracked"))]
    if wrong:
        raise ValueError(f"this version of timm builds it with other tensors: {', '.join(wrong[:3])}")


def pooling_of(network: Any) -> str:
    """How `network` makes one vector of an image, as timm calls it (avg, token, map ...); for people to read."""
    pool = getattr(network, "global_pool", None) or getattr(getattr(network, "head", None), "global_pool", None)
    return pool if isinstance(pool, str) else str(getattr(pool, "pool_type", None) or "default")
