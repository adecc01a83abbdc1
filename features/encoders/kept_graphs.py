"""Encoders that were exported before, kept in this user's cache folder: another workspace takes one without torch and timm."""

import contextlib
import os
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import headstart
from headstart.features.networks.weights import file_of
from headstart.pipeline import paths
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.files import UNSYNCED

from . import user_cache
from .folder import SPEC_NAME
from .onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME, find_graph
from .precision import FLOAT32
from .remembered import facts_of_request
from .resolve import HUB, EncoderRequest
from .spec import WEIGHTS_NAME, read_encoder

_FILES = (SPEC_NAME, WEIGHTS_NAME, GRAPH_NAME, GRAPH_FACTS_NAME)
_HUB_VARIABLES = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TORCH_HOME")


def kept_folder(request: EncoderRequest) -> Path | None:
    """Where the encoder that `request` means is kept, or would be; None without a cache, or where that cannot be known.

    Its name is a digest of what decides the encoder before it is tried out on images, and of what decides its graph. A file of
    weights is its bytes, wherever it lies.
    """
    try:
        cache = user_cache.cache_folder()
        asked = replace(request, precision=FLOAT32, else_float32=False, compress="")
        facts = None if cache is None else facts_of_request(asked)
        if cache is None or facts is None:
            return None
        if file_of(request.weights) is not None:
            facts["request"]["weights"] = ""
        facts["versions"] |= {"headstart": headstart.__version__, "onnxruntime": metadata.version("onnxruntime")}
    except (OSError, RuntimeError, metadata.PackageNotFoundError):
        return None
    # What the hub means by a name is settled by where it is asked: its own cache keeps what it fetched once, as this one does.
    facts["hub"] = {name: os.environ.get(name, "") for name in _HUB_VARIABLES} if request.weights == HUB else {}
    # The graph was compared with torch, and an image alone with itself among others, on one kind of processor.
    return user_cache.kept_place(cache, "encoders", facts)


def take_encoder(kept: Path, request: EncoderRequest, folder: Path) -> bool:
    """Whether the encoder that is kept there stands in `folder` now, as if it had just been exported for `request`.

    Args:
        folder: is made; what is in it without success is of no use.
    """
    try:
        record = user_cache.read_kept(kept)
        digests = record.record("files")
        paths.make_folder(folder)
        for name in _FILES:
            if user_cache.copied(kept / name, folder / name) != digests.text(name):
                return False
        spec = read_encoder(folder)
        graph = find_graph(folder, spec.fingerprint)
        if graph is None or graph.refused:
            return False
        weights = file_of(request.weights)
        if weights is not None:  # it says where they lay, perhaps with what was done to them
            source = f"{weights}{spec.weights_source.removeprefix(record.text('weights'))}"
            UNSYNCED.replace(folder / SPEC_NAME, replace(spec, weights_source=source).to_json())
    except (OSError, ExplainedError):
        return False
    return True


def keep_encoder(kept: Path, request: EncoderRequest, folder: Path) -> None:
    """Keeps the encoder in `folder` that was just made for `request`, if it has a graph, in place of what is kept there.

    Args:
        kept: `kept_folder` before it was made: nothing is kept if the weights' file is another one now.
    """
    with contextlib.suppress(OSError, ExplainedError):
        size = paths.tree_bytes(folder)
        graph = find_graph(folder, read_encoder(folder).fingerprint)
        if graph is None or graph.refused or size > user_cache.MOST_BYTES or kept_folder(request) != kept:
            return

        def write() -> dict[str, Any]:
            digests = {name: user_cache.copied(folder / name, kept / name) for name in _FILES}
            weights = file_of(request.weights)
            return {"files": digests, "weights": "" if weights is None else str(weights)}

        user_cache.keep(kept, size, write)
