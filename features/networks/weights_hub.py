"""Pretrained weights from timm's hub, or one line that says why there are none: no minute of retries, no log noise."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import reason_of

from .quiet import quiet_logger

if TYPE_CHECKING:
    import torch

_PROBE_S = 10.0
_OTHERWISE = "--weights FILE (safetensors or a state dict), --weights embedded, or --weights random:0 (untrained)"


def fetch_pretrained(model: str, model_args: Mapping[str, Any]) -> "dict[str, torch.Tensor]":
    """The tensors of timm's pretrained `model` without classifier, from the local cache if they are there, else from the hub.

    Raises: HeadstartError if timm has none for this model, or they can neither be found nor fetched.
    """
    import timm
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(model, allow_unregistered=True)
    if config is None or not config.has_weights:
        raise HeadstartError(f"timm has no pretrained weights for {model}. Choose another encoder, or pass {_OTHERWISE}")
    arguments: dict[str, Any] = {**model_args, "num_classes": 0, "pretrained": True}
    cached = _cached(config)
    if cached:
        # What timm says of a loader of the model's own is of the original file at `url`; the hub has plain tensors.
        arguments["pretrained_cfg_overlay"] = {"file": cached, "custom_load": False}
    source = cached or (f"{_endpoint()}/{config.hf_hub_id}" if config.hf_hub_id else str(config.url))
    with quiet_logger("huggingface_hub", logging.CRITICAL):
        try:
            if config.hf_hub_id and not cached:
                _ask_once(source)
            network: torch.nn.Module = timm.create_model(model, **arguments)
        except Exception as error:
            raise HeadstartError(
                f"cannot get the pretrained weights of {model}: tried {source}: {reason_of(error)}. "
                f"Connect, or point HF_HUB_CACHE at a cache that holds them, or pass {_OTHERWISE}"
            ) from error
    return network.state_dict()


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _cached(config: Any) -> str | None:
    """Path of the weights in the local cache; asked first because the library would call the hub, with retries, even then."""
    from huggingface_hub import try_to_load_from_cache

    if not config.hf_hub_id:
        return None
    repository, _, revision = config.hf_hub_id.partition("@")
    wanted = config.hf_hub_filename or "pytorch_model.bin"
    for name in (wanted.replace("pytorch_model.bin", "model.safetensors"), wanted):
        path = try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(path, str):
            return path
    return None


def _ask_once(url: str) -> None:
    # One request decides whether there is a hub at all: the library's own download asks twelve times, for 45 seconds.
    from huggingface_hub import get_session

    get_session().head(url, timeout=_PROBE_S)
