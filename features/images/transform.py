"""The geometry of timm's evaluation pipeline, in Pillow alone: scale, crop, pad. Normalization belongs to the encoder."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image as PillowImage

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CROP_MODES = ("center", "squash", "border")
_LATER = ("fast_decode", "device_decode", "whole_range", "exif_rotate", "deep_colour")
_MOST_PIXELS = 2**24  # that an encoder sees; a job holds 64 times as many
_LONG = 64  # beyond so many times the kept pixels, the scaled image is never made as a whole
_PASS_PIXELS = 2**27  # what one pass of scaling may hold


@dataclass(frozen=True)
class Transform:
    """What timm's evaluation pipeline does, as data.

    Attributes:
        image_size: (height, width) of the result.
        interpolation: as timm names it: bicubic, bilinear, lanczos, hamming, box, nearest.
        crop_pct: result size / size that the image is scaled to.
        crop_mode: center (scale the shorter side, crop), squash (ignore the aspect ratio) or border (scale the longer side, pad).
        mean, std: of the channels, in 0..1; applied by the encoder.
        fast_decode: let the JPEG decoder shrink large photos, to no less than twice what they are scaled to.
        device_decode: decode and scale JPEGs on a GPU.
        whole_range: a range beyond 8 bits is scaled and transparency composited on white, see `modes`; without it, Pillow clips
            one and drops the other.
        exif_rotate: turn images as their EXIF orientation says, as viewers show them.
        deep_colour: with `whole_range`, colours of 16 bits that use at most 14, and fractions up to 2, are spread as well.
    """

    image_size: tuple[int, int]
    interpolation: str
    crop_pct: float
    crop_mode: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fast_decode: bool = False
    device_decode: bool = False
    whole_range: bool = False
    exif_rotate: bool = False
    deep_colour: bool = False

    def facts(self) -> dict[str, Any]:
        """What `parse_transform` reads, and what fingerprints are made of."""
        facts = asdict(self)
        for later in _LATER:  # what was fingerprinted without them keeps its fingerprint
            if not facts[later]:
                del facts[later]
        return facts


def parse_transform(facts: Mapping[str, Any]) -> Transform:
    """The Transform that `Transform.facts` and JSON wrote down. Raises: KeyError, TypeError or ValueError if it is none."""
    height, width = map(int, facts["image_size"])
    mean, std = ((float(r), float(g), float(b)) for r, g, b in (facts["mean"], facts["std"]))
    crop_pct = float(facts["crop_pct"])
    interpolation, crop_mode = str(facts["interpolation"]), str(facts["crop_mode"])
    if height * width > _MOST_PIXELS:
        raise ValueError(f"image_size is {height} x {width}, at most {_MOST_PIXELS:,} pixels are encoded")
    if min(height, width) < 1 or not crop_pct > 0 or min(std) <= 0:
        raise ValueError("a size, crop_pct or std is not positive")
    if interpolation not in INTERPOLATIONS or crop_mode not in CROP_MODES:
        raise ValueError(f"interpolation '{interpolation}' or crop_mode '{crop_mode}' is unknown")
    later = (facts.get(name, False) is True for name in _LATER)
    return Transform((height, width), interpolation, crop_pct, crop_mode, mean, std, *later)


@dataclass(frozen=True)
class Geometry:
    """Where the pixels of the result come from.

    Attributes:
        scaled: (height, width) that the image is scaled to.
        top, left: of the part of it that is kept.
        rows, columns: of that part.
        above, before: padding before that part in the result.
        is_strip: whether the scaled image would be so much larger than the kept part that it is not made as a whole.
    """

    scaled: tuple[int, int]
    top: int
    left: int
    rows: int
    columns: int
    above: int
    before: int

    @property
    def is_strip(self) -> bool:
        return self.scaled[0] * self.scaled[1] > _LONG * self.rows * self.columns


def geometry_of(height: int, width: int, transform: Transform) -> Geometry:
    """Where `transform` has the pixels of an image of this size."""
    scaled = _scaled(height, width, transform)
    (top, rows, above), (left, columns, before) = map(_window, scaled, transform.image_size)
    return Geometry(scaled, top, left, rows, columns, above, before)


def fit(image: "PillowImage.Image", transform: Transform, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """`image` (mode RGB) scaled and cropped as timm's evaluation transform does it: (height, width, 3), uint8.

    The same bits as timm; for a strip such as 1 x 10,000, which timm scales to 256 x 2,560,000 first, the same within rounding.
    `shape` is the (height, width) that `image` had before `draft` shrank it: half a pixel must not move the crop.
    """
    geometry = geometry_of(*(shape or (image.height, image.width)), transform)
    return padded(_resized(image, geometry, transform.interpolation), geometry, transform)


def padded(kept: NDArray[np.uint8], geometry: Geometry, transform: Transform) -> NDArray[np.uint8]:
    """The result (height, width, 3), of its kept part (rows, columns, 3)."""
    if kept.shape[:2] == transform.image_size:
        return kept
    fill = [round(255 * value) for value in transform.mean] if transform.crop_mode == "border" else [0, 0, 0]
    canvas = np.full((*transform.image_size, 3), fill, dtype=np.uint8)
    canvas[geometry.above : geometry.above + geometry.rows, geometry.before : geometry.before + geometry.columns] = kept
    return canvas


def draft(image: "PillowImage.Image", transform: Transform) -> None:
    """Has a JPEG decoded at 1/2, 1/4 or 1/8, to no less than twice what `fit` scales it to; other images stay as they are."""
    height, width = _scaled(image.height, image.width, transform)
    image.draft(None, (2 * width, 2 * height))


def _scaled(height: int, width: int, transform: Transform) -> tuple[int, int]:
    # floor, int and round are timm's and torchvision's own choices; each decides whole rows.
    target_height, target_width = (math.floor(edge / transform.crop_pct) for edge in transform.image_size)
    if transform.crop_mode == "squash":
        return target_height, target_width
    if transform.crop_mode != "border" and target_height == target_width:
        longer = int(target_height * max(height, width) / min(height, width))
        return (target_height, longer) if height <= width else (longer, target_height)
    choose = max if transform.crop_mode == "border" else min
    ratio = choose(height / target_height, width / target_width)
    return max(1, round(height / ratio)), max(1, round(width / ratio))  # timm fails where this would be 0


def _window(scaled: int, wanted: int) -> tuple[int, int, int]:
    """Along one axis: where the kept part starts in the scaled image, its length, and the padding before it."""
    if scaled <= wanted:
        return 0, scaled, (wanted - scaled) // 2
    return round((scaled - wanted) / 2), wanted, 0


def _resized(image: "PillowImage.Image", geometry: Geometry, interpolation: str) -> NDArray[np.uint8]:
    """The kept part of `image` scaled."""
    from PIL import Image

    resample = Image.Resampling[interpolation.upper()]
    size, wanted = (geometry.scaled[1], geometry.scaled[0]), (geometry.columns, geometry.rows)  # as Pillow has it: width, height
    window = (geometry.left, geometry.top, geometry.left + geometry.columns, geometry.top + geometry.rows)
    # Scaling the kept part alone would be faster but not the same: from the two sizes Pillow chooses which axis goes first,
    # and values are clipped in between, so single pixels differ by up to 40 grey levels (Pillow 13).
    if not geometry.is_strip:
        if size[0] * image.height > _PASS_PIXELS:  # a strip that Pillow before 13 would first make 256 times wider
            image = image.resize((image.width, size[1]), resample)
        if size[0] < image.width and 0 < image.height - size[1] <= 2 * (image.width - size[0]):
            # Here every Pillow scales the width first: up to 12 always, 13 unless the height loses more than twice as many
            # pixels. Apart, each pass is the same sums, and the second need not be done for columns that are cut off. The first
            # must see all rows: see above.
            image, window = _cut(image.resize((size[0], image.height), resample), window)
            size = (wanted[0], size[1])
        return np.asarray(image.resize(size, resample).crop(window))
    (left, right, x0, x1), (top, bottom, y0, y1) = (
        _span(length, new, window[axis], window[axis + 2])
        for axis, (length, new) in enumerate(zip(image.size, size, strict=True))
    )
    return np.asarray(image.crop((left, top, right, bottom)).resize(wanted, resample, box=(x0, y0, x1, y1)))


def _cut(image: "PillowImage.Image", window: tuple[int, int, int, int]) -> tuple["PillowImage.Image", tuple[int, int, int, int]]:
    """`image` without the columns outside of `window`, and `window` in what is left."""
    left, top, right, bottom = window
    return image.crop((left, 0, right, image.height)), (0, top, right - left, bottom)


def _span(length: int, new: int, start: int, stop: int) -> tuple[int, int, float, float]:
    """Along one axis: the source pixels that are needed (half-open), and the box to resize, relative to their first."""
    scale = length / new
    margin = 3 * max(scale, 1.0) + 2  # Lanczos reaches three (scaled) pixels
    first = max(0, math.floor(start * scale - margin))
    last = min(length, math.ceil(stop * scale + margin))
    # Pillow keeps a box in float32: relative to a nearby pixel it stays exact enough in an image of any length.
    return first, last, start * scale - first, min(stop * scale - first, float(last - first))
