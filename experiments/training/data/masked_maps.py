"""Feature maps of a data set with the mask of each image: found and looked at once, then rows to train a segmentation head on."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.encoders.folder import chosen_encoder, encoder_folders
from headstart.features.encoders.spec import read_encoder
from headstart.features.images.decode import ImageError
from headstart.features.images.masks import MaskFile, Palette, mask_files, read_mask, strips
from headstart.features.images.reader import open_whole_reader
from headstart.features.images.windows import size_of_image
from headstart.features.manifest.patch_versions import list_versions
from headstart.features.store.maps import FeatureMaps, open_maps, open_patch_maps
from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError, SourceGoneError
from headstart.pipeline.text import plural, printable, verb
from headstart.pipeline.workspace import Workspace

from .batch import Batch
from .keys import Key
from .sets import Rows

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from torch import Tensor

VOID = 255  # code of a pixel that counts nowhere, whatever value it has in the files
_MOST_CLASSES = 254
_VALUES = 1 << 16
_AS_OF = re.compile(r"(?P<name>.+)@(?P<rows>\d+)\.(?P<revision>\d+)")
_SHOWN = 3
_KEPT_BYTES = 2**29  # of targets of patches


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
    """Rows of one split: `maps` (n, c, h, w) float32, and codes of classes. A row is an image, or a patch of one.

    To learn from: `target` (n, f h, f w) uint8, from the middle of each cell of a grid f = `fineness` times as fine.
    To be judged on: `row`, and of images `mask`, each as it is, (H, W) uint8; `whole` has that of an image in patches.
    """

    is_ready = True  # mapped: another process would read what this one reads

    def __init__(self, masked: Masked, items: NDArray[np.int64], fineness: int, flip: float, crop: float) -> None:
        self._masked, self._items, self._fineness, self._flip, self._crop = masked, items, fineness, flip, crop
        self._targets: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def digest(self) -> str:
        masks = [self._masked.looked[item].sha256 for item in self._items.tolist()]
        facts = [self._masked.maps.digest, self._items.tolist(), masks, self._fineness, self._flip]
        if self._crop < 1:
            facts.append(self._crop)
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def items(self) -> NDArray[np.int64]:
        """(n,) positions of the rows in the maps."""
        return self._items

    def batch(self, rows: Rows, key: Key | None) -> Batch:
        import torch

        items = self._items[rows]
        maps = torch.from_numpy(self._masked.maps.read(items)).float()
        if key is None:
            masks = {} if self._masked.maps.cut is not None else {"mask": [self._masked.codes(int(item)) for item in items]}
            return Batch({"maps": maps, **masks, "row": [int(row) for row in rows]})
        height, width = (edge * self._fineness for edge in maps.shape[2:])
        targets = torch.from_numpy(np.stack([self._target(int(item), height, width) for item in items]))
        for place, row in enumerate(rows.tolist()):
            if self._flip and key.of(row).numpy().random() < self._flip:
                maps[place], targets[place] = maps[place].flip(-1), targets[place].flip(-1)
        if self._crop < 1:
            maps, targets = self._cropped(maps, targets, rows, key)
        known = (targets != VOID).sum((1, 2))
        return Batch({"maps": maps, "target": targets}, weight=known.clamp(min=1).double())

    def _cropped(self, maps: Tensor, targets: Tensor, rows: Rows, key: Key) -> tuple[Tensor, Tensor]:
        """The same part of each row's map and target, of a size that all rows share."""
        import torch

        edges = [max(1, round(self._crop * edge)) for edge in maps.shape[2:]]
        parts = []
        for place, row in enumerate(rows.tolist()):
            draw = key.of(row, "crop").numpy()
            begin = [int(draw.integers(whole - edge + 1)) for whole, edge in zip(maps.shape[2:], edges, strict=True)]
            (top, left), (height, width), f = begin, edges, self._fineness
            part = maps[place, :, top : top + height, left : left + width]
            parts.append((part, targets[place, f * top : f * (top + height), f * left : f * (left + width)]))
        return torch.stack([part for part, _ in parts]), torch.stack([target for _, target in parts])

    def _target(self, item: int, height: int, width: int) -> NDArray[np.uint8]:
        if self._masked.maps.cut is None:
            return at_cells(self._masked.codes(item), height, width)
        if item not in self._targets:
            if len(self._items) * height * width > _KEPT_BYTES:
                return at_cells(self._masked.codes(item), height, width)
            # A mask is decoded once for all patches of its image, not once for each in every epoch.
            mates = self._items[self._masked.maps.index[self._items] == self._masked.maps.index[item]].tolist()
            whole = self._masked.whole_codes(item)
            self._targets |= {mate: at_cells(self._masked.cut_out(mate, whole), height, width) for mate in mates}
        return self._targets[item]

    def truth(self, row: int) -> NDArray[np.uint8]:
        """(H, W) codes of a row's mask: of an image, or of a patch."""
        return self._masked.codes(int(self._items[row]))

    def whole(self, row: int) -> Whole | None:
        """The image that the row is the first patch of; None where rows are images, or not all patches of an image are rows."""
        cut, item = self._masked.maps.cut, int(self._items[row])
        if cut is None or not self._is_stitched:
            return None
        height, width = map(int, cut.sizes[item])
        return Whole((height, width), cut.size, cut.overlap, self._masked.whole_codes(item))

    @cached_property
    def _is_stitched(self) -> bool:
        """Whether all patches of each image are rows, as they are where masks of whole images are judged."""
        index, there = self._masked.maps.index, np.zeros(len(self._masked.maps), np.bool_)
        there[self._items] = True
        return bool(there[np.isin(index, index[self._items])].all())

    def image(self, row: int) -> PillowImage:
        """The image itself, RGB, also of a patch. Raises: ImageError if it is no longer as it was enqueued."""
        return self._masked.image(int(self._items[row]))

    def name(self, row: int) -> str:
        """Path of the image, for people."""
        return self._masked.name_of(int(self._items[row]))


@dataclass(frozen=True)
class Whole:
    """An image whose mask is stitched from those of its patches.

    Attributes:
        size: (height, width) in pixels.
        patch, overlap: edge of a patch and of its overlap with the next, in pixels.
        truth: (H, W) codes of its mask.
    """

    size: tuple[int, int]
    patch: int
    overlap: int
    truth: NDArray[np.uint8]


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
    files: dict[int, MaskFile]
    notes: tuple[str, ...]

    def split(self, name: str, fineness: int, flip: float = 0.0, crop: float = 1.0) -> MaskedMaps:
        """Rows of a split. Of patches: to train on, those that a mask says something of; else all of whole images."""
        chosen = [item for item in self.items.tolist() if self.maps.columns.split[int(self.maps.index[item])] == name]
        cut = self.maps.cut
        if cut is not None:
            is_train = name == "train"
            chosen = [item for item in chosen if (self._says_something(item) if is_train else cut.is_whole[item])]
        return MaskedMaps(self, np.array(chosen, np.int64), fineness, flip, crop)

    def _says_something(self, item: int) -> bool:
        return any(value != self.options.void for value, _ in self.looked[item].counts)

    @cached_property
    def _code_of(self) -> NDArray[np.uint8]:
        codes = np.full(_VALUES + 1, VOID, np.uint8)
        for code, value in enumerate(self.values):
            codes[value] = code
        return codes

    def codes(self, item: int) -> NDArray[np.uint8]:
        """(H, W) code of each pixel's class, VOID for void, for values that are no class and for what is beyond the image."""
        whole = self.whole_codes(item)
        return whole if self.maps.cut is None else self.cut_out(item, whole)

    def whole_codes(self, item: int) -> NDArray[np.uint8]:
        """Of all of the image's mask, also where the item is a patch of it. Raises: HeadstartError if it broke meanwhile."""
        file = self.files[item]
        try:
            mask = read_mask(file, self.maps.dataset.allow_symlinks, self.options.palette, self.options.void)
        except ImageError as error:
            raise HeadstartError(
                f"the mask of {self.name_of(item)} can no longer be read ({printable(file.path)}: {error.reason}). "
                "Put it back, then run the same command again"
            ) from None
        codes = np.empty(mask.shape, np.uint8)
        for rows in strips(mask.shape):
            part = mask[rows].astype(np.int64)
            part[(part < 0) | (part > _VALUES) | (part == self.options.void)] = _VALUES
            codes[rows] = self._code_of[part]
        return codes

    def cut_out(self, item: int, whole: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(size, size) of the patch that the item is. Args: whole: codes of the image."""
        assert self.maps.cut is not None
        x, y, width, height = map(int, self.maps.cut.windows[item])
        codes = np.full((self.maps.cut.size, self.maps.cut.size), VOID, np.uint8)
        codes[:height, :width] = whole[y : y + height, x : x + width]
        return codes

    def image(self, item: int) -> PillowImage:
        read = open_whole_reader(self.maps.dataset, self.maps.spec.transform.exif_rotate)
        return read(self.maps.columns.row(int(self.maps.index[item])))

    def name_of(self, item: int) -> str:
        return printable(self.maps.columns.path[int(self.maps.index[item])])

    def class_weights(self) -> list[float]:
        """One a class, inverse to the square root of its training pixels, 1 on average over the classes."""
        counts = np.zeros(len(self.classes))
        for item in self.split("train", 1).items.tolist():
            pixels = dict(self.looked[item].counts)
            counts += [pixels.get(value, 0) for value in self.values]
        weights = 1 / np.sqrt(np.maximum(1, counts))
        return [float(weight) for weight in weights / weights.mean()]


def find_masked(workspace: Workspace, data: str | None, encoder: str | None, options: MaskOptions, patches: str = "") -> Masked:
    """The images of a data set that have a map and a usable mask; what is wrong with the others is counted and named in `notes`.

    Args:
        data: a data set of the workspace by its name, None for the only one of that encoder; or what `Masked.name` said.
        encoder: whose maps, see `chosen_encoder`; None is the only one that keeps maps.
        patches: a version of patches, such as v001, instead of whole images; '': patches where there are no maps of whole images.

    Raises: HeadstartError if there are no maps or masks, or not enough to learn and to validate.
    """
    match = _AS_OF.fullmatch(data or "")
    rows, revision = (int(match["rows"]), int(match["revision"])) if match else (None, None)
    name = match["name"] if match else data
    if patches or _has_patches_alone(workspace):
        folder_name = None if encoder is None else chosen_encoder(workspace, encoder).name
        maps = open_patch_maps(workspace, patches, name, folder_name, rows, revision)
    else:
        maps = open_maps(chosen_encoder(workspace, encoder or _only_with_maps(workspace)), name, rows, revision)
    columns, cut = maps.columns, maps.cut
    if maps.dataset.layout in ("hdf5", "parquet"):
        holder = "an HDF5" if maps.dataset.layout == "hdf5" else "a Parquet"
        raise HeadstartError(
            f"--masks: images of {holder} file have no file of their own, so no mask beside it. Enqueue a folder or table"
        )
    what = "image" if cut is None else "part"
    of = "" if cut is None else " of images"
    if maps.waiting:
        raise HeadstartError(
            f"{plural(maps.waiting, what)}{of} {verb(maps.waiting, 'have')} no map yet. Finish them first: headstart work"
        )
    files = _files(maps, options.place)
    looked, counted = _looked(maps, files, options)
    known_as = match[0] if match else f"{maps.name}@{len(columns.path)}.{columns.revision}"
    items = np.array([item for item, one in looked.items() if not one.flaw], np.int64)
    notes = [*_flaws(maps, looked)]
    if maps.failed:
        notes.append(
            f"{plural(maps.failed, what)}{of} {verb(maps.failed, 'have')} "
            "no map, so masks are not used: headstart status --failed has the names"
        )
    if cut is not None:
        notes += _not_whole(maps, items)
    if not len(items):
        fix = ". Give others, or another --void" if any(one.flaw for one in looked.values()) else ""
        raise HeadstartError(f"--masks {options.place}: no mask can be used; {notes[0] if notes else 'there is none'}{fix}")
    seen = _values_by_split(maps, counted)
    values, names = _classes(seen, options)
    notes += _value_notes(maps, counted, seen, values, names, options)
    return Masked(maps, maps.spec.folder_name, known_as, names, values, items, looked, options, files, tuple(notes))


def _has_patches_alone(workspace: Workspace) -> bool:
    """Whether there are patches, and no encoder has done a whole image."""
    return bool(list_versions(workspace)) and not any(
        paths.is_folder(folder / "done") for folder in encoder_folders(workspace) if read_encoder(folder).spatial is not None
    )


def _not_whole(maps: FeatureMaps, items: NDArray[np.int64]) -> list[str]:
    """Images that are not judged, because a mask of them cannot be stitched."""
    assert maps.cut is not None
    rows = maps.index[items[~maps.cut.is_whole[items]]]
    left = [row for row in np.unique(rows).tolist() if maps.columns.split[row] != "train"]
    if not left:
        return []
    shown = ", ".join(printable(maps.columns.path[row]) for row in left[:_SHOWN])
    return [f"not judged because a patch of it has no map: {plural(len(left), 'image')}, such as {shown}"]


def _only_with_maps(workspace: Workspace) -> str | None:
    keeping = [folder.name for folder in encoder_folders(workspace) if read_encoder(folder).spatial is not None]
    if not keeping:
        raise HeadstartError(
            f"{workspace.root} has no encoder that keeps feature maps. Make some: headstart enqueue DATA --maps 8,16,32"
        )
    worked = [name for name in keeping if paths.is_folder(workspace.features / name / "done")]
    if len(keeping) > 1 and len(worked) == 1:  # others are of patches
        return worked[0]
    if len(keeping) > 1:
        raise HeadstartError(f"{workspace.root} has maps of {', '.join(keeping)}. Choose one: --encoder")
    return keeping[0]


def _files(maps: FeatureMaps, place: str) -> dict[int, MaskFile]:
    """Where each item's mask lies, see `mask_files`."""
    rows, root = maps.index.tolist(), Path(maps.dataset.root)
    if maps.cut is not None and not place and any(mask.path for mask in maps.cut.masks):  # as it was said when they were cut
        gone = next((folder for folder in {mask.root for mask in maps.cut.masks} - {root} if not folder.is_dir()), None)
        if gone is not None:
            raise HeadstartError(f"{gone}, where masks of patches lay, is gone. Say where they are: --masks DIR")
        return dict(enumerate(maps.cut.masks))
    extra = {name: [values[row] for row in rows] for name, values in maps.columns.extra.items()}
    return dict(enumerate(mask_files([maps.columns.path[row] for row in rows], extra, root, place)))


def _looked(
    maps: FeatureMaps, files: dict[int, MaskFile], options: MaskOptions
) -> tuple[dict[int, Looked], dict[int, dict[int, int]]]:
    """What is seen of each item's mask, and pixels of each value in each image's (by row) that can be used.

    Of patches a mask is read once for all of an image.
    """
    looked: dict[int, Looked] = {}
    counted: dict[int, dict[int, int]] = {}
    for row, members in groupby(files, key=lambda item: int(maps.index[item])):
        items = list(members)
        mask = _mask_of(maps, row, items[0], files[items[0]], options)
        if isinstance(mask, str):
            looked |= dict.fromkeys(items, Looked(mask))
            continue
        counts = _counts(mask)
        if set(counts) == {options.void}:
            looked |= dict.fromkeys(items, Looked("the mask is void everywhere"))
            continue
        counted[row] = counts
        for item in items:
            part = mask
            if maps.cut is not None:
                x, y, width, height = map(int, maps.cut.windows[item])
                part = mask[y : y + height, x : x + width]
            looked[item] = Looked("", _digest(part), tuple(_counts(part).items()))
    return looked, counted


def _digest(mask: NDArray[np.integer[Any]]) -> str:
    """Of its numbers, of whatever type they are, hex."""
    digest = hashlib.sha256(str(mask.shape).encode())
    for rows in strips(mask.shape):
        digest.update(mask[rows].astype(np.int64).tobytes())
    return digest.hexdigest()


def _counts(mask: NDArray[np.integer[Any]]) -> dict[int, int]:
    """Pixels of each value, by ascending value."""
    pixels = Counter[int]()
    for rows in strips(mask.shape):
        values, counts = np.unique(mask[rows], return_counts=True)
        pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return dict(sorted(pixels.items()))


def _mask_of(maps: FeatureMaps, row: int, item: int, file: MaskFile, options: MaskOptions) -> NDArray[np.integer[Any]] | str:
    """(H, W) of an image's mask, or why it cannot be used."""
    if not file.path:
        return "the table names no mask"
    try:
        mask = read_mask(file, maps.dataset.allow_symlinks, options.palette, options.void)
    except ImageError as error:
        if error.code == "missing":
            return "there is no mask"
        what = "its mask leads out of its folder" if error.code == "outside_root" else "the mask cannot be read"
        return f"{what} ({printable(file.path)}: {error.reason})"
    size = _size_of(maps, row) if maps.cut is None else (int(maps.cut.sizes[item][0]), int(maps.cut.sizes[item][1]))
    if size is not None and size != mask.shape:
        return f"the mask has another size ({mask.shape[1]} x {mask.shape[0]}, the image {size[1]} x {size[0]})"
    return mask


def _size_of(maps: FeatureMaps, row: int) -> tuple[int, int] | None:
    """(height, width) of an image as its map is of it; None if it is away: its map is there all the same."""
    is_turned = maps.spec.transform.exif_rotate
    try:
        return size_of_image(Path(maps.dataset.root), maps.columns.path[row], maps.dataset.allow_symlinks, is_turned)
    except (ImageError, SourceGoneError):
        return None


def _flaws(maps: FeatureMaps, looked: dict[int, Looked]) -> list[str]:
    kinds: dict[str, dict[int, str]] = {}
    for item, one in looked.items():
        if one.flaw:
            row = int(maps.index[item])
            kinds.setdefault(one.flaw.partition(" (")[0], {})[row] = f"{printable(maps.columns.path[row])}: {one.flaw}"
    return [
        f"left out because {kind}: {plural(len(cases), 'image')}, such as {'; '.join(list(cases.values())[:_SHOWN])}"
        for kind, cases in kinds.items()
    ]


def _values_by_split(maps: FeatureMaps, counted: dict[int, dict[int, int]]) -> dict[str, Counter[int]]:
    seen: dict[str, Counter[int]] = {"train": Counter(), "val": Counter(), "test": Counter()}
    for row, counts in counted.items():
        pixels = seen.get(maps.columns.split[row])
        if pixels is not None:
            pixels.update(counts)
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
    counted: dict[int, dict[int, int]],
    seen: dict[str, Counter[int]],
    values: Sequence[int],
    names: Sequence[str],
    options: MaskOptions,
) -> list[str]:
    notes = []
    known = {*values, options.void}
    whose = "--classes" if options.classes else "the training masks"
    strange = Counter[int]()
    where: dict[int, str] = {}
    for row, counts in counted.items():
        for value, count in counts.items():
            if value not in known:
                strange[value] += count
                where.setdefault(value, printable(maps.columns.path[row]))
    for value, count in sorted(strange.items())[:_SHOWN]:
        what = "a colour that is not listed" if value < 0 else f"the value {value}, which is no class of {whose}"
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
