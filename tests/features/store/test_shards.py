import numpy as np
import pytest

from headstart.features.arrays import summary
from headstart.features.store import shards
from headstart.pipeline.errors import HeadstartError

ARRAYS = {
    "global_pool": np.arange(12, dtype=np.float16).reshape(3, 4),
    "index": np.array([5, 7, 9]),
    "status": np.zeros(4, np.uint8),
}


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "job_000000.0123456789abcdef.npz"
    path.write_bytes(shards.pack(ARRAYS))
    return path


def test_what_is_packed_is_read(shard):
    read = shards.read_shard(shard, summary(ARRAYS))
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)


def test_equal_arrays_give_equal_bytes():
    assert shards.pack(ARRAYS) == shards.pack({name: array.copy() for name, array in ARRAYS.items()})


def test_numpy_alone_reads_a_shard(shard):
    with np.load(shard, allow_pickle=False) as plain:
        assert plain["global_pool"].tolist() == ARRAYS["global_pool"].tolist()


FLAWS = {
    "empty": lambda data: data.clear(),
    "cut off": lambda data: data.__delitem__(slice(-30, None)),
    "not a zip": lambda data: data.__setitem__(slice(0, 4), b"oops"),
    "one bit of a member": lambda data: data.__setitem__(data.index(b"NUMPY") + 130, data[data.index(b"NUMPY") + 130] ^ 1),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_damaged_shard_is_named_with_the_command_that_mends_it(shard, flaw):
    data = bytearray(shard.read_bytes())
    FLAWS[flaw](data)
    shard.write_bytes(data)
    with pytest.raises(HeadstartError, match=r"job_000000.*headstart verify --deep --repair"):
        shards.read_shard(shard, summary(ARRAYS))


@pytest.mark.parametrize(
    "arrays",
    [
        {"global_pool": ARRAYS["global_pool"], "index": ARRAYS["index"]},
        {**ARRAYS, "more": np.zeros(1)},
        {**ARRAYS, "index": ARRAYS["index"].astype(np.int32)},
        {**ARRAYS, "index": ARRAYS["index"][:2]},
    ],
    ids=["a member short", "a member more", "another dtype", "another shape"],
)
def test_a_shard_that_differs_from_its_marker_is_refused(shard, arrays):
    shard.write_bytes(shards.pack(arrays))
    with pytest.raises(HeadstartError, match="its marker says"):
        shards.read_shard(shard, summary(ARRAYS))


def test_a_pickle_in_a_shard_is_never_loaded(tmp_path):
    import io

    buffer = io.BytesIO()
    np.savez(buffer, global_pool=np.array([{"harm": 1}], dtype=object))
    path = tmp_path / "job_000000.x.npz"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(HeadstartError, match="cannot be read"):
        shards.read_shard(path, {})
