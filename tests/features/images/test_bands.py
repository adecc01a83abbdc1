"""Rows of a large TIFF have the pixels of the whole, whatever its compression and layout."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from headstart.features.images import bands
from headstart.features.images.bands import open_bands
from headstart.features.images.decode import ImageError, open_rgb


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(bands, "LARGE_PIXELS", 100)


def picture(mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 90)[:, None, None] * np.ones((90, 70, 3))
    rgb = Image.fromarray((ramp * 0.5 + rng.integers(0, 128, (90, 70, 3))).astype(np.uint8))
    return rgb.convert(mode)


def written(image: Image.Image, **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", **more)
    return buffer.getvalue()


def as_png() -> bytes:
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    return buffer.getvalue()


def strips(height: int) -> ImageFileDirectory_v2:
    tags = ImageFileDirectory_v2()
    tags[278] = height
    return tags


def tiled(image: Image.Image, edge: int = 32, order: str = "<") -> bytes:
    """`image` in tiles of `edge` pixels, without compression; Pillow writes strips alone."""
    pixels = np.asarray(image)
    tall, wide = (-(-length // edge) * edge for length in pixels.shape[:2])
    padded = np.zeros((tall, wide, 3), np.uint8)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    parts = [
        padded[top : top + edge, left : left + edge].tobytes() for top in range(0, tall, edge) for left in range(0, wide, edge)
    ]
    tags = ImageFileDirectory_v2(b"II*\0\0\0\0\0" if order == "<" else b"MM\0*\0\0\0\0")
    for tag, value in {256: image.width, 257: image.height, 258: (8, 8, 8), 259: 1, 262: 2, 277: 3, 322: edge, 323: edge}.items():
        tags[tag] = value
    tags.tagtype[324] = tags.tagtype[325] = 4
    tags[325] = tuple(len(part) for part in parts)
    head = b""
    for _ in range(2):  # the second time it is known how long the tags are
        tags[324] = tuple(len(head) + sum(map(len, parts[:number])) for number in range(len(parts)))
        buffer = io.BytesIO()
        tags.save(buffer)
        head = buffer.getvalue()
    return head + b"".join(parts)


TIFFS = {
    "strips": written(picture(), tiffinfo=strips(16)),
    "one row a strip": written(picture(), tiffinfo=strips(1)),
    "deflate": written(picture(), compression="tiff_adobe_deflate", tiffinfo=strips(16)),
    "LZW": written(picture(), compression="tiff_lzw", tiffinfo=strips(7)),
    "packbits": written(picture(), compression="packbits", tiffinfo=strips(16)),
    "JPEG": written(picture(), compression="jpeg", tiffinfo=strips(16)),
    "grey": written(picture("L"), tiffinfo=strips(16)),
    "palette": written(picture("P"), tiffinfo=strips(16)),
    "alpha": written(picture("RGBA"), compression="tiff_lzw", tiffinfo=strips(16)),
    "CMYK": written(picture("CMYK"), tiffinfo=strips(16)),
    "tiles": tiled(picture()),
    "tiles, big-endian": tiled(picture(), order=">"),
}


@pytest.mark.parametrize("at_once", [1, bands._PIXELS_AT_ONCE])
@pytest.mark.parametrize("data", TIFFS.values(), ids=TIFFS)
def test_rows_are_those_of_the_whole_to_the_bit(data, at_once, monkeypatch):
    monkeypatch.setattr(bands, "_PIXELS_AT_ONCE", at_once)
    monkeypatch.setattr(bands, "_LINES_AT_ONCE", 7)
    whole = np.asarray(open_rgb(data))
    with io.BytesIO(data) as file:
        opened = open_bands(file)
        assert opened is not None
        assert (opened.height, opened.width) == (90, 70)
        for top, bottom in ((0, 90), (0, 1), (89, 90), (15, 17), (31, 70)):
            assert np.array_equal(opened.rows(top, bottom), whole[top:bottom])


def test_only_the_part_that_is_asked_for_is_read(monkeypatch):
    read: list[int] = []
    real = bands.open_rgb
    monkeypatch.setattr(bands, "open_rgb", lambda data: read.append(len(data)) or real(data))
    opened = open_bands(io.BytesIO(TIFFS["tiles"]))
    opened.rows(0, 10)
    assert read[0] < len(TIFFS["tiles"]) / 2


def test_no_more_is_decoded_at_once_than_some_rows_of_tiles(monkeypatch):
    heights: list[int] = []
    real = bands.open_rgb

    def opened_rgb(data):
        image = real(data)
        heights.append(image.height)
        return image

    monkeypatch.setattr(bands, "open_rgb", opened_rgb)
    monkeypatch.setattr(bands, "_PIXELS_AT_ONCE", 70 * 32)
    open_bands(io.BytesIO(TIFFS["tiles"])).rows(0, 90)
    assert heights == [32, 32, 26]


WHOLE = {
    "PNG": as_png,
    "16 bits": lambda: written(Image.fromarray(np.arange(6300, dtype=np.uint16).reshape(90, 70)), tiffinfo=strips(16)),
    "one strip": lambda: written(picture(), tiffinfo=strips(90)),
    "no tags": lambda: b"II*\0\x08\0\0\0\0\0",
    "cut off": lambda: TIFFS["strips"][:6],
}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_what_is_no_large_tiff_of_plain_samples_is_left_to_be_decoded_whole(data):
    assert open_bands(io.BytesIO(data())) is None


def test_a_part_that_is_damaged_is_an_error_of_its_image():
    opened = open_bands(io.BytesIO(TIFFS["tiles"][:-4000]))
    opened.rows(0, 20)
    with pytest.raises(ImageError, match=r"ends .* bytes early"):
        opened.rows(80, 90)


def test_an_image_beyond_what_a_mask_may_hold_is_refused(monkeypatch):
    monkeypatch.setattr(bands, "_MOST_PIXELS", 6299)
    with pytest.raises(ImageError, match="70 x 90 pixels; at most 6,299 are segmented"):
        open_bands(io.BytesIO(TIFFS["tiles"]))
