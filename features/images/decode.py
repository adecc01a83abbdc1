"""One image: from a path to bytes, and from bytes to the uint8 pixels that timm's evaluation pipeline would give a model.

Whatever is wrong with an image is an ImageError and costs one row. torch is imported only where a GPU decodes.
"""

import contextlib
import errno
import functools
import io
import logging
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from headstart.features.accelerators import device_kind
from headstart.features.devices import choose_device
from headstart.features.manifest.content import digest_of_bytes
from headstart.features.sources.walk import IMAGE_FORMATS
from headstart.pipeline.doors.reading import LFS_POINTER
from headstart.pipeline.errors import HeadstartError, SourceGoneError, as_try_later
from headstart.pipeline.text import reason_of

from .gpu_jpeg import DeviceJpeg
from .modes import load_pixels, to_rgb
from .transform import Transform, draft, fit

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    Decoder = Callable[[bytes, PillowImage], NDArray[np.uint8] | None]

MAX_FILE_BYTES = 2**30
MAX_PIXELS = 178_956_970  # twice Pillow's own warning threshold, which is where Pillow itself refuses
# What the `status` array of a shard holds. A number is never reused or changed: shards outlive versions.
STATUS: dict[str, int] = {
    "ok": 0,
    "missing": 1,  # no such file
    "not_a_file": 2,  # a folder, FIFO, socket or device
    "unreadable": 3,  # permission denied, a name this system cannot open, a loop of links
    "changed": 4,  # other size or modification time than in the manifest
    "outside_root": 5,  # absolute, '..', or a symbolic link out of the data folder
    "not_an_image": 6,  # empty, or none of the formats below
    "truncated": 7,  # begins like an image, but is cut off, damaged or of a kind that Pillow cannot turn into RGB
    "too_large": 8,  # more than MAX_FILE_BYTES or MAX_PIXELS, or than fits into memory
    "non_finite": 9,  # the encoder gave NaN, or a value beyond float16
    "killed": 10,  # decoding or encoding it ended the process
    "retired": 11,  # it left the data before its turn came; no failure
    "unsupported": 12,  # sound, but of a kind that Pillow cannot read
}
_FORMATS = tuple(IMAGE_FORMATS)
_TEXT_BYTES = 64 << 20
_HEAD_BYTES = 256  # by which a file is told that is no image
_ORIENTATION = 0x0112
_SIDES_SWAPPED = (5, 6, 7, 8)
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# What people's downloads are named as images, by how it begins.
_OTHER_KINDS = (
    (b"<!doctype html", "an HTML page, as of a download that failed"),
    (b"<html", "an HTML page, as of a download that failed"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML"),
    (b"%pdf-", "a PDF"),
    (b"pk\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
)
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")


class ImageError(Exception):
    """This image has no features. `code` is a key of STATUS, `reason` one line for a person."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return type(self), (self.code, self.reason)  # it crosses process borders


def read_file(root: Path, relative: str, size: int, mtime_ns: int, allow_symlinks: bool, digest: str = "") -> bytes:
    """The bytes of the regular file `relative` under `root`, exactly as the manifest knew it. Never blocks on a FIFO.

    Args:
        relative: may carry surrogate escapes, as os.fsdecode makes them.
        size, mtime_ns: bytes and nanoseconds that the manifest recorded.
        allow_symlinks: let symbolic links lead out of `root`; '..' and absolute paths stay refused.
        digest: of the bytes that the manifest knew; where it is given, another time stamp alone is no change.

    Raises: ImageError; SourceGoneError if the root, its disk or mount is the problem and not the file.
    """
    path = path_inside(root, relative, allow_symlinks)
    try:
        descriptor, before = _open_regular(path)
        try:
            # Unpacked anew, copied or touched: the digest decides then.
            is_touched = digest != "" and before.st_mtime_ns != mtime_ns
            _must_be_unchanged(before, size, before.st_mtime_ns if is_touched else mtime_ns)
            data = _read_bytes(descriptor, size)
            _must_be_unchanged(os.fstat(descriptor), len(data), before.st_mtime_ns)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        _raise_explained(error, root, path)
    if is_touched and digest_of_bytes(data) != digest:
        raise ImageError("changed", "its bytes differ from those that were enqueued; enqueue it again")
    return data


@contextlib.contextmanager
def opened_file(root: Path, relative: str, allow_symlinks: bool) -> Iterator[BinaryIO]:
    """The regular file `relative` under `root`, to be read; arguments and errors as of `read_file`."""
    path = path_inside(root, relative, allow_symlinks)
    try:
        descriptor, _ = _open_regular(path)
        with open(descriptor, "rb") as file:
            yield file
    except (OSError, ValueError) as error:
        _raise_explained(error, root, path)


def _open_regular(path: str) -> tuple[int, os.stat_result]:
    # Asked before opening, because opening alone can act: it wakes the writer of a FIFO and rewinds a tape.
    _must_be_regular(os.stat(path))  # noqa: PTH116
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        facts = os.fstat(descriptor)
        _must_be_regular(facts)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, facts


def _read_bytes(descriptor: int, size: int) -> bytes:
    """`size` bytes, fewer if there are no more. By hand: each system call of a file object lets another decoder in between."""
    data = os.read(descriptor, size)
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data


def _raise_explained(error: OSError | ValueError, root: Path, path: str) -> NoReturn:
    """Raises what `read_file` promises, for what the system said of `path`."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        if not os.path.isdir(root) or not any(os.scandir(root)):  # noqa: PTH112
            raise _gone(root) from None
        raise ImageError("missing", "there is no such file any more") from None
    if isinstance(error, OSError):
        raise_if_environment(error, f"cannot read {path}")
        if isinstance(error, PermissionError) and not os.access(root, os.R_OK | os.X_OK):
            raise SourceGoneError(f"{root}: {error.strerror}. Make it readable, then run the same command again.") from None
    raise ImageError("unreadable", getattr(error, "strerror", None) or reason_of(error)) from None


def _gone(root: Path) -> SourceGoneError:
    return SourceGoneError(
        f"{root} is gone or empty. Is its disk mounted? Then run the same command again; if it moved: headstart data move OLD NEW"
    )


def raise_if_environment(error: OSError, doing: str) -> None:
    """Raises TryLaterError if the machine is at fault (no more file handles), SourceGoneError if the disk of the data is."""
    later = as_try_later(error, doing)
    if later is not None:
        is_machine = error.errno in (errno.EMFILE, errno.ENFILE)
        raise (later if is_machine else SourceGoneError(str(later))) from error


def path_inside(root: Path, relative: str, allow_symlinks: bool) -> str:
    """Where `relative` lies below `root`; without links unless these may lead out. Raises: ImageError if it leads out."""
    if _leads_elsewhere(relative):
        raise ImageError("outside_root", "absolute paths and '..' are refused")
    path = os.path.join(root, relative)  # noqa: PTH118 -- pathlib would normalize what the manifest wrote
    if allow_symlinks or "\0" in relative:
        return path
    real_root = _real_folder(os.fspath(root))
    if (plain := _without_links(real_root, relative)) is not None:
        return plain
    real_path = os.path.realpath(path)
    if os.path.commonpath((real_root, real_path)) != real_root:
        raise ImageError("outside_root", "a symbolic link leads out of the data folder; --allow-symlinks accepts it")
    return real_path


def _leads_elsewhere(relative: str) -> bool:
    if os.name == "posix":  # what pathlib says below, in a tenth of the time
        return relative.startswith("/") or ".." in relative.split("/")
    parts = Path(relative)
    return bool(parts.is_absolute() or parts.drive or parts.root or ".." in parts.parts)


def _real_folder(path: str) -> str:
    is_plain = path.startswith("/") and not _leads_elsewhere(path[1:])
    return (_without_links("/", path[1:]) if is_plain else None) or os.path.realpath(path)


def _without_links(real_root: str, relative: str) -> str | None:
    """Where `relative` lies if no part of it is a link, as `os.path.realpath` says at several times the price; else None."""
    if os.name != "posix":
        return None
    path = real_root.removesuffix("/")
    for name in relative.split("/"):
        if name in ("", "."):
            continue
        path = f"{path}/{name}"
        try:
            if stat.S_ISLNK(os.lstat(path).st_mode):
                return None
        except OSError:
            return None
    return path or real_root


def require_decodable(width: int, height: int) -> None:
    """Raises: ImageError before any pixel is allocated, if there are too many."""
    if width * height > MAX_PIXELS:
        raise ImageError("too_large", f"{width} x {height} pixels; at most {MAX_PIXELS:,} are decoded")


def _must_be_regular(facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise ImageError("not_a_file", "a folder" if stat.S_ISDIR(facts.st_mode) else "a FIFO, socket or device")


def require_few_bytes(facts: os.stat_result) -> None:
    """Raises: ImageError if a file has more bytes than are read of one."""
    if facts.st_size > MAX_FILE_BYTES:
        raise ImageError("too_large", f"{facts.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read")


def _must_be_unchanged(facts: os.stat_result, size: int, mtime_ns: int) -> None:
    require_few_bytes(facts)
    if facts.st_size != size or facts.st_mtime_ns != mtime_ns:
        raise ImageError("changed", f"size or time differ from the manifest's: {facts.st_size:,} bytes, expected {size:,}")


def open_rgb(data: bytes, is_turned: bool = False) -> "PillowImage":
    """The whole image as RGB, in memory: what `decode` would scale. Args: is_turned: as its EXIF orientation says.

    Raises: ImageError, whatever Pillow raised.
    """
    return _rgb(_opened(data), None, is_turned)


def decode(data: bytes, transform: Transform, elsewhere: "Decoder | None" = None) -> NDArray[np.uint8]:
    """What `Image.open(f).convert('RGB')` gives, scaled and cropped: (height, width, 3).

    With `fast_decode`, large JPEGs are not quite that, nor with `whole_range` what has transparency or more than 8 bits. The
    first frame, turned by EXIF with `exif_rotate` alone. Safe to call from many threads. `elsewhere` may decode an image whose
    header is sound, or give None.
    Raises: ImageError, whatever Pillow raised.
    """
    image = _opened(data)
    width, height = image.size
    turns = transform.exif_rotate and _is_turned(image)
    pixels = elsewhere(data, image) if elsewhere is not None and not turns else None
    if pixels is not None:
        return pixels
    rgb = _rgb(image, transform)
    if turns and _orientation(image) in _SIDES_SWAPPED:
        width, height = height, width
    return fit(rgb, transform, (height, width))  # outside of the above: what fails here is our mistake and not the image's


def size_in(file: BinaryIO, is_turned: bool = False) -> tuple[int, int]:
    """(height, width) of the image in `file`, by its header. Args: is_turned: as its EXIF orientation says.

    Raises: ImageError if it is none, or has more pixels than are decoded.
    """
    image = open_image(file)
    width, height = image.size
    if is_turned and _orientation(image) in _SIDES_SWAPPED:
        return width, height
    return height, width


def _opened(data: bytes) -> "PillowImage":
    return open_image(io.BytesIO(data))


def open_image(file: BinaryIO) -> "PillowImage":
    """The image in `file`, which stays open meanwhile: its header was read, and no pixel. Raises: ImageError."""
    from PIL import Image, UnidentifiedImageError

    silence_pillow()
    head = file.read(_HEAD_BYTES)
    if not head:
        raise ImageError("not_an_image", "the file is empty")
    if head.startswith(LFS_POINTER):
        raise ImageError("not_an_image", "a pointer of Git LFS instead of the image; fetch it: git lfs pull")
    try:
        image = Image.open(file, formats=_FORMATS)  # which begins at the beginning
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", reason_of(error)) from None
    except (UnidentifiedImageError, KeyError):  # a KeyError names a format that this build of Pillow lacks
        if unsupported := _unsupported_tiff(file, head):
            raise ImageError("unsupported", unsupported) from None
        if head.startswith(_MAGIC):
            raise ImageError("truncated", "it begins like an image, but its header is cut off or damaged") from None
        raise ImageError("not_an_image", _other_kind(head) or f"none of {', '.join(_FORMATS)}") from None
    except Exception as error:
        raise ImageError("truncated", f"{type(error).__name__}: {reason_of(error)}") from None
    require_decodable(*image.size)
    return image


def _is_turned(image: "PillowImage") -> bool:
    return _orientation(image) in range(2, 9)


def _orientation(image: "PillowImage") -> Any:
    with contextlib.suppress(Exception):  # a damaged EXIF turns nothing
        return image.getexif().get(_ORIENTATION, 1)
    return 1


def _unsupported_tiff(file: BinaryIO, head: bytes) -> str:
    """What Pillow cannot read of a TIFF whose header is sound; '' for anything else."""
    from PIL.TiffImagePlugin import BITSPERSAMPLE, SAMPLESPERPIXEL, ImageFileDirectory_v2

    if not head.startswith((b"II*\0", b"MM\0*")):
        return ""
    try:
        directory = ImageFileDirectory_v2(head[:8])
        file.seek(directory.next)
        directory.load(file)
        bands, bits = int(directory.get(SAMPLESPERPIXEL, 1)), directory.get(BITSPERSAMPLE, (1,))
        offsets, counts = directory.get(273, directory.get(324, ())), directory.get(279, directory.get(325, ()))
        size = file.seek(0, os.SEEK_END)
        is_whole = all(start + count <= size for start, count in zip(offsets, counts, strict=True)) and len(offsets) > 0
    except Exception:  # then it is damaged indeed
        return ""
    many = f"{bands} bands of {'/'.join(map(str, sorted(set(bits))))} bits" if bands > 1 else f"samples of {bits[0]} bits"
    return f"{many}, which Pillow cannot read" if is_whole else ""


def _other_kind(head: bytes) -> str:
    """What begins so, although it is named as an image that is read; '' if that is not plain."""
    if head[4:8] == b"ftyp" and b"avif" not in head[:64]:
        if head[8:12] in _HEIC_BRANDS:
            return "HEIC under another name, which is not read. Convert it to JPEG"
        return "a video, not an image"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((f"{kind}, not an image" for mark, kind in _OTHER_KINDS if text.startswith(mark)), "")


def _rgb(image: "PillowImage", transform: Transform | None, is_turned: bool = False) -> "PillowImage":
    from PIL import Image, ImageOps

    width, height = image.size
    try:
        if transform is not None and transform.fast_decode:
            draft(image, transform)
        is_deep = transform is None or transform.deep_colour
        load_pixels(image, is_deep, _opened)  # convert() alone would do it, but copies an image that is RGB already
        if is_turned or (transform is not None and transform.exif_rotate):
            image = ImageOps.exif_transpose(image)
        if transform is None or transform.whole_range:
            return to_rgb(image, is_deep)
        return image if image.mode == "RGB" else image.convert("RGB")
    except (MemoryError, Image.DecompressionBombError):
        raise ImageError("too_large", f"{width} x {height} pixels do not fit into memory") from None
    except Exception as error:
        raise ImageError("truncated", f"{type(error).__name__}: {reason_of(error)}") from None


@functools.cache
def silence_pillow() -> None:
    # Once and for good: catch_warnings() swaps the process's filters and is not safe in threads. What Pillow would say
    # about a broken file is said in its row's reason.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python writes its errors on the terminal
    from PIL import PngImagePlugin

    # Long texts (whole workflows) and colour profiles are no damage; bounded, for a few kB can unpack to gigabytes.
    PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, _TEXT_BYTES)
    PngImagePlugin.MAX_TEXT_MEMORY = max(PngImagePlugin.MAX_TEXT_MEMORY, 2 * _TEXT_BYTES)


def open_decoder(transform: Transform, asked_device: str) -> Callable[[bytes], NDArray[np.uint8]]:
    """From the bytes of an image to its pixels, (h, w, 3) uint8, as `transform` says; many threads may call it at once.

    Args:
        asked_device: what --device says; it matters only if `transform.device_decode`.

    Raises: HeadstartError if images are to be decoded on a GPU and there is none, or no torchcodec that can. The function:
        ImageError, and HeadstartError if the device fails.
    """
    if not transform.device_decode:
        return lambda data: decode(data, transform)
    device = choose_device(asked_device)
    if not device_kind(device).decodes_jpeg:
        raise HeadstartError(
            "this encoder was enqueued with --device-decode: its images are decoded on a CUDA GPU, and here is none or none was "
            "asked for. Run this where there is one, or enqueue without --device-decode: that makes another folder of features"
        )
    on_device = DeviceJpeg(transform, device)
    return lambda data: decode(data, transform, on_device)
