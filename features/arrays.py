"""Arrays out of files: NPZ member by member, sizes before memory, every byte covered by a digest or checksum; HDF5 and zips too.

Nobody unpacks by any other way: `np.load` stops reading where the header says that an array ends, so the checksum of what it did
not read is never looked at, and a flipped bit there gives other numbers without a word.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import itertools
import math
import mmap
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

NamedArrays = dict[str, NDArray[Any]]

_LOCAL = struct.Struct("<4s5HLLLHH")
_NPY = b"\x93NUMPY"
_LONGEST_HEADER = 4096
DTYPES = frozenset({"<f2", "<f4", "<f8", "<i4", "<i8", "<u4", "<u8", "|u1", "|b1", "|i1"})
_TEXT = r"<U[1-9][0-9]{0,3}|[<|]i2|<u2"  # what others' files also hold
_MOST_MEMBERS = 10_000
_MOST_LINKS = 8


class DamagedArrays(Exception):
    """Bytes are not what they are said to be; the text says in what way, on one line."""


def unpack_npz(data: bytes | mmap.mmap, sha256: str | None = None) -> NamedArrays:
    """The arrays of an NPZ that is stored, not compressed, as `np.savez` writes it; read-only views of `data`.

    Args:
        sha256: of `data`, hex, as somebody noted it; without one the members' CRCs are checked.

    Raises: DamagedArrays, whatever is wrong.
    """
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise DamagedArrays("it has other bytes than were committed (sha256 differs)")
    return {
        name.removesuffix(".npy"): _array(name, member)
        for name, member in stored_members(data, is_checked=sha256 is not None, is_tight=True).items()
        if name.endswith(".npy") or _refuse(f"it holds {name[:60]!r}")
    }


def unpack_npy(data: bytes) -> NDArray[Any]:
    """The array of a file that `np.save` wrote, its axes in the order in memory that they had. Raises: DamagedArrays."""
    return _array("the array", memoryview(data), in_any_order=True)


def unpack_given_npz(data: bytes, most_bytes: int) -> NamedArrays:
    """The arrays of an NPZ that somebody made, compressed or not; also of text. The CRC of every member is checked.

    Args:
        most_bytes: that all of them together may take.

    Raises: DamagedArrays, whatever is wrong; a member that says it is larger is not unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) > _MOST_MEMBERS or sum(info.file_size for info in infos) > most_bytes:
                raise DamagedArrays(f"it has {len(infos)} members of {sum(info.file_size for info in infos):,} bytes")
            members = {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError, zlib.error, EOFError) as error:
        raise DamagedArrays(" ".join(str(error).split())[:120] or "no zip") from None
    return {name.removesuffix(".npy"): _array(name, memoryview(member), True, True) for name, member in members.items()}


def offset_in(data: bytes, array: NDArray[Any]) -> int:
    """Where in `data` the bytes of an array begin that `unpack_npz` made of it: for whoever maps the file."""
    return int(array.ctypes.data - np.frombuffer(data, np.uint8).ctypes.data)


def stored_members(data: bytes | mmap.mmap, is_checked: bool = False, is_tight: bool = False) -> dict[str, memoryview]:
    """The members of a zip that compresses nothing, by name. No copy is made: a zip cannot hold more than its bytes.

    Args:
        is_checked: a digest of all bytes was compared, so CRCs say nothing new.
        is_tight: members have to fill it: a damaged directory may have forgotten one.

    Raises: DamagedArrays.
    """
    view = memoryview(data)
    members: dict[str, memoryview] = {}
    ends = []
    directory, infos = _directory(data)
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x61 or info.file_size != info.compress_size:
            raise DamagedArrays(f"member {info.filename[:60]!r} is compressed or encrypted")
        if info.filename in members:
            raise DamagedArrays(f"member {info.filename[:60]!r} stands twice")
        begin = info.header_offset + _LOCAL.size
        if info.header_offset < 0 or begin > len(data):
            raise DamagedArrays("a member lies beyond its end")
        signature, *_, name_length, extra_length = _LOCAL.unpack_from(data, info.header_offset)
        name = bytes(view[begin : begin + name_length])
        begin += name_length + extra_length
        if signature != b"PK\3\4" or name != info.orig_filename.encode("utf-8", "replace") or begin + info.file_size > len(data):
            raise DamagedArrays(f"member {info.filename[:60]!r} is not where the directory says")
        member = view[begin : begin + info.file_size]
        if not is_checked and zlib.crc32(member) != info.CRC:
            raise DamagedArrays(f"member {info.filename[:60]!r} has another CRC")
        members[info.filename] = member
        ends.append((info.header_offset, begin + info.file_size))
    ends.sort()
    if any(after[0] < before[1] for before, after in itertools.pairwise(ends)):
        raise DamagedArrays("its members overlap")
    if is_tight and any(after[0] != before[1] for before, after in itertools.pairwise([(0, 0), *ends, (directory, directory)])):
        raise DamagedArrays("it has bytes that belong to no member")
    return members


def require_stored(file: BinaryIO) -> None:
    """Raises: DamagedArrays unless that is a zip that can unpack to no more than its own bytes."""
    size = file.seek(0, os.SEEK_END)
    if size:
        with contextlib.closing(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)) as data:
            infos = _directory(data)[1]
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos) or sum(info.file_size for info in infos) > size:
                raise DamagedArrays("its members are compressed or overlap")
    file.seek(0)


def unpacked_size(data: bytes) -> int:
    """What all members of a zip take when they are unpacked, as its directory says. Raises: DamagedArrays."""
    return sum(info.file_size for info in _directory(data)[1])


def require_arrays(arrays: Mapping[str, NDArray[Any]], expected: Mapping[str, Any]) -> None:
    """Raises: DamagedArrays unless these are the arrays, each with dtype and shape, that somebody noted."""
    there = summary(arrays)
    if there != dict(expected):
        raise DamagedArrays(f"it holds {there}, its marker says {repr(dict(expected))[:300]}")


def summary(arrays: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, Any]]:
    """dtype and shape by name, as a marker records them."""
    return {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()}


def require_positions(positions: NDArray[Any], start: int, stop: int, what: str) -> None:
    """Raises: DamagedArrays unless these are row numbers (n,) int64 from `start` to `stop` (half open), each once."""
    if positions.dtype != np.int64 or positions.ndim != 1:
        raise DamagedArrays(f"{what} is {positions.dtype} of shape {positions.shape}, expected int64 of one axis")
    if not len(positions):
        return
    if positions.min() < start or positions.max() >= stop:
        raise DamagedArrays(f"{what} has {positions.min()} to {positions.max()}, expected rows {start} to {stop - 1}")
    if not (np.diff(positions) > 0).all() and len(np.unique(positions)) != len(positions):
        raise DamagedArrays(f"{what} has a row twice")


def _refuse(why: str) -> bool:
    raise DamagedArrays(why)


def _directory(data: bytes | mmap.mmap) -> tuple[int, list[zipfile.ZipInfo]]:
    try:
        # A mapped file is read where it lies; it must not be closed with the archive, which a file given by object is not.
        with zipfile.ZipFile(cast(IO[bytes], data) if isinstance(data, mmap.mmap) else io.BytesIO(data)) as archive:
            infos, start = archive.infolist(), int(archive.start_dir)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError, struct.error, OverflowError) as error:
        raise DamagedArrays(" ".join(str(error).split())[:120] or "no zip") from None
    if len(infos) > _MOST_MEMBERS:
        raise DamagedArrays(f"it has {len(infos)} members")
    return start, infos


def _array(name: str, member: memoryview, in_any_order: bool = False, is_text_allowed: bool = False) -> NDArray[Any]:
    version = bytes(member[6:8])
    if bytes(member[:6]) != _NPY or version not in (b"\1\0", b"\2\0"):
        raise DamagedArrays(f"{name[:60]!r} is no array")
    width = 2 if version == b"\1\0" else 4
    begin = 8 + width
    length = int.from_bytes(member[8:begin], "little")
    if length > _LONGEST_HEADER or begin + length > len(member):
        raise DamagedArrays(f"{name[:60]!r} has a header of {length:,} bytes")
    dtype, shape, is_fortran = _header(name, bytes(member[begin : begin + length]), is_text_allowed)
    # One axis, or none, has no order; numpy calls a vector both.
    if is_fortran and len(shape) > 1 and not in_any_order:
        raise DamagedArrays(f"{name[:60]!r} is in Fortran's order")
    content = member[begin + length :]
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise DamagedArrays(f"{name[:60]!r} has {len(content):,} bytes, expected {dtype} of shape {shape}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def _header(name: str, text: bytes, is_text_allowed: bool) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    try:
        facts = ast.literal_eval(text.decode("latin1").strip())
        descr, is_fortran, shape = facts["descr"], facts["fortran_order"], facts["shape"]
        is_known = descr in DTYPES or (is_text_allowed and re.fullmatch(_TEXT, descr) is not None)
        is_sound = len(facts) == 3 and is_known and isinstance(shape, tuple) and len(shape) <= 8
        is_sound = is_sound and all(type(size) is int and 0 <= size < 1 << 40 for size in shape)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise DamagedArrays(f"the header of {name[:60]!r} does not parse ({type(error).__name__})") from None
    if not is_sound or not isinstance(is_fortran, bool):
        raise DamagedArrays(f"{name[:60]!r} has {repr(facts)[:120]}")
    return np.dtype(descr), shape, is_fortran


def hdf5_dataset(file: Any, name: str) -> Any:
    """The data set of that name, whose bytes all lie in this file; None if the file has nothing of that name.

    Raises: DamagedArrays if it is a link out of it or into another place, or its bytes lie in another file.
    """
    import h5py

    dataset = _followed(file, name, _MOST_LINKS)
    if not isinstance(dataset, h5py.Dataset):
        return dataset
    if dataset.external:
        raise DamagedArrays(f"'{name}' lies in another file ({dataset.external[0][0]}), which is not read")
    if dataset.is_virtual:
        raise DamagedArrays(f"'{name}' is a view of other files, which are not read")
    return dataset


def _followed(file: Any, path: str, left: int) -> Any:
    """What stands at `path`; soft links are followed within the file, step by step, because each may name one that leads out."""
    import h5py

    here = file["/"]
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for number, part in enumerate(parts):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            raise DamagedArrays(f"'{part}' is a link into another file, which is not read")
        if isinstance(link, h5py.SoftLink):
            if not left:
                return None
            before = "" if link.path.startswith("/") else "/".join(parts[:number])
            return _followed(file, "/".join([before, link.path, *parts[number + 1 :]]), left - 1)
        here = here[part]
    return here


def contiguous(dataset: Any, dtype: str, axes: int, longest_bytes: int) -> NDArray[Any]:
    """All of a data set that is neither compressed nor chunked, so that it costs what it takes. Raises: DamagedArrays."""
    if dataset is None or not hasattr(dataset, "dtype"):
        raise DamagedArrays("a data set is missing")
    if dataset.dtype != np.dtype(dtype) or dataset.ndim != axes or dataset.chunks is not None:
        raise DamagedArrays(f"'{dataset.name}' is {dataset.dtype} {dataset.shape}, chunks {dataset.chunks}")
    if dataset.size * dataset.dtype.itemsize > longest_bytes:
        raise DamagedArrays(f"'{dataset.name}' declares {dataset.size:,} values")
    return np.asarray(dataset[()])
