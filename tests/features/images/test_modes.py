import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from headstart.features.images.decode import ImageError, decode, open_rgb
from headstart.features.images.modes import to_8_bits
from headstart.features.images.transform import parse_transform
from headstart.features.sources.walk import EXTENSIONS, IMAGE_FORMATS
from tests.features.samples import CENTER, picture

NOW = parse_transform({**CENTER.facts(), "whole_range": True, "deep_colour": True, "image_size": [32, 32]})
BEFORE = parse_transform({**CENTER.facts(), "whole_range": True, "image_size": [32, 32]})
RAMP = np.kron(np.arange(64).reshape(8, 8), np.ones((8, 8))) / 63


def stored(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        pytest.param((RAMP * 65535).astype(np.uint16), "PNG", id="16-bit-png"),
        pytest.param((RAMP * 65535).astype(np.uint16), "TIFF", id="16-bit-tiff"),
        pytest.param((RAMP * 4095).astype(np.uint16), "PNG", id="12-bits-in-16"),
        pytest.param((RAMP * 1023).astype(np.uint16), "TIFF", id="10-bits-in-16"),
        pytest.param((RAMP * (2**31 - 1)).astype(np.int32), "TIFF", id="int32"),
        pytest.param((RAMP * 2000 - 1000).astype(np.int32), "TIFF", id="negative-int32"),
        pytest.param(RAMP.astype(np.float32), "TIFF", id="float-to-1"),
        pytest.param((RAMP * 4095).astype(np.float32), "TIFF", id="float-to-4095"),
    ],
)
def test_a_range_beyond_8_bits_is_scaled_and_not_clipped(values, kind):
    pixels = decode(stored(Image.fromarray(values), kind), NOW)
    assert pixels.min() < 16
    assert pixels.max() > 239
    assert len(np.unique(pixels)) > 60


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(np.uint16([[0, 255]]), [0, 255], id="8-bits-in-16-stay-as-they-are"),
        pytest.param(np.uint16([[0, 1023, 512]]), [0, 255, 128], id="10-bits"),
        pytest.param(np.uint16([[0, 3000]]), [0, 187], id="the-depth-decides-and-not-the-largest-sample"),
        pytest.param(np.float32([[0, 0.4]]), [0, 102], id="float-within-1"),
        pytest.param(np.float32([[0, 200]]), [0, 200], id="float-within-255"),
        pytest.param(np.float32([[0, 0.5, 1.25]]), [0, 102, 255], id="float-with-highlights"),
        pytest.param(np.float32([[0, 0.5, 2]]), [0, 64, 255], id="float-to-2"),
        pytest.param(np.float32([[0, 3]]), [0, 3], id="float-beyond-2-is-whole-numbers"),
        pytest.param(np.float32([[np.nan, np.inf, 1.0]]), [0, 0, 255], id="what-is-no-number-is-black"),
        pytest.param(np.int32([[-10, 0, 10]]), [0, 128, 255], id="negative"),
        pytest.param(np.float32([[0, 0]]), [0, 0], id="nothing"),
    ],
)
def test_the_rule_of_ranges(values, expected):
    assert to_8_bits(values)[0].tolist() == expected


def shapes(mode):
    """A disc and a square in black, everything else transparent."""
    y, x = np.mgrid[:64, :64]
    for mask in ((y - 32) ** 2 + (x - 32) ** 2 < 400, (abs(y - 32) < 18) & (abs(x - 32) < 18)):
        pixels = np.zeros((64, 64, 4), np.uint8)
        pixels[..., 3] = mask * 255
        yield Image.fromarray(pixels).convert(mode) if mode != "P" else Image.fromarray(pixels).quantize(4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white(mode):
    disc, square = (decode(stored(image), NOW) for image in shapes(mode))
    assert (disc[0, 0] == 255).all()
    assert (disc[16, 16] < 8).all()
    assert not np.array_equal(disc, square)


def test_a_transparent_colour_of_a_png_is_white():
    image = Image.fromarray(np.full((8, 8, 3), 7, np.uint8))
    assert (decode(stored(image, transparency=(7, 7, 7)), NOW) == 255).all()


def test_an_opaque_alpha_changes_nothing():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    assert np.array_equal(decode(stored(image.convert("RGBA")), NOW), decode(stored(image), NOW))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed_only_if_asked_for(orientation):
    upright = np.zeros((48, 32, 3), np.uint8)
    upright[:10] = 255
    upright[:, :6, 0] = 200
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's Transpose methods that make the stored image
    lying = Image.fromarray(upright)
    lying = lying.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else lying
    exif = Image.Exif()
    exif[0x112] = orientation
    data = stored(lying, exif=exif)
    rotating = parse_transform({**NOW.facts(), "exif_rotate": True})
    assert np.array_equal(decode(data, rotating), decode(stored(Image.fromarray(upright)), NOW))
    assert np.array_equal(decode(data, NOW), decode(stored(lying), NOW))


def deep_png(samples):
    """Samples (h, w, 3 or 4) of 16 bits as a PNG, which Pillow cannot write."""
    height, width, bands = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[bands], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_tiff(samples, order):
    """The same as a TIFF of one strip, without compression."""
    height, width, bands = samples.shape
    mark, sign = (b"II", "<") if order == "little" else (b"MM", ">")
    data = samples.astype(f"{sign}u2").tobytes()
    tags = [(256, 4, 1, width), (257, 4, 1, height), (259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, bands), (278, 4, 1, height)]
    tags += [(279, 4, 1, len(data))]
    begin = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = [
        struct.pack(f"{sign}HHI", *tag[:3]) + struct.pack(f"{sign}{'H2x' if tag[1] == 3 else 'I'}", tag[3]) for tag in tags
    ]
    entries.insert(2, struct.pack(f"{sign}HHII", 258, 3, bands, begin))
    entries.insert(5, struct.pack(f"{sign}HHII", 273, 4, 1, begin + 2 * bands))
    directory = struct.pack(f"{sign}H", len(entries)) + b"".join(entries) + bytes(4)
    return mark + struct.pack(f"{sign}HI", 42, 8) + directory + struct.pack(f"{sign}{bands}H", *[16] * bands) + data


COLOURS = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)
DEEP = {
    "png": deep_png,
    "tiff, little end first": lambda samples: deep_tiff(samples, "little"),
    "tiff, big end first": lambda samples: deep_tiff(samples, "big"),
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_colours_of_a_few_bits_in_16_are_as_bright_as_if_they_were_of_8(kind, bits):
    data = DEEP[kind](np.rint(COLOURS * (2**bits - 1)).astype(np.uint16))
    assert np.abs(np.asarray(open_rgb(data)) - COLOURS * 255).max() <= 0.51
    assert decode(data, NOW).max() > 239
    assert decode(data, BEFORE).max() < 70  # a data set that was begun so goes on so


def test_colours_of_16_bits_stay_as_pillow_reads_them():
    samples = np.rint(COLOURS * 65535).astype(np.uint16)
    assert np.array_equal(np.asarray(open_rgb(deep_png(samples))), samples >> 8)


@pytest.mark.parametrize("opaque", [4095, 65535], ids=["of-12-bits", "of-16-bits"])
def test_transparency_beside_colours_of_12_bits_is_white(opaque):
    alpha = np.zeros((64, 64, 1))
    alpha[:, :32] = opaque
    samples = np.concatenate([np.rint(COLOURS * 4095), alpha], axis=-1).astype(np.uint16)
    seen = np.asarray(open_rgb(deep_png(samples)))
    assert (seen[:, 32:] == 255).all()
    assert np.abs(seen[:, :32] - COLOURS[:, :32] * 255).max() <= 1.01


@pytest.mark.parametrize(
    "facts",
    [{}, {"whole_range": True}, {"whole_range": True, "deep_colour": True}, {"whole_range": True, "exif_rotate": True}],
    ids=str,
)
def test_what_was_fingerprinted_before_keeps_its_facts(facts):
    transform = parse_transform({**CENTER.facts(), **facts})
    assert {name: value for name, value in transform.facts().items() if name not in CENTER.facts()} == facts
    assert parse_transform(transform.facts()) == transform


@pytest.mark.parametrize("name", ["text", "itxt", "icc"])
def test_large_texts_and_profiles_are_no_damage(name):
    image = Image.fromarray(np.full((8, 8, 3), 7, np.uint8))
    notes = PngImagePlugin.PngInfo()
    if name == "icc":
        data = stored(image, icc_profile=bytes(3 << 20))
    else:
        (notes.add_text if name == "text" else notes.add_itxt)("workflow", "x" * (3 << 20), zip=True)
        data = stored(image, pnginfo=notes)
    assert (decode(data, NOW) == 7).all()


@pytest.mark.parametrize(("bands", "bits"), [(13, 16), (7, 8), (2, 64)])
def test_bands_that_pillow_cannot_read_are_said_and_nothing_is_printed(bands, bits, capfd):
    pixels = bytes(16 * 16 * bands * bits // 8)
    base = 8 + 2 + 11 * 12 + 4
    entry = lambda tag, kind, count, value: struct.pack("<HHII", tag, kind, count, value)  # noqa: E731
    entries = [
        entry(256, 4, 1, 16), entry(257, 4, 1, 16), entry(258, 3, bands, base if bands > 2 else bits | bits << 16),
        entry(259, 3, 1, 1), entry(262, 3, 1, 1), entry(273, 4, 1, base + 4 * bands), entry(277, 3, 1, bands),
        entry(278, 4, 1, 16), entry(279, 4, 1, len(pixels)), entry(284, 3, 1, 1),
        entry(339, 3, bands, base + 2 * bands if bands > 2 else 1 | 1 << 16),
    ]  # fmt: skip
    arrays = struct.pack(f"<{bands}H", *[bits] * bands) + struct.pack(f"<{bands}H", *[1] * bands)
    data = b"II*\0" + struct.pack("<IH", 8, 11) + b"".join(entries) + struct.pack("<I", 0) + arrays + pixels
    with pytest.raises(ImageError, match=rf"^unsupported: {bands} bands of {bits} bits, which Pillow cannot read$"):
        decode(data, NOW)
    with pytest.raises(ImageError, match=r"^truncated"):
        decode(data[:-20], NOW)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("extension", sorted(EXTENSIONS))
def test_whatever_enqueue_takes_is_decoded(extension):
    [kind] = [kind for kind, extensions in IMAGE_FORMATS.items() if extension in extensions]
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this build of Pillow has no AVIF")
    if kind == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("this build of Pillow has no JPEG 2000")
    data = stored(Image.fromarray(np.full((40, 40, 3), 90, np.uint8)), kind)
    assert abs(decode(data, NOW).astype(int) - 90).max() < 9


def _frames(kind):
    return stored(picture(16, 16, 0), kind, save_all=True, append_images=[picture(16, 16, 1)])


def _with_nan():
    values = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    values[:2] = np.nan
    return stored(Image.fromarray(values), "TIFF")


# Kinds that people bring beside those above: each is decoded, and neither black, white nor one colour.
SIBLINGS = {
    "animated GIF": lambda: _frames("GIF"),
    "animated PNG": lambda: _frames("PNG"),
    "animated WebP": lambda: _frames("WEBP"),
    "photo with a preview behind it": lambda: _frames("MPO"),
    "CMYK JPEG": lambda: stored(picture(16, 16).convert("CMYK"), "JPEG"),
    "CMYK TIFF": lambda: stored(picture(16, 16).convert("CMYK"), "TIFF"),
    "Lab TIFF": lambda: stored(picture(16, 16).convert("LAB"), "TIFF"),
    "1 bit": lambda: stored(picture(16, 16).convert("1"), "PNG"),
    "float TIFF with NaN": _with_nan,
    "16-bit PGM": lambda: b"P5\n16 16\n65535\n" + np.arange(256, dtype=">u2").tobytes(),
    "PGM of 1,000 levels": lambda: b"P5\n16 16\n1000\n" + (np.arange(256, dtype=">u2") * 3).tobytes(),
    "bytes behind the end": lambda: stored(picture(16, 16), "JPEG") + b"x" * 1000,
}


@pytest.mark.parametrize("make", SIBLINGS.values(), ids=SIBLINGS)
def test_what_else_people_bring_is_neither_black_nor_white(make):
    pixels = np.asarray(open_rgb(make()))
    assert pixels.shape == (16, 16, 3)
    assert pixels.std() > 10
