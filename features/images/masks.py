"""Masks that say the class of each pixel: files of numbers (grey or palette, 8 or 16 bits), or of colours with a list of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable, reason_of

from .decode import ImageError, require_decodable

_MASK_BYTES = 1 << 30
_INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_CHANNELS = 3


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


def mask_files(paths: Sequence[str], columns: Mapping[str, Sequence[str]], root: Path, place: str) -> list[Path]:
    """The file of each image's mask, whether it is there or not; Path() where a table names none.

    Args:
        paths: of the images, relative to `root`.
        columns: of their table, a value an image each.
        place: one of these columns, with paths from `root`, or a folder of masks with the stems of the images.

    Raises: HeadstartError if it is neither, or two files of the folder are masks of one image.
    """
    if place in columns:
        return [root / value if value else Path() for value in columns[place]]
    folder = Path(place)
    if not place or not folder.is_dir():
        there = ", ".join(map(printable, columns)) or "none"
        raise HeadstartError(
            f"--masks {printable(place) or 'is missing'}: neither a folder nor a column of the table (there are: {there}). "
            "Give the folder of masks with the stems of the images, or such a column"
        )
    by_stem: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.name.startswith("."):
            by_stem.setdefault(file.relative_to(folder).with_suffix("").as_posix(), []).append(file)
    doubled = next((files for files in by_stem.values() if len(files) > 1), None)
    if doubled:
        raise HeadstartError(f"{doubled[0]} and {doubled[1].name} are masks of one image. Remove one of them")
    stems = [PurePosixPath(path).with_suffix("").as_posix() for path in paths]
    return [by_stem.get(stem, [folder / f"{stem}.png"])[0] for stem in stems]


def read_mask(path: Path, palette: Palette | None = None, void: int = 255) -> NDArray[np.int64]:
    """(h, w) number of each pixel: its value, index in the image's palette, or place of its colour in `palette` (-1: not listed).

    Raises: ImageError; its code is missing, not_an_image, truncated or too_large, or not_a_mask for colours without a list.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with reading.opened_given(path, _MASK_BYTES) as file, Image.open(file) as image:
            require_decodable(image.width, image.height)
            if palette is not None:
                return palette.numbers(np.asarray(image.convert("RGB")), void)
            if image.mode not in _INDEX_MODES:
                raise ImageError(
                    "not_a_mask", f"it is {image.mode}, expected one number a pixel. List its colours: --palette FILE"
                )
            return np.asarray(image).astype(np.int64)
    except FileNotFoundError:
        raise ImageError("missing", "there is no such file") from None
    except UnidentifiedImageError:
        raise ImageError("not_an_image", "it is no image") from None
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", reason_of(error)) from None
    except ImageError:
        raise
    except (OSError, ValueError, SyntaxError, HeadstartError) as error:
        raise ImageError("truncated", reason_of(error)) from None
