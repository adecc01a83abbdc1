"""Masks that say the class of each pixel: files of numbers (grey or palette, 8 or 16 bits), or of colours with a list of them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable, reason_of

from .decode import ImageError, open_image, opened_file, require_few_bytes

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_STRIP_PIXELS = 1 << 20


@dataclass(frozen=True)
class Palette:
    """Colours of classes, in the order of their numbers; `void` are colours of pixels that count nowhere."""

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    void: tuple[tuple[int, int, int], ...] = ()

    def numbers(self, pixels: NDArray[np.uint8], void: int) -> NDArray[np.int64]:
        """(h, w) number of each pixel's class, `void` for void, -1 for a colour that is not listed. Args: pixels: (h, w, 3)."""
        packed = _packed(pixels)
        result = np.full(packed.shape, -1, np.int64)
        for number, colour in enumerate(self.colours):
            result[packed == _packed(np.array(colour, np.uint8))] = number
        for colour in self.void:
            result[packed == _packed(np.array(colour, np.uint8))] = void
        return result


def _packed(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    wide = pixels.astype(np.int64)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def read_palette(path: Path) -> Palette:
    """A text file with a line a class, `R G B name`, in the order of their numbers; of the name `void` may be several.

    Raises: HeadstartError naming the line that is none.
    """
    names: list[str] = []
    colours: list[tuple[int, int, int]] = []
    void: list[tuple[int, int, int]] = []
    try:
        lines = reading.read_given(path, reading.GRID_BYTES).decode().splitlines()
    except (OSError, ValueError, reading.UnreadableError) as error:
        raise HeadstartError(
            f"{path} cannot be read: {reason_of(error)}. Give a text file with lines such as '128 0 0 car'"
        ) from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        red, green, blue, name = [*line.replace(",", " ").split(maxsplit=3), "", "", "", ""][:4]
        if not all(part.isdecimal() and int(part) <= 255 for part in (red, green, blue)) or not name:
            raise HeadstartError(f"{path}, line {number}: {line[:60]!r} is no colour of a class. Write it as '128 0 0 car'")
        colour = (int(red), int(green), int(blue))
        if colour in (*colours, *void):
            raise HeadstartError(f"{path}, line {number}: the colour {red} {green} {blue} stands twice. Leave one of them out")
        if name.strip() == "void":
            void.append(colour)
        else:
            names.append(name.strip())
            colours.append(colour)
    if not names:
        raise HeadstartError(f"{path} lists no class. Write a line for each: '128 0 0 car'")
    return Palette(tuple(names), tuple(colours), tuple(void))


class MaskFile(NamedTuple):
    """Where an image's mask lies, whether it is there or not.

    Attributes:
        root: the folder of the data, or that of the masks; what leads out of it is not read.
        path: relative to it; '' where a table names no mask.
    """

    root: Path
    path: str


def mask_files(paths: Sequence[str], columns: Mapping[str, Sequence[str]], root: Path, place: str) -> list[MaskFile]:
    """Where the mask of each image lies.

    Args:
        paths: of the images, relative to `root`.
        columns: of their table, a value an image each.
        place: one of these columns, with paths from `root`, or a folder of masks with the stems of the images.

    Raises: HeadstartError if it is neither, the folder is empty, or two files of it are masks of one image.
    """
    if place in columns:
        return [MaskFile(root, _below(root, value)) for value in columns[place]]
    folder = Path(place)
    if not place or not folder.is_dir():
        there = ", ".join(map(printable, columns)) or "none"
        raise HeadstartError(
            f"--masks {printable(place) or 'is missing'}: neither a folder nor a column of the table (there are: {there}). "
            "Give the folder of masks with the stems of the images, or such a column"
        )
    by_stem: dict[str, list[PurePath]] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.name.startswith("."):
            inside = file.relative_to(folder)
            by_stem.setdefault(inside.with_suffix("").as_posix(), []).append(inside)
    if not by_stem:
        raise HeadstartError(f"--masks {printable(place)} holds no file. Give the folder of masks with the stems of the images")
    doubled = next((files for files in by_stem.values() if len(files) > 1), None)
    if doubled:
        raise HeadstartError(f"{folder / doubled[0]} and {doubled[1].name} are masks of one image. Remove one of them")
    stems = [PurePosixPath(path).with_suffix("").as_posix() for path in paths]
    folder = folder.absolute()
    return [MaskFile(folder, by_stem.get(stem, [PurePosixPath(f"{stem}.png")])[0].as_posix()) for stem in stems]


def patch_mask_files(masks: Sequence[str], root: Path, masks_root: str) -> list[MaskFile]:
    """Where the masks lie that a list of patches names.

    Args:
        masks: paths from `root`, the folder of the data, or absolute ones; '' for none.
        masks_root: the folder of masks that was given when patches were cut; '' if they were a column's.
    """
    folder = Path(masks_root)
    return [
        MaskFile(folder, path.relative_to(folder).as_posix())
        if masks_root and mask and (path := root / mask).is_relative_to(folder)
        else MaskFile(root, mask)
        for mask in masks
    ]


def _below(root: Path, value: str) -> str:
    """`value` of a table from `root`, also where it is an absolute path below it."""
    path = Path(value)
    return path.relative_to(root).as_posix() if value and path.is_relative_to(root) else value


def read_mask(mask: MaskFile, allow_symlinks: bool, palette: Palette | None = None, void: int = 255) -> NDArray[np.integer[Any]]:
    """(h, w) number of each pixel: its value, index in the image's palette, or place of its colour in `palette` (-1: not listed).

    They are of the type that the file has, a byte or two each; four where colours are listed. At most `decode.MAX_PIXELS` are
    read: a header that claims more is refused before any memory is taken.

    Args: allow_symlinks: let links lead out of the mask's folder, as those of images.

    Raises: ImageError, also of the code not_a_mask for colours without a list; SourceGoneError as `read_file`.
    """
    with opened_file(mask.root, mask.path, allow_symlinks) as file:
        require_few_bytes(os.fstat(file.fileno()))
        image = open_image(file)
        if palette is None and image.mode not in _INDEX_MODES:
            raise ImageError("not_a_mask", f"it is {image.mode}, expected one number a pixel. List its colours: --palette FILE")
        try:
            image.load()
            return _numbers(image, palette, void)
        except MemoryError:
            raise ImageError("too_large", f"{image.width} x {image.height} pixels do not fit into memory") from None
        except Exception as error:  # Pillow raises anything
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's, which `opened_file` explains
            raise ImageError("truncated", f"{type(error).__name__}: {reason_of(error)}") from None


def _numbers(image: "PillowImage", palette: Palette | None, void: int) -> NDArray[np.integer[Any]]:
    numbers: NDArray[np.integer[Any]] | None = None
    for rows in strips((image.height, image.width)):
        part = image.crop((0, rows.start, image.width, rows.stop))
        if palette is None:
            values = np.asarray(part)
            values = values.astype(np.uint8) if values.dtype == np.bool_ else values
        else:
            values = palette.numbers(np.asarray(part.convert("RGB")), void).astype(np.int32)
        if numbers is None:
            numbers = np.empty((image.height, image.width), values.dtype)
        numbers[rows] = values
    assert numbers is not None
    return numbers


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of a mask, in order, as many at a time as have about a million pixels: what is made of them takes little memory."""
    height, width = shape
    step = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))
