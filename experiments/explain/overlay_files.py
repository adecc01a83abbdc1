"""Pictures of what speaks for predictions, as files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.heads.trained_head import TrainedHead
from headstart.features.extraction.new_images import EncodedImage, NewImage
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.output_files import write_output
from headstart.pipeline.text import printable

from .evidence import evidence
from .overlay import tinted


@dataclass(frozen=True)
class OverlayFiles:
    """Where overlays go: `<folder>/<path of the image>.png`, below it as the image lies below its place."""

    folder: Path
    head: TrainedHead

    def require_apart(self, images: Sequence[NewImage]) -> None:
        """Raises: HeadstartError if two images would have one overlay."""
        seen: dict[Path, NewImage] = {}
        for image in images:
            other = seen.setdefault(self._path(image), image)
            if other is not image and other.name != image.name:
                both = f"{printable(other.name)} and {printable(image.name)}"
                raise HeadstartError(f"{both} would both be explained in {printable(str(self._path(image)))}. Predict them apart")

    def write(self, encoded: EncodedImage, row: NDArray[Any], asked: int) -> Path:
        """Writes what speaks for logit or number `asked` of an image whose row (inputs,) the head took.

        Raises: HeadstartError if another file lies there, or it cannot be written.
        """
        assert encoded.pixels is not None
        assert encoded.map is not None
        seen = evidence(self.head, row[None], encoded.map[None], np.array([asked]))[0]
        path, buffer = self._path(encoded.image), io.BytesIO()
        from PIL import Image

        Image.fromarray(tinted(encoded.pixels, seen)).save(buffer, "PNG")
        with environment_faults(f"cannot write {printable(str(path))}"):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_output(path, buffer.getvalue(), remedy="Move it away, or choose another --explain")
        return path

    def _path(self, image: NewImage) -> Path:
        return self.folder / f"{image.path}.png"
