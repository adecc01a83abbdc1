"""Describes the images inside an HDF5 file: `images` (n, h, w, 3) uint8 and, if there, `labels` (n,)."""

import math
from pathlib import Path
from typing import Any

from headstart.features.arrays import DamagedArrays, hdf5_dataset
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.text import printable, size_words

from .blocks import LARGEST_BYTES, images_a_block, lots_of
from .read_table import MAX_CHARACTERS
from .source import Image, Source, SourceOptions
from .spellings import refuse_two_spellings
from .walk import facts_of

_BEST_RATIO = 1100  # of deflate: 1,032
_ALWAYS_FINE = 1 << 26
_EXPECTED = "expected a dataset 'images' of shape (n, h, w, 3) and type uint8"


def hdf5_source(file: Path, options: SourceOptions) -> Source:
    """The images in `file` (absolute). Each carries the file's size and time, so a changed file changes them all.

    Raises: HeadstartError saying what the file holds instead.
    """
    name = printable(str(file))
    import h5py

    try:
        with environment_faults(f"cannot read {name}"):
            reading.require_file(file.stat(), name)
            with h5py.File(file, "r") as content:
                count = _count(name, content)
                labels = _labels(name, content, count)
                lots, notes = _together(hdf5_dataset(content, "images"))
    except DamagedArrays as error:
        raise HeadstartError(f"{name}: {printable(str(error))}. Copy the data into the file itself.") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # HDF5's own, which h5py names as it sees fit
        raise HeadstartError(
            f"{name} cannot be read as HDF5: {printable(str(error))}. Copy it again, or write it anew."
        ) from None
    if not options.keep_case:
        refuse_two_spellings(labels, lambda i: f"{name} row {i}")
    size, mtime_ns = facts_of(str(file))
    images = tuple(Image(f"{file.name}#{i:09d}", labels[i], "", "", size, mtime_ns) for i in range(count))
    return Source(
        root=file.parent,
        layout="hdf5",
        file=file.name,
        images=images,
        lots=lots,
        allow_symlinks=options.allow_symlinks,
        keep_case=options.keep_case,
        notes=notes,
    )


def _count(name: str, content: Any) -> int:
    images = hdf5_dataset(content, "images")
    if not hasattr(images, "shape"):
        raise HeadstartError(f"{name}: {_EXPECTED}, found {_contents(content)}. Save the images so.")
    if len(images.shape) != 4 or images.shape[3] != 3 or str(images.dtype) != "uint8" or 0 in images.shape[1:]:
        raise HeadstartError(f"{name}: {_EXPECTED}, found {images.shape} {images.dtype}. Save the images so.")
    if not len(images):
        raise HeadstartError(f"{name} holds no image: 'images' has shape {images.shape}. Add some.")
    _refuse_declared_only(name, images)
    if images.chunks and math.prod(images.chunks) > LARGEST_BYTES:
        raise HeadstartError(
            f"{name}: each chunk of 'images' has {math.prod(images.chunks):,} bytes, expected at most {LARGEST_BYTES:,}, as "
            "it is unpacked for every image in it. Write the file anew, with one image a chunk."
        )
    return len(images)


def _together(images: Any) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The lots of the images, see `Source`, and a note where no order helps."""
    count, chunks = len(images), images.chunks
    if not chunks or chunks[0] == 1:
        return (), ()
    step, image_bytes = images_a_block(images.shape, chunks), math.prod(images.shape[1:])
    if step == 1:
        shared = f"{min(chunks[0], count):,} images ({size_words(min(chunks[0], count) * image_bytes)})"
        return (), (f"chunks hold parts of {shared} each, which makes reading slow; with one image a chunk it is fast",)
    sizes = [min(step, count - start) * image_bytes for start in range(0, count, step)]
    return lots_of([i // step for i in range(count)], sizes), ()


def _refuse_declared_only(name: str, dataset: Any) -> None:
    """A data set may declare rows that were never written and take no room; no filter packs more than a thousand to one."""
    declared, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if declared > _BEST_RATIO * stored + _ALWAYS_FINE:
        raise HeadstartError(
            f"{name}: '{dataset.name.lstrip('/')}' declares {declared:,} bytes and {stored:,} are stored: most of it was never "
            "written. Write the file anew."
        )


def _labels(name: str, content: Any, count: int) -> list[str]:
    import h5py

    labels = hdf5_dataset(content, "labels")
    if labels is None:
        return [""] * count
    if getattr(labels, "shape", None) != (count,):
        raise HeadstartError(
            f"{name}: expected 'labels' of shape ({count},) as there are {count:,} images, found {_contents(content)}. Mend it."
        )
    _refuse_declared_only(name, labels)
    if labels.dtype.itemsize > MAX_CHARACTERS:
        raise HeadstartError(f"{name}: 'labels' of {labels.dtype.itemsize:,} bytes each, at most {MAX_CHARACTERS:,} are read.")
    if h5py.check_string_dtype(labels.dtype) or labels.dtype.kind == "S":
        values = [value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value) for value in labels[:]]
    elif labels.dtype.kind in "iub":
        values = [str(int(value)) for value in labels[:]]
    else:
        raise HeadstartError(f"{name}: expected 'labels' of integers or strings, found {labels.dtype}. Convert them.")
    empty = [i for i, value in enumerate(values) if not value.strip()]
    if empty:
        raise HeadstartError(
            f"{name}: 'labels' is empty in {len(empty):,} of {count:,} rows, first: row {empty[0]}. Fill them in."
        )
    return values


def _contents(content: Any) -> str:
    # get, not items: a dangling link inside the file is None then, not an error.
    items = ((printable(key), content.get(key)) for key in content)
    parts = [f"'{key}' {item.shape} {item.dtype}" if hasattr(item, "shape") else f"group '{key}'" for key, item in items]
    return ", ".join(parts) or "nothing"
