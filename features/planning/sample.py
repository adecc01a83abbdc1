"""A few images of the user, decoded as extraction will: what an encoder is tried out on before anything is queued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.features.encoders.spec import EncoderSpec
from headstart.features.images.decode import ImageError
from headstart.features.images.reader import open_reader
from headstart.features.images.windows import WindowReader, size_of_image, windows_of
from headstart.features.manifest.adding import add_images
from headstart.features.manifest.parts import Row
from headstart.features.manifest.reading import Dataset
from headstart.features.sources.source import Source
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

_LEAST_IMAGES = 8


def decoded_sample(
    workspace: Workspace,
    source: Source,
    spec: EncoderSpec,
    seed: int,
    count: int,
    flag: str,
    patch_size: int | None = None,
) -> tuple[NDArray[np.uint8], list[Row]]:
    """(n, h, w, 3) of `count` images at most, drawn by `seed`, and the row of each; what cannot be decoded is left out.

    Args:
        workspace: a temporary one, which gets a manifest of them.
        flag: what asks for it, for the message.
        patch_size: edge of patches that are drawn from the images instead, several of each where there are few images.

    Raises: HeadstartError if hardly an image, or patch, can be decoded.
    """
    places = np.random.default_rng(seed).permutation(len(source.images))[:count]
    sample = replace(source, images=tuple(source.images[i] for i in sorted(places)), lots=(), notes=())
    manifest = add_images(workspace, sample, seed).manifest
    if patch_size is None:
        read, what = _whole(manifest.dataset, spec), "images"
    else:
        read, what = _patches(manifest.dataset, patch_size, seed, -(-count // len(places))), "patches"
    pixels: list[NDArray[np.uint8]] = []
    rows: list[Row] = []
    for part in manifest.parts:
        for row in manifest.rows(part.name, 0, part.rows):
            try:
                decoded = read(row)
            except ImageError:
                continue  # `work` says so
            pixels += decoded
            rows += [row] * len(decoded)
    if len(rows) < _LEAST_IMAGES:
        raise HeadstartError(
            f"{flag} is tried out on {what} of the data, and only {len(rows)} can be decoded, at least {_LEAST_IMAGES} are "
            "needed. Leave it out"
        )
    return np.stack(pixels[:count]), rows[:count]


def _whole(dataset: Dataset, spec: EncoderSpec) -> Callable[[Row], list[NDArray[np.uint8]]]:
    read = open_reader(dataset, spec.transform)
    return lambda row: [read(row)]


def _patches(dataset: Dataset, size: int, seed: int, each: int) -> Callable[[Row], list[NDArray[np.uint8]]]:
    """From a row to so many patches of its image at most, as the encoder sees patches."""
    pixels = WindowReader(dataset, size)

    def read(row: Row) -> list[NDArray[np.uint8]]:
        height, width = size_of_image(Path(dataset.root), row.image.path, dataset.allow_symlinks)
        chosen = windows_of(height, width, size, 0)
        draw = np.random.default_rng([seed, row.index]).choice(len(chosen), min(each, len(chosen)), replace=False)
        return [pixels(row, chosen[place], (height, width)) for place in sorted(draw.tolist())]

    return read
