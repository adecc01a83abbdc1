import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from headstart.features.images.decode import ImageError
from headstart.features.images.reader import Decoding
from headstart.pipeline.errors import TryLaterError


def reader(broken=(), fatal=None, gate=None):
    def read(row):
        if gate is not None and row >= 2:
            gate.wait(20)
        if row == fatal:
            raise TryLaterError("the disk is gone")
        if row in broken:
            raise ImageError("truncated", f"row {row}")
        return np.full((2, 3, 3), row, np.uint8)

    return read


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_rows_keep_their_places_and_a_broken_one_costs_itself(pool):
    decoding = Decoding(range(9), (2, 3), reader(broken=(0, 4)), pool)
    assert list(decoding.good()) == [1, 2, 3, 5, 6, 7, 8]
    assert {i: error.reason for i, error in decoding.errors.items()} == {0: "row 0", 4: "row 4"}
    for i in decoding.rows:
        assert i in (0, 4) or (decoding.images[i] == i).all()


def test_an_image_is_given_out_before_later_ones_are_decoded(pool):
    gate = threading.Event()
    positions = Decoding(range(5), (2, 3), reader(gate=gate), pool).good()
    assert [next(positions), next(positions)] == [0, 1]
    gate.set()
    assert list(positions) == [2, 3, 4]


def test_a_fault_that_is_not_the_images_is_raised(pool):
    with pytest.raises(TryLaterError, match="the disk is gone"):
        list(Decoding(range(5), (2, 3), reader(fatal=3), pool).good())
