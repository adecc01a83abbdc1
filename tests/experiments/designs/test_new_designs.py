"""Pictures of designs that a user names: each is read or says why not, in its place, and regions are told in its pixels."""

import numpy as np
import torch
from PIL import Image

from headstart.experiments.designs.new_designs import read_designs, region_boxes
from headstart.features.images.decode import ImageError


def test_a_file_that_is_no_image_says_so_between_those_that_are(tmp_path):
    files = [tmp_path / name for name in ("wide.png", "broken.png", "small.png")]
    Image.new("RGB", (90, 50), (30, 150, 160)).save(files[0])
    files[1].write_bytes(b"no image")
    Image.new("RGB", (20, 30)).save(files[2])
    wide, broken, small = read_designs(files, 32)
    assert isinstance(broken, ImageError)
    assert broken.code == "not_an_image"
    assert (wide[1], small[1]) == ((90, 50), (20, 30))
    assert wide[0].dtype == torch.uint8
    assert wide[0].shape == small[0].shape == (1, 3, 32, 32)
    assert wide[0][0, :, 5, 7].tolist() == [30, 150, 160]


def test_boxes_of_regions_are_told_in_pixels_of_the_file():
    mask = np.zeros((16, 32), bool)
    mask[2:5, 4:12] = True
    mask[8:, 31:] = True
    assert region_boxes(mask, (64, 64)) == [[8, 8, 24, 20], [62, 32, 64, 64]]
