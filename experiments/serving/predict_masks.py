"""A trained segmentation head on new images: a mask of each, of the whole as in training, or window by window."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.encoders.runtime import Encoder, open_encoder
from headstart.features.extraction.new_images import NewImage, find_new_images, read_new_file
from headstart.features.images.decode import ImageError, open_rgb
from headstart.features.images.transform import fit
from headstart.features.images.watch import picture_seconds, read_within
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.output_files import write_output
from headstart.pipeline.workspace import Workspace

from .recipe_run import Trained
from .stitching import stitch, window_starts

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_RECIPE = "segment"
_ROWS = 64  # of the mask that are made at once
_COLOURS = 256


@dataclass(frozen=True)
class PredictedMask:
    """A mask that was written to `path`, `size` (height, width), `shares` of its pixels by class; or why there is none."""

    name: str
    path: Path | None = None
    size: tuple[int, int] = (0, 0)
    shares: tuple[tuple[str, float], ...] = ()
    error: str = ""


def predict_masks(
    workspace: Workspace,
    trained: Trained,
    places: Sequence[Path],
    output: Path,
    overlap: int | None = None,
    overlay: bool = False,
    device: str = "cpu",
    allow_symlinks: bool = False,
) -> Iterator[PredictedMask]:
    """Writes a PNG of each image into `output`, below it as the image lies below its place: in each pixel the value of its class.

    Args:
        overlap: None: the whole image is scaled to the encoder's size, as in training; else windows of that size at the image's
            own resolution, which overlap by so many pixels (rounded up to the map's stride) and are stitched without seams.
        overlay: also `<name>_overlay.png`, the classes' colours over the image.

    An image that cannot be read, or whose mask would replace another file, costs its own row.
    Raises: HeadstartError if the run is no segmentation, its encoder is gone, or the overlap leaves no step.
    """
    import torch

    about = trained.about
    if trained.experiment.recipe != _RECIPE:
        raise HeadstartError(
            f"the recipe {trained.experiment.recipe} makes no masks. Name a run of the recipe {_RECIPE}: --run N"
        )
    encoder = open_encoder(workspace.features / about.encoder, device, picture_seconds())
    try:
        spec = encoder.spec
        assert spec.spatial is not None
        _, rows, columns = spec.spatial.shape
        height, width = spec.transform.image_size
        if overlap is not None and (height % rows or width % columns or height // rows != width // columns):
            raise HeadstartError(
                f"maps of {rows} x {columns} places do not divide {height} x {width} pixels evenly: no windows. "
                "Leave --overlap out, or keep maps of an --image-size that the stride divides"
            )
        if overlap is not None:
            window_starts(1, min(rows, columns), -(-overlap // (height // rows)))
        written: set[Path] = set()
        with torch.inference_mode():
            for image in find_new_images(places, allow_symlinks):
                target = output / Path(image.path).with_suffix(".png")
                try:
                    if target in written:
                        raise HeadstartError(f"{target} is the mask of another image already. Predict them apart")
                    pixels = _read(image)
                    mask = _mask(trained, encoder, pixels, overlap)
                    _write(target, mask, pixels, about.pixel_values, overlay)
                except (ImageError, HeadstartError) as error:
                    yield PredictedMask(image.name, error=str(error))
                    continue
                written.add(target)
                counts = np.bincount(mask.ravel(), minlength=len(about.classes)) / mask.size
                shares = tuple((name, float(share)) for name, share in zip(about.classes, counts, strict=True) if share)
                yield PredictedMask(image.name, target, (mask.shape[0], mask.shape[1]), shares)
    finally:
        encoder.close()


def _read(image: NewImage) -> PillowImage:
    return read_within(lambda: open_rgb(read_new_file(image)))


def _mask(trained: Trained, encoder: Encoder, image: PillowImage, overlap: int | None) -> NDArray[np.uint8]:
    """(H, W) code of each pixel's class."""
    spec = encoder.spec
    assert spec.spatial is not None
    if overlap is None:
        logits = _logits(trained, encoder, fit(image, spec.transform))
        return enlarged(logits, (image.height, image.width), (logits.shape[1] / image.height, logits.shape[2] / image.width))
    _, rows, columns = spec.spatial.shape
    stride = spec.transform.image_size[0] // rows
    pixels = np.asarray(image)
    size = -(-image.height // stride), -(-image.width // stride)

    def predict(top: int, left: int) -> NDArray[np.float32]:
        seen = pixels[top * stride : (top + rows) * stride, left * stride : (left + columns) * stride]
        short = [edge - there for edge, there in zip(spec.transform.image_size, seen.shape[:2], strict=True)]
        return _logits(trained, encoder, np.pad(seen, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge"))

    strips = stitch(size, (rows, columns), -(-overlap // stride), predict)
    field = np.concatenate([strip.astype(np.float32) for _, strip in strips], axis=1)
    return enlarged(field, (image.height, image.width), (1 / stride, 1 / stride))


def _logits(trained: Trained, encoder: Encoder, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    import torch

    spec = encoder.spec
    assert spec.spatial is not None
    # Rounded as a shard is: else the same image would get two answers.
    with np.errstate(over="ignore"):
        maps = encoder.encode(pixels[None])[:, spec.embed_dim :].astype(np.float16).astype(np.float32)
    if not np.isfinite(maps).all():
        raise ImageError("non_finite", "the encoder gave NaN or a value beyond float16 (65,504)")
    said: NDArray[np.float32] = trained.model(torch.from_numpy(maps.reshape(1, *spec.spatial.shape)))[0].float().numpy()
    return said


def enlarged(field: NDArray[np.float32], size: tuple[int, int], scale: tuple[float, float]) -> NDArray[np.uint8]:
    """(H, W) the strongest class of each pixel of a field (k, h, w), bilinear between places, some rows at a time.

    Args: scale: places a pixel, down and across; as torch's interpolate without align_corners.
    """
    mask = np.empty(size, np.uint8)
    lower, upper, share = _between(size[1], field.shape[2], scale[1])
    for start in range(0, size[0], _ROWS):
        stop = min(start + _ROWS, size[0])
        above, below, part = (one[start:stop] for one in _between(size[0], field.shape[1], scale[0]))
        rows = field[:, above] * (1 - part)[:, None] + field[:, below] * part[:, None]
        mask[start:stop] = (rows[..., lower] * (1 - share) + rows[..., upper] * share).argmax(0)
    return mask


def _between(pixels: int, places: int, scale: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    at = np.clip((np.arange(pixels) + 0.5) * scale - 0.5, 0, places - 1)
    lower = at.astype(np.int64)
    return lower, np.minimum(lower + 1, places - 1), (at - lower).astype(np.float32)


def _write(target: Path, mask: NDArray[np.uint8], image: PillowImage, values: Sequence[int], overlay: bool) -> None:
    from PIL import Image

    from headstart.experiments.training.judging.mask_metrics import class_colours

    colours = class_colours(_COLOURS)
    numbers = np.array(values if max(values) < _COLOURS else range(len(values)), np.uint8)[mask]
    indexed = Image.fromarray(numbers)
    indexed.putpalette(colours.tobytes())
    pictures: list[tuple[Path, Any]] = [(target, indexed)]
    if overlay:
        over = Image.blend(image, Image.fromarray(colours[numbers]), 0.6)
        pictures.append((target.with_name(f"{target.stem}_overlay.png"), over))
    for path, picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        with environment_faults(f"cannot write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_output(path, buffer.getvalue(), remedy="Move it away, or choose another --masks-to")
