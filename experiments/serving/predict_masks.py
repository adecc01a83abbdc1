"""A trained segmentation head on new images: a mask of each, of the whole as in training, or window by window."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.training.state.kept_parts import KeptParts, NoParts, Parts
from headstart.features.encoders.map_compression import Projection
from headstart.features.encoders.runtime import Encoder, open_encoder
from headstart.features.encoders.spec import EncoderSpec, projection_of
from headstart.features.extraction.new_images import NewImage, find_new_images, opened_new_file, read_new_file
from headstart.features.images.bands import open_bands
from headstart.features.images.decode import ImageError, open_rgb
from headstart.features.images.stitching import stitch
from headstart.features.images.transform import fit
from headstart.features.images.watch import picture_seconds, read_within
from headstart.features.images.windows import window_starts
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.output_files import write_output
from headstart.pipeline.workspace import Workspace

from .polygons import polygons_of, require_rasterio
from .recipe_run import Trained

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_RECIPE = "segment"
STRIPS = "strips"  # folder in an experiment's, of large images whose masks are under way
_NUMBERS = 2**19  # that are made at once of a mask: 2 MB each of what leads to them
_COLOURS = 256
_REMEDY = "Move it away, or choose another --masks-to"


@dataclass(frozen=True)
class MaskRequest:
    """Which files are wanted of each image.

    Attributes:
        output: folder; masks lie below it as the images lie below their place.
        overlap: None: as in training: the whole image is scaled to the encoder's size, or windows overlap as patches did; else
            windows of that size at the image's own resolution, which overlap by so many pixels (rounded up to the map's stride)
            and are stitched without seams. Of a large TIFF in tiles or strips a row of windows is read at a time; memory is that
            of the mask and of that row, and the same call after a kill goes on with that row.
        overlay: also `<name>_overlay.png`, the classes' colours over the image.
        polygons: also `<name>.geojson`, the regions of each class, see `polygons.polygons_of`.
        probabilities: also `<name>.npy`, float16 (classes, rows, columns) of the places of the map, which are some pixels apart:
            at every pixel they would take gigabytes of a large image.
    """

    output: Path
    overlap: int | None = None
    overlay: bool = False
    polygons: bool = False
    probabilities: bool = False


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
    request: MaskRequest,
    device: str = "cpu",
    allow_symlinks: bool = False,
) -> Iterator[PredictedMask]:
    """Writes a PNG of each image: in each pixel the value of its class.

    An image that cannot be read, or whose mask would replace another file, costs its own row.
    Raises: HeadstartError if the run is no segmentation, its encoder is gone, the overlap leaves no step, or rasterio is missing.
    """
    import torch

    about, overlap = trained.about, request.overlap
    if overlap is None and "window" in about:  # it learned on patches
        overlap = int(about.window[1])
    if trained.experiment.recipe != _RECIPE:
        raise HeadstartError(
            f"the recipe {trained.experiment.recipe} makes no masks. Name a run of the recipe {_RECIPE}: --run N"
        )
    if request.polygons:
        require_rasterio()
    encoder = open_encoder(workspace.features / about.encoder, device, picture_seconds())
    try:
        spec = encoder.spec
        maps_of = MapsOf.of(workspace.features / about.encoder, encoder)
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
                target = request.output / Path(image.path).with_suffix(".png")
                try:
                    if target in written:
                        raise HeadstartError(f"{target} is the mask of another image already. Predict them apart")
                    in_parts = overlap is not None and not request.overlay
                    with _seen(image, in_parts, spec.transform.exif_rotate) as seen:
                        parts = _parts(workspace, trained, image, overlap) if seen.image is None else NoParts()
                        fields: list[NDArray[np.float16]] = []
                        on_field = _keep_probabilities(fields) if request.probabilities else _ignore
                        strips = _strips(trained, maps_of, seen, overlap, parts, on_field)
                        numbers = _numbers(about.pixel_values)
                        mask, counts = _gathered(strips, (seen.height, seen.width), numbers)
                        _write(target, mask, seen.image if request.overlay else None)
                        names = dict(zip(numbers.tolist(), about.classes, strict=True))
                        _write_beside(target, request, mask, names, fields)
                        if isinstance(parts, KeptParts):
                            parts.clear()
                except (ImageError, HeadstartError) as error:
                    yield PredictedMask(image.name, error=str(error))
                    continue
                written.add(target)
                shares = tuple((name, count / mask.size) for name, count in zip(about.classes, counts, strict=True) if count)
                yield PredictedMask(image.name, target, (mask.shape[0], mask.shape[1]), shares)
    finally:
        encoder.close()


@dataclass(frozen=True)
class MapsOf:
    """From pixels of an image, or of a window of it, to the map that a head sees of them, as if it came out of a shard."""

    encoder: Encoder
    projection: Projection | None

    @classmethod
    def of(cls, folder: Path, encoder: Encoder) -> MapsOf:
        """Args: folder: of that encoder. Raises: HeadstartError if what it compresses maps by is damaged."""
        return cls(encoder, projection_of(folder, encoder.spec))

    @property
    def spec(self) -> EncoderSpec:
        return self.encoder.spec

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(1, channels, height, width). Raises: ImageError if the encoder makes no finite numbers of it."""
        spec = self.spec
        assert spec.spatial is not None
        # Rounded as a shard is: else the same image would get two answers.
        with np.errstate(over="ignore"):
            maps = self.encoder.encode(pixels[None])[:, spec.embed_dim :].astype(np.float16).reshape(1, *spec.spatial.shape)
        if not np.isfinite(maps).all():
            raise ImageError("non_finite", "the encoder gave NaN or a value beyond float16 (65,504)")
        seen = maps if self.projection is None else self.projection.restored(self.projection.compressed(maps))
        return seen.astype(np.float32)


@dataclass(frozen=True)
class _Seen:
    """An image that is segmented; `image` is None where only `rows(top, bottom)` of it are read at a time."""

    height: int
    width: int
    rows: Callable[[int, int], NDArray[np.uint8]]
    image: PillowImage | None = None


@contextlib.contextmanager
def _seen(image: NewImage, in_parts: bool, is_turned: bool) -> Iterator[_Seen]:
    """Args: in_parts: if it is large and can be read so. is_turned: as its EXIF orientation says."""
    if in_parts and not is_turned:
        with opened_new_file(image) as file:
            bands = read_within(lambda: open_bands(file))
            if bands is not None:
                rows = bands.rows
                yield _Seen(bands.height, bands.width, lambda top, bottom: read_within(lambda: rows(top, bottom)))
                return
    whole = read_within(lambda: open_rgb(read_new_file(image), is_turned))
    yield _Seen(whole.height, whole.width, lambda top, bottom: np.asarray(whole)[top:bottom], whole)


def _parts(workspace: Workspace, trained: Trained, image: NewImage, overlap: int | None) -> KeptParts:
    """Where strips of a large image are kept until its mask is there: who is killed on the way need not begin anew."""
    identity = f"{image.root}\0{image.path}\0{image.size}\0{image.mtime_ns}\0{overlap}".encode("utf-8", "surrogateescape")
    folder = trained.experiment.folder / STRIPS / hashlib.sha256(identity).hexdigest()[:16]
    return KeptParts(folder, workspace.files)


def _ignore(strip: NDArray[np.float32]) -> None:
    """Where nobody asks for probabilities."""


def _keep_probabilities(fields: list[NDArray[np.float16]]) -> Callable[[NDArray[np.float32]], None]:
    """A function that adds to `fields` what a strip (k, n, w) of numbers says of each class, as parts of one."""

    def keep(strip: NDArray[np.float32]) -> None:
        powers = np.exp(strip - strip.max(axis=0))
        fields.append((powers / powers.sum(axis=0)).astype(np.float16))

    return keep


def _npy(array: NDArray[np.float16]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _strips(
    trained: Trained,
    maps_of: MapsOf,
    seen: _Seen,
    overlap: int | None,
    parts: Parts,
    on_field: Callable[[NDArray[np.float32]], None] = _ignore,
) -> Iterator[NDArray[np.uint8]]:
    """The code of each pixel's class, some rows (n, W) after the other.

    Args: on_field: called with each strip (k, n, w) of what the head says at the places of the map, from top to bottom.
    """
    spec = maps_of.spec
    assert spec.spatial is not None
    size = seen.height, seen.width
    if overlap is None:
        assert seen.image is not None
        logits = _logits(trained, maps_of, fit(seen.image, spec.transform))
        on_field(logits)
        yield from enlarged([logits], logits.shape[1], size, (logits.shape[1] / size[0], logits.shape[2] / size[1]))
        return
    _, rows, columns = spec.spatial.shape
    stride = spec.transform.image_size[0] // rows
    band: tuple[int, NDArray[np.uint8]] | None = None

    def predict(top: int, left: int) -> NDArray[np.float32]:
        nonlocal band
        if band is None or band[0] != top:  # windows come row by row
            band = top, seen.rows(top * stride, min((top + rows) * stride, seen.height))
        part = band[1][:, left * stride : (left + columns) * stride]
        short = [edge - there for edge, there in zip(spec.transform.image_size, part.shape[:2], strict=True)]
        return _logits(trained, maps_of, np.pad(part, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge"))

    places = -(-seen.height // stride), -(-seen.width // stride)
    steps = -(-overlap // stride)

    def said(strip: NDArray[np.float64]) -> NDArray[np.float32]:
        numbers = strip.astype(np.float32)
        on_field(numbers)
        return numbers

    def fields() -> Iterator[NDArray[np.float32]]:
        kept = 0
        while (strip := parts.load(str(kept))) is not None:
            kept += 1
            yield said(strip)
        for number, (_, strip) in enumerate(stitch(places, (rows, columns), steps, predict, kept), kept):
            parts.keep(str(number), strip)
            yield said(strip)

    yield from enlarged(fields(), places[0], size, (1 / stride, 1 / stride))


def _numbers(values: Sequence[int]) -> NDArray[np.uint8]:
    """What stands in a mask for each class: its value in the masks of the data, or its number where one is too large."""
    return np.array(values if max(values) < _COLOURS else range(len(values)), np.uint8)


def _gathered(
    strips: Iterable[NDArray[np.uint8]], size: tuple[int, int], numbers: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], list[int]]:
    """The mask (H, W) in the values that files hold, and how many pixels each class has."""
    mask, counts, top = np.empty(size, np.uint8), np.zeros(len(numbers), np.int64), 0
    for strip in strips:
        counts += np.bincount(strip.ravel(), minlength=len(numbers))
        mask[top : top + len(strip)] = numbers[strip]
        top += len(strip)
    return mask, counts.tolist()


def _logits(trained: Trained, maps_of: MapsOf, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    import torch

    said: NDArray[np.float32] = trained.model(torch.from_numpy(maps_of(pixels)))[0].float().numpy()
    return said


def enlarged(
    strips: Iterable[NDArray[np.float32]], places: int, size: tuple[int, int], scale: tuple[float, float]
) -> Iterator[NDArray[np.uint8]]:
    """The strongest class of each pixel of a field, bilinear between its places, some rows (n, W) after the other.

    Args:
        strips: (k, n, w) of the field, from top to bottom, `places` rows in all; no more of them are held than are needed.
        size: (H, W) in pixels.
        scale: places a pixel, down and across; as torch's interpolate without align_corners.
    """
    above, below, part = _between(size[0], places, scale[0])
    field, first, done = np.empty((0, 0, 0), np.float32), 0, 0
    for strip in strips:
        lower, upper, share = _between(size[1], strip.shape[2], scale[1])
        field = np.concatenate([field, strip], axis=1) if field.size else strip
        there = int(np.searchsorted(below, first + field.shape[1]))  # rows of pixels that need no later strip
        at_once = max(1, _NUMBERS // (len(strip) * size[1]))
        for start in range(done, there, at_once):
            some = slice(start, min(start + at_once, there))
            rows = field[:, above[some] - first] * (1 - part[some])[:, None] + field[:, below[some] - first] * part[some][:, None]
            yield (rows[..., lower] * (1 - share) + rows[..., upper] * share).argmax(0).astype(np.uint8)
        done = there
        kept = min(int(above[done]) - first if done < size[0] else places, field.shape[1])
        field, first = field[:, kept:], first + kept


def _between(pixels: int, places: int, scale: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    at = np.clip((np.arange(pixels) + 0.5) * scale - 0.5, 0, places - 1)
    lower = at.astype(np.int64)
    return lower, np.minimum(lower + 1, places - 1), (at - lower).astype(np.float32)


def _write_beside(
    target: Path, request: MaskRequest, mask: NDArray[np.uint8], names: Mapping[int, str], fields: Sequence[NDArray[np.float16]]
) -> None:
    """What else is wanted. Args: names: of the numbers in the mask. fields: strips of probabilities."""
    if request.probabilities:
        write_output(target.with_suffix(".npy"), _npy(np.concatenate(fields, axis=1)), remedy=_REMEDY)
    if request.polygons:
        write_output(target.with_suffix(".geojson"), polygons_of(mask, dict(names)), remedy=_REMEDY)


def _write(target: Path, mask: NDArray[np.uint8], image: PillowImage | None) -> None:
    """The mask, and where `image` is given the colours of the classes over it."""
    from PIL import Image

    from headstart.experiments.training.judging.mask_metrics import class_colours

    colours = class_colours(_COLOURS)
    indexed = Image.fromarray(mask)
    indexed.putpalette(colours.tobytes())
    pictures: list[tuple[Path, Any]] = [(target, indexed)]
    if image is not None:
        over = Image.blend(image, Image.fromarray(colours[mask]), 0.6)
        pictures.append((target.with_name(f"{target.stem}_overlay.png"), over))
    for path, picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        with environment_faults(f"cannot write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_output(path, buffer.getvalue(), remedy=_REMEDY)
