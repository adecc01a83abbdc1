"""Feature maps of a data set with the mask of each image: found and looked at once, then rows to train a segmentation head on."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headstart.features.encoders.folder import chosen_encoder, encoder_folders
from headstart.features.encoders.spec import read_encoder
from headstart.features.images.decode import ImageError
from headstart.features.images.masks import Palette, read_mask
from headstart.features.images.reader import open_whole_reader
from headstart.features.sources.walk import IMAGE_FORMATS
from headstart.features.store.maps import FeatureMaps, open_maps
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, printable, verb
from headstart.pipeline.workspace import Workspace

from .batch import Batch
from .keys import Key
from .sets import Rows

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

VOID = 255  # code of a pixel that counts nowhere, whatever value it has in the files
_MOST_CLASSES = 254
_VALUES = 1 << 16
_AS_OF = re.compile(r"(?P<name>.+)@(?P<rows>\d+)\.(?P<revision>\d+)")
_SHOWN = 3


@dataclass(frozen=True)
class MaskOptions:
    """How masks are to be read.

    Attributes:
        place: a folder in which they lie as the images do, with the same stems, or a column of the table with their paths.
        void: value of pixels that count nowhere.
        classes: names of the values 0, 1, ...; () for the values that training masks have.
        palette: of masks in colours.
    """

    place: str
    void: int = 255
    classes: tuple[str, ...] = ()
    palette: Palette | None = None


@dataclass(frozen=True)
class Looked:
    """What one reading of a mask saw.

    Attributes:
        flaw: why it cannot be used, '' if it can.
        sha256: of its numbers, hex.
        counts: pixels of each value; -1 are colours that are not listed.
    """

    flaw: str
    sha256: str = ""
    counts: tuple[tuple[int, int], ...] = ()


class MaskedMaps:
    """Rows of one split: `maps` (n, c, h, w) float32, and codes of classes.

    To learn from: `target` (n, f h, f w) uint8, from the middle of each cell of a grid f = `fineness` times as fine.
    To be judged on: `mask`, each as it is, (H, W) uint8.
    """

    is_ready = True  # mapped: another process would read what this one reads

    def __init__(self, masked: Masked, items: NDArray[np.int64], fineness: int, flip: float) -> None:
        self._masked, self._items, self._fineness, self._flip = masked, items, fineness, flip

    def __len__(self) -> int:
        return len(self._items)

    @property
    def digest(self) -> str:
        masks = [self._masked.looked[item].sha256 for item in self._items.tolist()]
        facts = [self._masked.maps.digest, self._items.tolist(), masks, self._fineness, self._flip]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def batch(self, rows: Rows, key: Key | None) -> Batch:
        import torch

        items = self._items[rows]
        maps = torch.from_numpy(self._masked.maps.read(items)).float()
        masks = [self._masked.codes(int(item)) for item in items]
        if key is None:
            return Batch({"maps": maps, "mask": masks, "row": [int(row) for row in rows]})
        height, width = (edge * self._fineness for edge in maps.shape[2:])
        targets = torch.from_numpy(np.stack([at_cells(mask, height, width) for mask in masks]))
        for place, row in enumerate(rows.tolist()):
            if self._flip and key.of(row).numpy().random() < self._flip:
                maps[place], targets[place] = maps[place].flip(-1), targets[place].flip(-1)
        known = (targets != VOID).sum((1, 2))
        return Batch({"maps": maps, "target": targets}, weight=known.clamp(min=1).double())

    def image(self, row: int) -> PillowImage:
        """The image itself, RGB. Raises: ImageError if it is no longer as it was enqueued."""
        return self._masked.image(int(self._items[row]))

    def name(self, row: int) -> str:
        """Its path, for people."""
        return self._masked.name_of(int(self._items[row]))


def at_cells(mask: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(height, width): the pixel in the middle of each cell of a grid over the whole mask."""
    rows, columns = (((np.arange(n) + 0.5) * edge / n).astype(int) for n, edge in zip((height, width), mask.shape, strict=True))
    cells: NDArray[np.uint8] = mask[rows[:, None], columns[None]]
    return cells


@dataclass(frozen=True)
class Masked:
    """The images of a data set that have a map and a mask.

    Attributes:
        maps: of all images; positions in it are `items` (n,).
        encoder: name of the encoder's folder.
        name: by which the same rows are found again: `<data set>@<rows>.<revision>`.
        classes: names, by code.
        looked: by position in `maps`, what was seen of the mask.
        notes: what a reader of the numbers should know.
    """

    maps: FeatureMaps
    encoder: str
    name: str
    classes: tuple[str, ...]
    values: tuple[int, ...]
    items: NDArray[np.int64]
    looked: dict[int, Looked]
    options: MaskOptions
    files: dict[int, Path]
    notes: tuple[str, ...]

    def split(self, name: str, fineness: int, flip: float = 0.0) -> MaskedMaps:
        chosen = [item for item in self.items.tolist() if self.maps.columns.split[int(self.maps.index[item])] == name]
        return MaskedMaps(self, np.array(chosen, np.int64), fineness, flip)

    @cached_property
    def _code_of(self) -> NDArray[np.uint8]:
        codes = np.full(_VALUES + 1, VOID, np.uint8)
        for code, value in enumerate(self.values):
            codes[value] = code
        return codes

    def codes(self, item: int) -> NDArray[np.uint8]:
        """(H, W) code of each pixel's class, VOID for void and for values that are no class."""
        mask = read_mask(self.files[item], self.options.palette, self.options.void)
        codes: NDArray[np.uint8] = self._code_of[np.where((mask >= 0) & (mask < _VALUES), mask, _VALUES)]
        codes[mask == self.options.void] = VOID
        return codes

    def image(self, item: int) -> PillowImage:
        return open_whole_reader(self.maps.dataset)(self.maps.columns.row(int(self.maps.index[item])))

    def name_of(self, item: int) -> str:
        return printable(self.maps.columns.path[int(self.maps.index[item])])

    def class_weights(self) -> list[float]:
        """One a class, inverse to the square root of its training pixels, 1 on average over the classes."""
        counts = np.zeros(len(self.classes))
        for item in self.items.tolist():
            if self.maps.columns.split[int(self.maps.index[item])] == "train":
                pixels = dict(self.looked[item].counts)
                counts += [pixels.get(value, 0) for value in self.values]
        weights = 1 / np.sqrt(np.maximum(1, counts))
        return [float(weight) for weight in weights / weights.mean()]


def find_masked(workspace: Workspace, data: str | None, encoder: str | None, options: MaskOptions) -> Masked:
    """The images of a data set that have a map and a usable mask; what is wrong with the others is counted and named in `notes`.

    Args:
        data: a data set of the workspace by its name, None for the only one of that encoder; or what `Masked.name` said.
        encoder: whose maps, see `chosen_encoder`; None is the only one that keeps maps.

    Raises: HeadstartError if there are no maps or masks, or not enough to learn and to validate.
    """
    folder = chosen_encoder(workspace, encoder or _only_with_maps(workspace))
    match = _AS_OF.fullmatch(data or "")
    rows, revision = (int(match["rows"]), int(match["revision"])) if match else (None, None)
    maps = open_maps(folder, match["name"] if match else data, rows, revision)
    columns = maps.columns
    if maps.dataset.layout in ("hdf5", "parquet"):
        holder = "an HDF5" if maps.dataset.layout == "hdf5" else "a Parquet"
        raise HeadstartError(
            f"--masks: images of {holder} file have no file of their own, so no mask beside it. Enqueue a folder or table"
        )
    if maps.waiting:
        raise HeadstartError(
            f"{plural(maps.waiting, 'image')} {verb(maps.waiting, 'have')} no map yet. Finish them first: headstart work"
        )
    files = _files(maps, options.place)
    looked = {item: _look(maps, item, file, options) for item, file in files.items()}
    name = match[0] if match else f"{maps.name}@{len(columns.path)}.{columns.revision}"
    items = np.array([item for item, one in looked.items() if not one.flaw], np.int64)
    notes = [*_flaws(maps, looked)]
    if maps.failed:
        notes.append(
            f"{plural(maps.failed, 'image')} {verb(maps.failed, 'have')} "
            "no map, so masks are not used: headstart status --failed has the names"
        )
    if not len(items):
        raise HeadstartError(f"--masks {options.place}: no mask can be used; {notes[0] if notes else 'there is none'}")
    seen = _values_by_split(maps, items, looked)
    values, names = _classes(seen, options)
    notes += _value_notes(maps, items, looked, seen, values, names, options)
    return Masked(maps, folder.name, name, names, values, items, looked, options, files, tuple(notes))


def _only_with_maps(workspace: Workspace) -> str | None:
    keeping = [folder.name for folder in encoder_folders(workspace) if read_encoder(folder).spatial is not None]
    if not keeping:
        raise HeadstartError(
            f"{workspace.root} has no encoder that keeps feature maps. Make some: headstart enqueue DATA --maps 8,16,32"
        )
    if len(keeping) > 1:
        raise HeadstartError(f"{workspace.root} has maps of {', '.join(keeping)}. Choose one: --encoder")
    return keeping[0]


def _files(maps: FeatureMaps, place: str) -> dict[int, Path]:
    """The mask's file of each item, whether it is there or not; '' where the table names none."""
    paths = [maps.columns.path[int(row)] for row in maps.index]
    if place in maps.columns.extra:
        root, named = Path(maps.dataset.root), [maps.columns.extra[place][int(row)] for row in maps.index]
        return {item: root / value if value else Path() for item, value in enumerate(named)}
    folder = Path(place)
    if not place or not folder.is_dir():
        columns = ", ".join(map(printable, maps.columns.extra)) or "none"
        raise HeadstartError(
            f"--masks {printable(place) or 'is missing'}: neither a folder nor a column of the table (there are: {columns}). "
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
    return {item: by_stem.get(stem, [folder / f"{stem}.png"])[0] for item, stem in enumerate(stems)}


def _look(maps: FeatureMaps, item: int, file: Path, options: MaskOptions) -> Looked:
    if file == Path():
        return Looked("the table names no mask")
    try:
        mask = read_mask(file, options.palette, options.void)
    except ImageError as error:
        return Looked("there is no mask" if error.code == "missing" else f"the mask cannot be read ({error.reason})")
    size = _size_of(Path(maps.dataset.root) / maps.columns.path[int(maps.index[item])])
    if size is not None and size != mask.shape:
        return Looked(f"the mask has another size ({mask.shape[1]} x {mask.shape[0]}, the image {size[1]} x {size[0]})")
    values, counts = np.unique(mask, return_counts=True)
    if set(values.tolist()) <= {options.void}:
        return Looked("the mask is void everywhere")
    sha256 = hashlib.sha256(str(mask.shape).encode() + mask.tobytes()).hexdigest()
    return Looked("", sha256, tuple(zip(values.tolist(), counts.tolist(), strict=True)))


def _size_of(path: Path) -> tuple[int, int] | None:
    """(height, width) of an image as it is shown, from its header; None if it is away: its map is there all the same."""
    from PIL import Image

    try:
        with reading.opened_given(path) as file, Image.open(file, formats=tuple(IMAGE_FORMATS)) as image:
            is_turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if is_turned else (image.height, image.width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, reading.UnreadableError):
        return None


def _flaws(maps: FeatureMaps, looked: dict[int, Looked]) -> list[str]:
    kinds: dict[str, list[str]] = {}
    for item, one in looked.items():
        if one.flaw:
            shown = f"{printable(maps.columns.path[int(maps.index[item])])}: {one.flaw}"
            kinds.setdefault(one.flaw.partition(" (")[0], []).append(shown)
    return [
        f"left out because {kind}: {plural(len(cases), 'image')}, such as {'; '.join(cases[:_SHOWN])}"
        for kind, cases in kinds.items()
    ]


def _values_by_split(maps: FeatureMaps, items: NDArray[np.int64], looked: dict[int, Looked]) -> dict[str, Counter[int]]:
    seen: dict[str, Counter[int]] = {"train": Counter(), "val": Counter(), "test": Counter()}
    for item in items.tolist():
        pixels = seen.get(maps.columns.split[int(maps.index[item])])
        if pixels is not None:
            pixels.update(dict(looked[item].counts))
    return seen


def _classes(seen: dict[str, Counter[int]], options: MaskOptions) -> tuple[tuple[int, ...], tuple[str, ...]]:
    for split in ("train", "val"):
        if not seen[split]:
            raise HeadstartError(f"no image with a usable mask is in the split '{split}'. Give some images that split")
    names = options.palette.names if options.palette is not None else options.classes
    if names:
        values: tuple[int, ...] = tuple(value for value in range(len(names)) if value != options.void)
        return values, tuple(names[value] for value in values)
    values = tuple(sorted(value for value in seen["train"] if value != options.void and 0 <= value < _VALUES))
    if len(values) > _MOST_CLASSES:
        raise HeadstartError(
            f"the masks have {len(values):,} values, at most {_MOST_CLASSES} can be classes. Do they say instances, or depth? "
            "Give masks whose values are classes"
        )
    if len(values) < 2:
        raise HeadstartError(
            f"all pixels of the training masks have the value {values[0] if values else 'void'}. Two classes are needed"
        )
    return values, tuple(map(str, values))


def _value_notes(
    maps: FeatureMaps,
    items: NDArray[np.int64],
    looked: dict[int, Looked],
    seen: dict[str, Counter[int]],
    values: Sequence[int],
    names: Sequence[str],
    options: MaskOptions,
) -> list[str]:
    notes = []
    known = {*values, options.void}
    strange = Counter[int]()
    where: dict[int, str] = {}
    for item in items.tolist():
        for value, count in looked[item].counts:
            if value not in known:
                strange[value] += count
                where.setdefault(value, printable(maps.columns.path[int(maps.index[item])]))
    for value, count in sorted(strange.items())[:_SHOWN]:
        what = "a colour that is not listed" if value < 0 else f"the value {value}, which is no class of the training masks"
        notes.append(
            f"{plural(count, 'pixel')} {verb(count, 'have')} {what} (first in {where[value]}) and {verb(count, 'count')} as void"
        )
    if len(strange) > _SHOWN:
        notes.append(f"so do pixels of {plural(len(strange) - _SHOWN, 'other value')}")
    absent = [name for value, name in zip(values, names, strict=True) if not seen["train"][value]]
    if absent:
        notes.append(
            f"no training mask has {', '.join(map(printable, absent[:_SHOWN]))}: it cannot be learned and counts as missed"
        )
    return notes
