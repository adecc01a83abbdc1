"""What in the mistakes on a page spoke for the wrong answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import as_float32
from headstart.experiments.data.pictures import Pictures
from headstart.experiments.explain.evidence import evidence, is_exact
from headstart.experiments.explain.overlay import tinted
from headstart.features.encoders.pooled_map import open_with_pooled_map
from headstart.features.images.reader import Pixels
from headstart.features.images.watch import picture_seconds
from headstart.pipeline.errors import HeadstartError

from .subject import Subject


def overlays_of(
    subject: Subject, pictures: Pictures, shown: NDArray[np.int64], report: Callable[[str], None]
) -> list[Pixels | None] | None:
    """A picture as the encoder sees it of each position, None where it cannot be read again; None if there are no such maps.

    Then `report` is told why.
    """
    try:
        encoder = open_with_pooled_map(subject.experiment.encoder, picture_seconds())
    except HeadstartError as error:
        report(f"mistakes are shown without what spoke for them: {error}")
        return None
    spec, data = encoder.spec, subject.data.data
    assert spec.spatial is not None
    rows = as_float32(data.source.take(shown))
    if data.auxiliary is not None:
        rows = np.concatenate([rows, data.auxiliary[shown]], axis=1)
    made: list[Pixels | None] = []
    try:
        taken = pictures.as_encoded(shown, replace(spec.transform, device_decode=False))
        for position, row, pixels in zip(shown.tolist(), rows, taken, strict=True):
            if pixels is None:
                made.append(None)
                continue
            asked = subject.answers.said[position] if subject.is_classes else 0
            maps = encoder.encode(pixels[None])[:, spec.embed_dim :].reshape(1, *spec.spatial.shape)
            made.append(tinted(pixels, evidence(subject.head, row[None], maps, np.array([asked]))[0]))
    finally:
        encoder.close()
    return made


def overlay_words(subject: Subject) -> str:
    """How to read them."""
    of = "the answer" if subject.is_classes else f"a larger {subject.head.names[0]}"
    sure = "" if is_exact(subject.head) else " (its slope there: the head has hidden layers)"
    return f"in orange what in it spoke for {of}{sure}, as coarse as the encoder's last feature map"
