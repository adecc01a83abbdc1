"""Features of images that are in no manifest, by the same decoding, encoding and rounding as extraction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from headstart.features.devices import cores
from headstart.features.images.decode import ImageError, open_decoder, opened_file, read_file
from headstart.features.images.watch import Decoders, WatchedDecode
from headstart.features.manifest.parts import Row
from headstart.features.sources.source import MISSING, Image, refuse_links
from headstart.features.sources.walk import facts_of, join, walk_images
from headstart.features.store.shards import round_features
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

if TYPE_CHECKING:
    from headstart.features.encoders.spec import EncoderSpec
    from headstart.features.images.reader import Decoding

    from .batching import Batching

_CHUNK = 64  # images that are in memory at once, twice: one chunk is encoded while the next is decoded


@dataclass(frozen=True)
class NewImage:
    """A file to be looked at; nothing of it has been read.

    Attributes:
        name: as people are to see it.
        root, path: the folder that it must not leave, and where it is below.
    """

    name: str
    root: Path
    path: str
    size: int
    mtime_ns: int
    allow_symlinks: bool


@dataclass(frozen=True)
class EncodedImage:
    """An image and its features (d,) float16, or why it has none.

    Attributes:
        pixels: as the encoder saw them, (h, w, 3). map: what the encoder gives besides the vector, float32, if it gives one.
    """

    image: NewImage
    features: NDArray[np.float16] | None
    error: ImageError | None = None
    pixels: NDArray[np.uint8] | None = None
    map: NDArray[np.float32] | None = None


def find_new_images(places: Sequence[Path], allow_symlinks: bool = False) -> list[NewImage]:
    """Files as they were named, and everything below folders that has an image's name, in order.

    A file that does not exist is listed, too: it becomes a row that says so.
    Raises: HeadstartError if a folder holds no image, or a symbolic link in it leads out of it.
    """
    new: list[NewImage] = []
    for place in places:
        if not place.is_dir():
            new.append(_named(place))
            continue
        listed = walk_images(place.resolve(), allow_symlinks)
        refuse_links(listed.outside, place)
        if not listed.files:
            raise HeadstartError(f"{printable(str(place))} holds no image. Expected files such as .jpg or .png below it")
        root = place.resolve()
        for item in listed.files:
            name = item.path if str(place) == "." else join(str(place), item.path)
            new.append(NewImage(name, root, item.path, item.size, item.mtime_ns, allow_symlinks))
    return new


def encode_new_images(
    images: Sequence[NewImage],
    spec: EncoderSpec,
    open_batching: Callable[[], Batching],
    device: str = "cpu",
    check: Callable[[], None] = lambda: None,
) -> Iterator[EncodedImage]:
    """Each image in order, with the features that extraction would have put on disk. One that takes too long costs its own row.

    Args:
        spec: of the encoder.
        open_batching: called once, while the first images are being decoded, unless that is done on a GPU; what it returns is
            closed at the end.
        device: what --device says: where images are decoded if `spec` has that done on a GPU.
        check: called between batches; may raise to leave.

    Raises: HeadstartError if they cannot be decoded there.
    """
    from headstart.features.images.reader import Decoding

    if not images:
        return
    pool = Decoders(cores())
    decode = WatchedDecode(open_decoder(spec.transform, device), None if spec.transform.device_decode else spec.transform, pool)
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    batching: Batching | None = None

    def begin(chunk: Sequence[NewImage]) -> Decoding:
        rows = [Row(Image(item.path, "", "", "", item.size, item.mtime_ns), i) for i, item in enumerate(chunk)]
        return Decoding(rows, spec.transform.image_size, lambda row: decode(read_new_file(chunk[row.index])), pool)

    try:
        if spec.transform.device_decode:  # its memory is planned while nothing else takes any there
            batching = open_batching()
        ahead: Decoding | None = begin(chunks[0])
        batching = batching or open_batching()
        for number, chunk in enumerate(chunks):
            assert ahead is not None
            current, ahead = ahead, begin(chunks[number + 1]) if number + 1 < len(chunks) else None
            values, decoded = batching.encode(current.images, current.good(), check)
            spatial = batching.encoder.spec.spatial
            maps = values[:, spec.embed_dim :].reshape(-1, *spatial.shape) if spatial is not None else None
            beside = {place: (current.images[place], None if maps is None else maps[i]) for i, place in enumerate(decoded)}
            yield from _encoded(chunk, values[:, : spec.embed_dim], decoded, current.errors, beside)
    finally:
        pool.shutdown(cancel_futures=True)
        decode.close()
        if batching is not None:
            batching.close()


def read_named_file(path: Path) -> bytes:
    """The bytes of a file that a user named. Raises: as `read_file`."""
    return read_new_file(_named(path))


def _named(path: Path) -> NewImage:
    whole = path.absolute()
    # A link that was named is followed: where it leads is what was meant.
    return NewImage(str(path), whole.parent, whole.name, *facts_of(str(whole)), allow_symlinks=True)


def read_new_file(image: NewImage) -> bytes:
    """Its bytes. Raises: as `read_file`."""
    if image.size == MISSING:
        raise ImageError("missing", "there is no such file, or it cannot be reached")
    return read_file(image.root, image.path, image.size, image.mtime_ns, image.allow_symlinks)


@contextlib.contextmanager
def opened_new_file(image: NewImage) -> Iterator[BinaryIO]:
    """The file itself, where it is too large to be read at once. Raises: as `read_file`."""
    if image.size == MISSING:
        raise ImageError("missing", "there is no such file, or it cannot be reached")
    with opened_file(image.root, image.path, image.allow_symlinks) as file:
        yield file


def _encoded(
    chunk: Sequence[NewImage],
    values: NDArray[np.float32],
    decoded: Sequence[int],
    errors: dict[int, ImageError],
    beside: Mapping[int, tuple[NDArray[np.uint8], NDArray[np.float32] | None]],
) -> Iterator[EncodedImage]:
    half, kept, lost = round_features(values, decoded)
    features = dict(zip(kept, half, strict=True))
    errors = {**errors, **lost}
    for i, image in enumerate(chunk):
        yield EncodedImage(image, features.get(i), errors.get(i), *beside.get(i, (None, None)))
