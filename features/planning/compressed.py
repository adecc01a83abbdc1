"""Fits what makes maps smaller (--compress) to maps of a sample of the user's images, before anything is queued."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.features.encoders.folder import encoder_folders
from headstart.features.encoders.map_compression import (
    PROJECTION_NAME,
    Fitted,
    MapCompression,
    fit_projection,
    parse_compression,
    require_channels,
)
from headstart.features.encoders.onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME, find_graph
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.precision import LARGEST_GRAPH
from headstart.features.encoders.resolve import EncoderRequest
from headstart.features.encoders.runtime import open_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import EncoderSpec, projection_of, read_encoder
from headstart.features.networks.embedded_encoder import EmbeddedWeights
from headstart.features.networks.weights import Weights
from headstart.features.sources.source import Source
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import temporary_folder
from headstart.pipeline.text import size_words
from headstart.pipeline.workspace import Workspace, open_or_create_workspace

from .sample import decoded_sample

_IMAGES = 96
_PLACES = 49_152  # of all these images together
_MOST_PIXELS = 2**25  # of these images as they are decoded


def chosen_compression(
    workspace: Workspace,
    source: Source,
    spec: EncoderSpec,
    weights: Weights | EmbeddedWeights | Path,
    request: EncoderRequest,
    seed: int,
    report: Callable[[str], None],
    patch_size: int | None = None,
) -> EncoderSpec:
    """`spec` with its maps compressed as is asked for, what was fitted in its folder.

    What was fitted once in a workspace serves all its data sets: another sample would give other features. Where splits are
    given, training images alone are looked at; with `patch_size` patches of them.
    Raises: HeadstartError if hardly an image can be decoded, or there are not so many channels, or places of maps.
    """
    asked = parse_compression(request.compress)
    before = _fitted_before(workspace, spec, asked)
    if before is not None:
        report(f"maps compressed by {asked.name}, as before")
        return before
    with temporary_folder("maps") as place:
        trial = open_or_create_workspace(place / "workspace")
        folder = save_encoder(trial, spec, weights)
        export_graph(folder, weights if isinstance(weights, Path) else None)
        fitted = fit_projection(_places(trial, folder, _of_training(source), spec, seed, patch_size), asked)
        data = fitted.projection.encode()
        kept = replace(spec, compression=replace(asked, sha256=hashlib.sha256(data).hexdigest()))
        files = {PROJECTION_NAME: data, **_graph_of(folder, spec, kept)}
    report(_words(asked, fitted, spec, kept))
    own = workspace.features / kept.folder_name
    workspace.make_folder(own)
    for name, content in files.items():
        workspace.files.replace(own / name, content)
    return kept


def previewed_compression(workspace: Workspace | None, spec: EncoderSpec, request: EncoderRequest) -> EncoderSpec:
    """`spec` with its maps compressed as is asked for, without a digest where nothing was fitted yet; nothing is.

    Raises: HeadstartError if there are not so many channels.
    """
    asked = parse_compression(request.compress)
    if spec.spatial is not None:
        require_channels(asked, spec.spatial.shape[0])
    before = _fitted_before(workspace, spec, asked) if workspace is not None else None
    return before or replace(spec, compression=asked)


def _words(asked: MapCompression, fitted: Fitted, spec: EncoderSpec, kept: EncoderSpec) -> str:
    variance = f", {fitted.kept:.1%} of the variance of channels kept" if asked.components else ""
    rounding = f", rounding to bytes adds {fitted.error:.2%} of it as error" if asked.is_int8 else ""
    sizes = f"{size_words(kept.row_bytes)} an image instead of {size_words(spec.row_bytes)}"
    return f"maps compressed by {asked.name}: {sizes}{variance}{rounding}"


def _of_training(source: Source) -> Source:
    chosen = tuple(image for image in source.images if image.split == "train")
    return replace(source, images=chosen, lots=()) if chosen else source


def _places(
    workspace: Workspace, folder: Path, source: Source, spec: EncoderSpec, seed: int, patch_size: int | None
) -> NDArray[np.float32]:
    """(m, channels) float32, of places drawn from the maps of some images."""
    assert spec.spatial is not None
    count = min(_IMAGES, max(16, _MOST_PIXELS // math.prod(spec.transform.image_size)))
    pixels, _ = decoded_sample(workspace, source, spec, seed, count, "--compress", patch_size)
    channels, height, width = spec.spatial.shape
    draw = np.random.default_rng(seed)
    wanted = min(height * width, -(-_PLACES // len(pixels)))
    encoder = open_encoder(folder, "cpu")
    chosen = []
    try:
        for image in pixels:
            maps = encoder.encode(image[None])[0, spec.embed_dim :].reshape(channels, height * width)
            chosen.append(maps[:, draw.choice(height * width, wanted, replace=False)].T)
    finally:
        encoder.close()
    places = np.concatenate(chosen)
    finite = np.isfinite(places).all(axis=1)
    if not finite.any():
        raise HeadstartError(f"{spec.model} gives NaN or infinity for these images. Pass other --weights")
    return np.ascontiguousarray(places[finite])


def _graph_of(folder: Path, spec: EncoderSpec, kept: EncoderSpec) -> dict[str, bytes]:
    """The same graph under the fingerprint of `kept`, so that it is not exported again; none if it has none."""
    facts = find_graph(folder, spec.fingerprint)
    if facts is None or facts.refused:
        return {}
    graph = reading.read(folder / GRAPH_NAME, LARGEST_GRAPH)
    return {GRAPH_NAME: graph, GRAPH_FACTS_NAME: replace(facts, fingerprint=kept.fingerprint).to_json()}


def _fitted_before(workspace: Workspace, spec: EncoderSpec, asked: MapCompression) -> EncoderSpec | None:
    for folder in encoder_folders(workspace):
        try:
            there = read_encoder(folder)
            if there.compression is None or replace(there, compression=None).fingerprint != spec.fingerprint:
                continue
            if replace(there.compression, sha256="") != asked:
                continue
            projection_of(folder, there)
        except HeadstartError:
            continue  # damaged: it is fitted anew, and if nothing changed it is the same
        return there
    return None
