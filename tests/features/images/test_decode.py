import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from timm.data import create_transform

from headstart.features.images.decode import STATUS, ImageError, decode
from headstart.features.images.transform import fit
from tests.features.samples import CENTER, TRANSFORMS, data_folder, kinds_of_image, picture, png, python_says, saved

KINDS = kinds_of_image()
JPEG = saved(picture(60, 40), "JPEG")


def timm_gives(image, transform):
    real = create_transform(
        (3, *transform.image_size),
        interpolation=transform.interpolation,
        crop_pct=transform.crop_pct,
        crop_mode=transform.crop_mode,
        mean=transform.mean,
        std=transform.std,
        normalize=False,
    )
    return real(image).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_gives_the_pixels_that_timm_gives(kind, transform):
    expected = timm_gives(Image.open(io.BytesIO(KINDS[kind])).convert("RGB"), transform)
    np.testing.assert_array_equal(decode(KINDS[kind], transform), expected)


SIZES = [
    (1, 1),
    (2, 3),
    (5, 1),
    (1, 9),
    (31, 64),
    (64, 64),
    (223, 225),
    (224, 224),
    (256, 256),
    (257, 255),
    (1024, 60),
    (900, 700),
    (450, 1350),  # the height shrinks by more than twice as many pixels as the width
]


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_gives_the_pixels_that_timm_gives(size, transform):
    image = picture(*size)
    np.testing.assert_array_equal(fit(image, transform), timm_gives(image, transform))


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("size", [(7, 900), (900, 7), (1, 1500), (2500, 2), (300, 21_000)], ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "lanczos"])
def test_a_strip_differs_from_timm_by_no_more_than_rounding(size, mode, interpolation):
    transform = replace(TRANSFORMS["center, all kept"], crop_mode=mode, interpolation=interpolation)
    tile = picture(min(size), min(size))
    image = Image.fromarray(
        np.tile(np.asarray(tile), (-(-size[1] // tile.height), -(-size[0] // tile.width), 1))[: size[1], : size[0]]
    )
    difference = fit(image, transform).astype(int) - timm_gives(image, transform)
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("size", [(1, 2_000_000), (2_000_000, 1)], ids=["tall", "wide"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_strip_of_two_million_pixels_costs_no_memory(size, transform):
    # As a whole, center would make it 64 x 128,000,000 pixels and more, which no machine of ours holds.
    before = peak_bytes()
    assert fit(Image.new("RGB", size, (9, 9, 9)), transform).shape == (*transform.image_size, 3)
    assert peak_bytes() - before < 400e6


def peak_bytes():
    resource = pytest.importorskip("resource", reason="peak memory is asked through getrusage")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_photo_of_3024_x_3024_gives_the_pixels_that_timm_gives():
    data = saved(picture(3024, 3024), "JPEG", quality=60)
    np.testing.assert_array_equal(decode(data, CENTER), timm_gives(Image.open(io.BytesIO(data)).convert("RGB"), CENTER))


@pytest.mark.parametrize("folder", ["imagenet-samples", "sign-digits"])
def test_real_photos_give_the_pixels_that_timm_gives(folder):
    paths = sorted(path for path in data_folder(folder).rglob("*") if path.is_file())
    for path in paths[:: max(1, len(paths) // 12)]:
        np.testing.assert_array_equal(decode(path.read_bytes(), CENTER), timm_gives(Image.open(path).convert("RGB"), CENTER))


def test_many_threads_decode_as_one_does():
    expected = {kind: decode(data, CENTER) for kind, data in KINDS.items()}
    with ThreadPoolExecutor(8) as pool:
        for kind, pixels in zip([*KINDS] * 8, pool.map(lambda data: decode(data, CENTER), [*KINDS.values()] * 8), strict=True):
            np.testing.assert_array_equal(pixels, expected[kind])


BROKEN = {
    "zero bytes": (b"", "not_an_image"),
    "text": (b"dear diary, \xff\xd8\xff is how a JPEG begins\n" * 9, "not_an_image"),
    "only a JPEG's first bytes": (b"\xff\xd8\xff\xe0", "truncated"),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "truncated PNG": (KINDS["RGBA"][:-900], "truncated"),
    "truncated GIF": (KINDS["animated GIF"][:700], "truncated"),
    "truncated WEBP": (KINDS["animated WEBP"][:700], "truncated"),
    "PNG without pixels": (png(30, 30, 8, 2, b""), "truncated"),
    "PNG of a colour type that does not exist": (png(3, 3, 8, 5, b"\0" * 12), "truncated"),
    "bomb of 60,000 x 60,000": (png(60_000, 60_000, 8, 0, bytes(1000)), "too_large"),
    "bomb of 13,400 x 13,400, which Pillow would only warn of": (png(13_400, 13_400, 8, 0, bytes(1000)), "too_large"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "not_an_image"),
}


@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
def test_a_broken_image_is_an_error_of_one_line(data, code):
    before = peak_bytes()
    with pytest.raises(ImageError) as caught:
        decode(data, CENTER)
    assert caught.value.code == code
    assert caught.value.code in STATUS
    assert caught.value.reason
    assert "\n" not in caught.value.reason
    assert peak_bytes() - before < 200e6


def test_an_empty_file_is_told_to_be_empty():
    with pytest.raises(ImageError, match="not_an_image: the file is empty"):
        decode(b"", CENTER)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    cut=st.floats(0.1, 1),
)
def test_damaged_bytes_give_pixels_or_an_image_error_and_nothing_else(kind, edits, cut):
    data = bytearray(KINDS[kind][: int(len(KINDS[kind]) * cut)])
    for position, value in edits:
        data[position % len(data)] = value
    try:
        outcome = decode(bytes(data), TRANSFORMS["squash"]).shape
    except ImageError as error:
        outcome = error.code
    assert outcome in {(64, 64, 3), "not_an_image", "truncated", "too_large"}


def test_a_bomb_is_refused_even_where_pillows_own_limit_was_switched_off(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError) as caught:
        decode(BROKEN["bomb of 60,000 x 60,000"][0], CENTER)
    assert caught.value.code == "too_large"
    assert "60000 x 60000" in caught.value.reason


def test_an_image_that_does_not_fit_into_memory_is_an_error_of_its_row(monkeypatch):
    def load(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(ImageError) as caught:
        decode(JPEG, CENTER)
    assert caught.value.code == "too_large"


def test_an_image_error_survives_the_way_to_another_process():
    error = pickle.loads(pickle.dumps(ImageError("truncated", "cut off")))
    assert (error.code, error.reason) == ("truncated", "cut off")


def test_the_numbers_of_the_statuses_never_change():
    assert list(STATUS) == [
        "ok", "missing", "not_a_file", "unreadable", "changed", "outside_root", "not_an_image", "truncated", "too_large",
        "non_finite", "killed", "retired", "unsupported",
    ]  # fmt: skip
    assert list(STATUS.values()) == list(range(13))


def test_decoding_says_nothing_and_needs_no_torch():
    code = """
import io, sys, numpy as np, PIL.Image
from headstart.features.images.transform import Transform
from headstart.features.images.decode import decode
buffer = io.BytesIO()
PIL.Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(buffer, "PNG")
PIL.Image.MAX_IMAGE_PIXELS = 1500  # so that 2,000 pixels are what Pillow warns of
decode(buffer.getvalue(), Transform((32, 32), "bicubic", 0.9, "center", (0.5,) * 3, (0.5,) * 3))
print("torch" in sys.modules)
"""
    assert python_says(code) == ("False\n", "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC under another name", id="heic"),
        pytest.param(b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + bytes(99), "a video", id="mp4"),
        pytest.param(b"\xef\xbb\xbf\n<!DOCTYPE html><title>404", "an HTML page", id="html"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG", id="svg"),
        pytest.param(b"%PDF-1.7\n", "a PDF", id="pdf"),
        pytest.param(b"PK\x03\x04" + bytes(40), "a zip archive", id="zip"),
        pytest.param(b"just words", "none of JPEG", id="anything else"),
    ],
)
def test_what_is_named_as_an_image_and_is_none_is_called_what_it_is(data, said):
    with pytest.raises(ImageError, match=f"^not_an_image: {said}"):
        decode(data, CENTER)
