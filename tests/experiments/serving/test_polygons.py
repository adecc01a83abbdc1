"""Regions of a mask as polygons: drawn again they are the mask."""

import json
import sys

import numpy as np
import pytest

from headstart.experiments.serving.polygons import polygons_of
from headstart.pipeline.errors import HeadstartError

NAMES = {0: "road", 3: "sky", 200: 'a "tree",\n<b>'}


def features_of(mask, names=NAMES):
    pytest.importorskip("rasterio.features", reason="needs the extra polygons")
    return json.loads(polygons_of(mask, names))["features"]


def blob(seed):
    noise = np.random.default_rng(seed).random((40, 61))
    coarse = np.kron(noise[::4, ::4], np.ones((4, 4)))[:40, :61]
    return np.array([0, 3, 200], np.uint8)[(coarse * 3).astype(int)]


@pytest.mark.parametrize(
    "mask",
    [
        *map(blob, range(4)),
        np.full((5, 7), 3, np.uint8),
        np.tile(np.array([[0, 3], [3, 0]], np.uint8), (4, 5)),  # regions that touch at corners alone
        np.pad(np.pad(np.full((3, 3), 3, np.uint8), 2), 2, constant_values=200),  # rings within rings
        np.zeros((1, 1), np.uint8),
    ],
    ids=[*(f"drawn {seed}" for seed in range(4)), "one class", "chessboard", "rings", "one pixel"],
)
def test_polygons_drawn_again_are_the_mask_and_count_its_pixels(mask):
    features = features_of(mask)
    from rasterio.features import rasterize

    again = rasterize(
        [(one["geometry"], one["properties"]["value"]) for one in features], out_shape=mask.shape, fill=7, dtype="uint8"
    )
    assert np.array_equal(again, mask)
    for value, name in NAMES.items():
        mine = [one["properties"] for one in features if one["properties"]["value"] == value]
        assert sum(one["pixels"] for one in mine) == np.count_nonzero(mask == value)
        assert {one["class"] for one in mine} <= {name}


def test_values_without_a_name_are_left_out():
    mask = np.array([[0, 9], [9, 9]], np.uint8)
    [only] = features_of(mask)
    assert only["properties"] == {"class": "road", "value": 0, "pixels": 1}
    assert only["geometry"]["coordinates"] == [[[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]]
    assert features_of(mask, {}) == []


def test_without_rasterio_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(HeadstartError, match=r"polygons need rasterio\. Install it: pip install 'headstart\[polygons\]'"):
        polygons_of(np.zeros((2, 2), np.uint8), NAMES)
