"""What is not exactly an NPZ of plain arrays, every byte as it was, is one exception, before memory is taken."""

import hashlib
import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.features import arrays
from headstart.features.arrays import DamagedArrays, require_positions, unpack_npz

GOOD = {
    "global_pool": np.arange(12, dtype=np.float16).reshape(3, 4),
    "index": np.array([5, 7, 9]),
    "status": np.zeros(4, np.uint8),
}


def packed(**given):
    buffer = io.BytesIO()
    np.savez(buffer, **given)
    return buffer.getvalue()


def zipped(method=zipfile.ZIP_STORED, **members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name + ".npy", data)
    return buffer.getvalue()


def header(text, data=b"", version=b"\1\0"):
    text += b" " * (-(10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\1\0" else "<I", len(text)) + text + data


def twice():
    member = header(b"{'descr':'<f2','fortran_order':False,'shape':(0,)}")
    return zipped(**{"a": member, "b": member}).replace(b"b.npy", b"a.npy")


def overlapping():
    """Two names for the same bytes, as in bombs that need no compression."""
    data = bytearray(zipped(a=header(b"{'descr':'<f2','fortran_order':False,'shape':(0,)}")))
    directory = data.index(b"PK\1\2")
    entry = bytes(data[directory : data.index(b"PK\5\6")])
    end = bytearray(data[data.index(b"PK\5\6") :])
    end[8:12] = struct.pack("<HH", 2, 2)
    end[12:16] = struct.pack("<I", 2 * len(entry))
    return bytes(data[:directory]) + entry + entry + bytes(end)


DAMAGED = {
    "nothing": b"",
    "a bare array": header(b"{'descr':'<f2','fortran_order':False,'shape':(0,)}"),
    "cut off": packed(**GOOD)[:-30],
    "cut off in the middle": packed(**GOOD)[:300],
    "compressed": zipped(zipfile.ZIP_DEFLATED, a=header(b"{'descr':'<f2','fortran_order':False,'shape':(100,)}", bytes(200))),
    "compressed otherwise": zipped(zipfile.ZIP_LZMA, a=bytes(999)),
    "no array": zipped(a=b"hello"),
    "empty member": zipped(a=b""),
    "shape 2^40": zipped(a=header(b"{'descr':'<f2','fortran_order':False,'shape':(1099511627776,320)}")),
    "shape below zero": zipped(a=header(b"{'descr':'<f2','fortran_order':False,'shape':(-1,)}")),
    "shape of truth": zipped(a=header(b"{'descr':'|u1','fortran_order':False,'shape':(True,)}", b"x")),
    "shape of text": zipped(a=header(b"{'descr':'|u1','fortran_order':False,'shape':('1',)}", b"x")),
    "shape no tuple": zipped(a=header(b"{'descr':'|u1','fortran_order':False,'shape':1}", b"x")),
    "too few bytes": zipped(a=header(b"{'descr':'<f2','fortran_order':False,'shape':(4,)}", bytes(7))),
    "too many bytes": zipped(a=header(b"{'descr':'<f2','fortran_order':False,'shape':(4,)}", bytes(9))),
    "objects": zipped(a=header(b"{'descr':'|O','fortran_order':False,'shape':(1,)}", bytes(8))),
    "records": zipped(a=header(b"{'descr':[('a','<f2')],'fortran_order':False,'shape':(1,)}", bytes(2))),
    "big end first": zipped(a=header(b"{'descr':'>f2','fortran_order':False,'shape':(1,)}", bytes(2))),
    "columns first": zipped(a=header(b"{'descr':'<f2','fortran_order':True,'shape':(2,2)}", bytes(8))),
    "header [1,2": zipped(a=header(b"[1,2")),
    "header of brackets": zipped(a=header(b"[" * 3000)),
    "header of minus": zipped(a=header(b"-" * 3000 + b"1")),
    "header too long": zipped(a=header(b" " * 9000)),
    "header beyond the end": zipped(a=b"\x93NUMPY\1\0\xff\x0f{}"),
    "header that calls": zipped(a=header(b"__import__('os')")),
    "version 3": zipped(a=header(b"{}", version=b"\3\0")),
    "a name twice": twice(),
    "members that overlap": overlapping(),
    "another member": packed(**GOOD).replace(b"status.npy", b"status.txt"),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_it_is_one_exception_before_memory_is_taken(data):
    tracemalloc.start()
    try:
        with pytest.raises(DamagedArrays) as caught:
            unpack_npz(data)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("has_digest", [True, False], ids=["digest", "checksums alone"])
def test_a_flip_of_any_bit_is_noticed_or_changes_nothing(has_digest):
    data = packed(**GOOD)
    sha256 = hashlib.sha256(data).hexdigest() if has_digest else None
    noticed = 0
    for at in range(len(data)):
        for bit in range(8):
            flipped = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            try:
                read = unpack_npz(flipped, sha256)
            except DamagedArrays:
                noticed += 1
                continue
            assert list(read) == list(GOOD)
            for name, array in GOOD.items():
                assert read[name].dtype == array.dtype
                np.testing.assert_array_equal(read[name], array)
    assert noticed == 8 * len(data) or not has_digest
    assert noticed > 6 * len(data)


@given(st.binary(max_size=300) | st.builds(lambda h, d: zipped(a=header(h, d)), st.binary(max_size=60), st.binary(max_size=20)))
def test_any_bytes_are_arrays_or_damaged(data):
    try:
        unpack_npz(data)
    except DamagedArrays as error:
        assert "\n" not in str(error)  # noqa: PT017 - some inputs are arrays


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_changes_to_an_archive_are_arrays_or_damaged(changes):
    data = bytearray(packed(**GOOD))
    for at, byte in changes:
        data[at * 7 % len(data)] = byte
    try:
        unpack_npz(bytes(data))
    except DamagedArrays as error:
        assert "\n" not in str(error)  # noqa: PT017 - some changes mean nothing


def test_what_numpy_packs_is_unpacked_without_a_copy():
    data = packed(**GOOD)
    read = unpack_npz(data, hashlib.sha256(data).hexdigest())
    for name, array in GOOD.items():
        np.testing.assert_array_equal(read[name], array)
        assert not read[name].flags.writeable


POSITIONS = {
    "before": [4, 5],
    "below zero": [-1, 5],
    "beyond": [5, 10],
    "far beyond": [5, 2**62],
    "twice": [5, 6, 5],
    "another type": np.array([5], np.int32),
    "two axes": [[5, 6]],
    "floats": [5.0],
}


@pytest.mark.parametrize("positions", POSITIONS.values(), ids=POSITIONS.keys())
def test_rows_of_others_are_refused(positions):
    with pytest.raises(DamagedArrays):
        require_positions(np.asarray(positions), 5, 10, "index")


@pytest.mark.parametrize("positions", [[], [9], [5, 6, 9], [9, 5]], ids=["none", "last", "some", "in any order"])
def test_rows_of_the_job_are_taken(positions):
    require_positions(np.array(positions, np.int64), 5, 10, "index")


def test_a_zip_bomb_is_measured_before_it_is_unpacked():
    assert arrays.unpacked_size(zipped(zipfile.ZIP_DEFLATED, a=bytes(10**7))) == 10**7
