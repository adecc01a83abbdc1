from concurrent.futures import ThreadPoolExecutor
from threading import Event

import h5py
import numpy as np
import pytest

from headstart.features.sources import blocks
from headstart.features.sources.blocks import Blocks, images_a_block, lots_of, unpacked

MB = 1 << 20


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(blocks, "KEPT_BYTES", 10 * MB)
    monkeypatch.setattr(blocks, "LARGEST_BYTES", 20 * MB)


def test_a_block_is_unpacked_once_however_many_threads_ask():
    loaded, begin = [], Event()

    def load(number):
        begin.wait(10)
        loaded.append(number)
        return number

    kept = Blocks(load, lambda number: MB)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(kept.__getitem__, number % 2) for number in range(16)]
        begin.set()
        assert [future.result() for future in asked] == [number % 2 for number in range(16)]
    assert sorted(loaded) == [0, 1]


def test_the_block_that_was_asked_for_longest_ago_makes_room():
    loaded = []
    kept = Blocks(lambda number: loaded.append(number) or number, lambda number: 4 * MB)
    for number in (0, 1, 0, 2, 0, 1):
        kept[number]
    assert loaded == [0, 1, 2, 1]


def test_a_block_larger_than_all_that_is_kept_is_kept_alone():
    loaded = []
    kept = Blocks(lambda number: loaded.append(number) or number, lambda number: 15 * MB if number == 9 else MB)
    for number in (0, 9, 9, 0):
        kept[number]
    assert loaded == [0, 9, 0]


def test_a_block_that_could_not_be_unpacked_is_tried_again():
    outcomes = [OSError("busy"), "pixels"]

    def load(number):
        outcome = outcomes.pop(0)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    kept = Blocks(load, lambda number: MB)
    with pytest.raises(OSError, match="busy"):
        kept[0]
    assert kept[0] == "pixels"


def test_images_that_fit_into_memory_have_no_lots():
    assert lots_of([0, 0, 1, 1], [5 * MB, 5 * MB]) == ()


def test_a_lot_is_a_few_whole_blocks_drawn_from_the_whole_file():
    block_of = [image // 10 for image in range(1000)]
    lots = lots_of(block_of, [2 * MB] * 100)
    members = {lot: {block_of[i] for i in range(1000) if lots[i] == lot} for lot in set(lots)}
    assert sorted(members) == list(range(50))
    assert all(len(blocks_of_lot) == 2 for blocks_of_lot in members.values())
    assert sorted(block for lot in members.values() for block in lot) == list(range(100))
    early = [block for lot in range(25) for block in members[lot]]
    assert 15 <= sum(block < 50 for block in early) <= 35


def test_a_block_larger_than_a_lot_is_one():
    assert len(set(lots_of([0, 1, 2], [9 * MB] * 3))) == 3


@pytest.mark.parametrize(
    ("shape", "chunks", "count"),
    [
        pytest.param((100, 32, 32, 3), None, 1, id="contiguous"),
        pytest.param((100, 32, 32, 3), (1, 32, 32, 3), 1, id="one-image"),
        pytest.param((100, 32, 32, 3), (13, 4, 4, 1), 13, id="parts-of-13"),
        pytest.param((100, 32, 32, 3), (500, 32, 32, 3), 100, id="more-than-there-are"),
        pytest.param((100_000, 32, 32, 3), (100_000, 1, 1, 1), 1, id="too-many"),
    ],
)
def test_images_of_a_block_are_those_that_share_chunks(shape, chunks, count):
    assert images_a_block(shape, chunks) == count


STORED = {
    "contiguous": {},
    "chunks-without-a-filter": {"chunks": (7, 16, 16, 1)},
    "gzip": {"chunks": (7, 16, 16, 1), "compression": "gzip"},
    "gzip-and-shuffle": {"chunks": (7, 16, 16, 1), "compression": "gzip", "shuffle": True},
    "gzip-and-checksums": {"chunks": (7, 16, 16, 1), "compression": "gzip", "fletcher32": True},
    "lzf": {"chunks": (7, 16, 16, 1), "compression": "lzf"},
    "scale-offset": {"chunks": (7, 16, 16, 1), "scaleoffset": 8},
    "partial-chunks-at-every-edge": {"chunks": (9, 23, 27, 2), "compression": "gzip"},
    "rows-of-all-channels": {"chunks": (7, 16, 33, 3), "compression": "gzip"},
    "chunks-larger-than-an-image": {"chunks": (7, 64, 64, 3), "maxshape": (None, None, None, 3), "compression": "gzip"},
    "chunks-of-few-values": {"chunks": (2, 3, 5, 1), "compression": "gzip"},
    "h5py's-default": {"compression": "gzip"},
}


@pytest.mark.parametrize("facts", STORED.values(), ids=STORED)
@pytest.mark.parametrize("worth", [1, 4096], ids=["chunk-by-chunk", "as-usual"])
def test_images_come_out_of_chunks_as_hdf5_gives_them(tmp_path, monkeypatch, facts, worth):
    monkeypatch.setattr(blocks, "_WORTH_A_CALL", worth)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 41, 33, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        images = file.create_dataset("images", shape=pixels.shape, dtype="u1", fillvalue=9, **facts)
        images[:20] = pixels[:20]  # the others were never written
        pixels[20:] = 9
        for start, stop in ((0, 7), (3, 4), (7, 21), (0, 30), (28, 35)):
            assert np.array_equal(unpacked(images, start, stop), pixels[start:stop])


def test_a_chunk_is_read_by_itself_where_hdf5_would_scatter_it_byte_by_byte(tmp_path):
    asked = []

    class Asked:
        def __init__(self, images):
            self.shape, self.chunks, self._images = images.shape, images.chunks, images

        def __len__(self):
            return self.shape[0]

        def __getitem__(self, key):
            asked.append(key)
            return self._images[key]

    with h5py.File(tmp_path / "images.h5", "w") as file:
        images = file.create_dataset("images", shape=(64, 32, 32, 3), dtype="u1", chunks=(64, 16, 16, 1), compression="gzip")
        unpacked(Asked(images), 0, 64)
        assert len(asked) == 2 * 2 * 3
        unpacked(Asked(images), 0, 1)  # of one image a chunk holds too little
        assert len(asked) == 2 * 2 * 3 + 1


def test_a_chunk_that_is_damaged_is_an_error_of_h5py(tmp_path):
    with h5py.File(tmp_path / "images.h5", "w") as file:
        images = file.create_dataset("images", shape=(64, 32, 32, 3), dtype="u1", chunks=(64, 16, 16, 1), compression="gzip")
        images[:] = 3
        images.id.write_direct_chunk((0, 16, 0, 1), b"no deflate at all")
        with pytest.raises(OSError, match="read"):
            unpacked(images, 0, 64)
