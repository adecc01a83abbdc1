"""Pixels tell one picture from two of one kind, whatever was done to a copy."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from headstart.experiments.audit import near_duplicates
from headstart.experiments.audit.near_duplicates import EDGE, agree, find_copies
from headstart.experiments.audit.neighbours import Neighbours


def picture(seed: int, detail_seed: int | None = None) -> Image.Image:
    """Soft shapes with some detail, as photos have them."""
    coarse = np.random.default_rng(seed).integers(60, 200, (5, 5, 3), dtype=np.uint8)
    soft = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
    detail = (
        np.random.default_rng(seed if detail_seed is None else detail_seed).normal(0, 25, (32, 32, 3)).repeat(2, 0).repeat(2, 1)
    )
    return Image.fromarray(np.clip(np.asarray(soft, float) + detail, 0, 255).astype(np.uint8))


def small(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((EDGE, EDGE), Image.Resampling.BILINEAR))


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


CHANGES = {
    "recompressed": recompressed,
    "smaller": lambda image: image.resize((40, 40), Image.Resampling.BICUBIC),
    "larger": lambda image: image.resize((150, 150), Image.Resampling.BICUBIC),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "of less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_picture_is_the_same_picture(change):
    for seed in range(5):
        assert agree(small(picture(seed)), small(change(picture(seed))))


OTHERS = {
    "another one": lambda seed: (picture(seed), picture(seed + 100)),
    "one upside down": lambda seed: (picture(seed), picture(seed).transpose(Image.Transpose.FLIP_TOP_BOTTOM)),
    # Alike in all that is large, as skies and studio backgrounds are: only what is fine tells them apart.
    "one with another detail": lambda seed: (picture(seed), picture(seed, detail_seed=seed + 100)),
    "two that are one colour each": lambda seed: (Image.new("RGB", (64, 64), "white"), Image.new("RGB", (64, 64), "grey")),
}


@pytest.mark.parametrize("pair", OTHERS.values(), ids=OTHERS)
def test_two_pictures_are_two(pair):
    for seed in range(5):
        one, two = pair(seed)
        assert not agree(small(one), small(two))


class Taken:
    """Pictures by position; None for one that is gone."""

    def __init__(self, pixels):
        self._pixels = pixels

    def take_readable(self, positions, edge):
        assert edge == EDGE
        return [self._pixels[int(position)] for position in positions]


def neighbours(pairs, count, cosine=0.9):
    """Each of `pairs` proposed once; all others have a neighbour that is too far."""
    place = np.zeros((count, 1), np.int64)
    cosines = np.full((count, 1), -1.0, np.float32)
    for first, second in pairs:
        place[first], cosines[first] = second, cosine
    return Neighbours(place, cosines)


def test_features_propose_and_pixels_decide():
    same, other = small(picture(1)), small(picture(2))
    pixels = [same, other, same[:, ::-1], other]
    copies = find_copies(neighbours([(0, 1), (2, 0)], 4), [""] * 4, np.arange(4), Taken(pixels))
    assert [(copy.first, copy.second, copy.how) for copy in copies.pairs] == [(0, 2, "mirrored")]  # nobody proposed 1 and 3
    assert copies.unread == 0


def test_equal_bytes_are_copies_whoever_proposes_them_and_need_no_pixels():
    copies = find_copies(neighbours([], 4), ["a", "b", "a", "a"], np.arange(4), Taken([None] * 4))
    assert [(copy.first, copy.second, copy.how) for copy in copies.pairs] == [(0, 2, "exact"), (0, 3, "exact")]


def test_an_image_that_is_gone_is_counted_and_is_no_copy():
    same = small(picture(1))
    copies = find_copies(neighbours([(0, 1)], 2), ["", ""], np.arange(2), Taken([same, None]))
    assert (copies.pairs, copies.unread) == ((), 1)


def two_that_agree(length, product):
    """Rows (2, length) of length 1 with that product."""
    one, other = np.linalg.qr(np.random.default_rng(0).standard_normal((length, 2)))[0].T
    return np.stack([one, product * one + np.sqrt(1 - product**2) * other]).astype(np.float32)


@pytest.mark.parametrize(
    ("coarse", "fine", "wanted"),
    [
        pytest.param(0.99, 0.95, True, id="both high"),
        pytest.param(0.962, 0.91, False, id="both just enough, and together not"),
        pytest.param(0.98, 0.91, True, id="one makes up for the other"),
        pytest.param(0.94, 0.99, False, id="too little in what is large"),
        pytest.param(0.99, 0.89, False, id="too little in what is fine"),
    ],
)
def test_what_is_large_and_what_is_fine_must_agree_each_and_together(coarse, fine, wanted):
    prints = near_duplicates._Prints(two_that_agree(3 * EDGE * EDGE, coarse), two_that_agree(EDGE * EDGE, fine))
    _, _, agrees = near_duplicates._agreement(prints, np.array([0]), np.array([1]))
    assert agrees.tolist() == [wanted]
