import io

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from headstart.features.images import masks
from headstart.features.images.decode import MAX_PIXELS, ImageError
from headstart.features.images.masks import MaskFile, read_mask, read_palette
from headstart.pipeline.errors import HeadstartError
from tests.support import run_python

NUMBERS = np.array([[0, 1, 2], [3, 11, 200]])


def read(path, *palette, **options):
    return read_mask(MaskFile(path.parent, path.name), False, *palette, **options)


def _grey(path):
    Image.fromarray(NUMBERS.astype(np.uint8)).save(path)


def _palette(path):
    image = Image.fromarray(NUMBERS.astype(np.uint8), "P")
    image.putpalette(np.random.default_rng(0).bytes(768))
    image.save(path)


def _deep(path):
    Image.fromarray(NUMBERS.astype(np.uint16) * 300).save(path)


def _big_endian(path):
    Image.fromarray(NUMBERS.astype(">u2") * 300).save(path, "TIFF")


@pytest.mark.parametrize("pixels_a_strip", [1 << 20, 3], ids=["at once", "in strips"])
@pytest.mark.parametrize(
    ("write", "times"),
    [(_grey, 1), (_palette, 1), (_deep, 300), (_big_endian, 300)],
    ids=["grey", "palette", "16 bits", "big-endian TIFF"],
)
def test_a_mask_is_the_numbers_in_its_file(tmp_path, monkeypatch, write, times, pixels_a_strip):
    monkeypatch.setattr(masks, "_STRIP_PIXELS", pixels_a_strip)
    write(tmp_path / "mask.png")
    np.testing.assert_array_equal(read(tmp_path / "mask.png"), NUMBERS * times)


def test_a_mask_of_bits_is_numbers_too(tmp_path):
    Image.fromarray(NUMBERS > 2).save(tmp_path / "mask.png")
    bits = read(tmp_path / "mask.png")
    assert bits.dtype == np.uint8
    np.testing.assert_array_equal(bits, NUMBERS > 2)


def test_colours_are_the_classes_of_the_list_and_others_are_told_apart(tmp_path, monkeypatch):
    (tmp_path / "palette.txt").write_text("# R G B name\n128 0 0 car\n0,128,0, tall tree\n0 0 0 void\n")
    palette = read_palette(tmp_path / "palette.txt")
    assert palette.names == ("car", "tall tree")
    pixels = np.array([[[128, 0, 0], [0, 128, 0]], [[0, 0, 0], [1, 2, 3]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    monkeypatch.setattr(masks, "_STRIP_PIXELS", 2)
    np.testing.assert_array_equal(read(tmp_path / "mask.png", palette, void=77), [[0, 1], [77, -1]])


def _colours(path):
    Image.new("RGB", (3, 2)).save(path)


def _cut(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 99, (50, 50)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-900])


def _huge(path):
    Image.new("L", (4, 4)).save(path, "GIF")
    data = bytearray(path.read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"  # 65,535 x 65,535
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("write", "code", "said"),
    [
        (lambda path: path.with_name("other.png").touch(), "missing", "there is no such file"),
        (lambda path: path.write_bytes(b"no image"), "not_an_image", "none of JPEG, PNG"),
        (_cut, "truncated", ""),
        (_colours, "not_a_mask", "it is RGB, expected one number a pixel. List its colours: --palette FILE"),
        (lambda path: path.mkdir(), "not_a_file", "a folder"),
        (_huge, "too_large", ""),
    ],
    ids=["missing", "no image", "cut off", "in colours", "a folder", "billions of pixels"],
)
def test_what_is_no_mask_says_so_on_one_line(tmp_path, write, code, said):
    write(tmp_path / "mask.png")
    with pytest.raises(ImageError) as caught:
        read(tmp_path / "mask.png")
    assert caught.value.code == code
    assert said in caught.value.reason
    assert "\n" not in caught.value.reason


def _claims(edge, mode):
    """A TIFF of one pixel whose header claims `edge` x `edge`."""

    def write(path):
        tags = ImageFileDirectory_v2()
        tags[256] = tags[257] = tags[278] = edge
        tags[258], tags[259], tags[262], tags[277] = (8,) * len(mode), 1, 2 if mode == "RGB" else 1, len(mode)
        tags[273], tags[279] = 8, 1
        file = io.BytesIO()
        tags.save(file)
        path.write_bytes(file.getvalue() + b"0")

    return write


def _grows_by(code, path):
    """What `code` says, and by how much the process's peak of memory grows, in bytes."""
    status, output, errors = run_python(GROWTH.format(code=code), str(path))
    assert status == 0, errors
    said, _, growth = output.strip().rpartition(" ")
    return said, int(growth)


GROWTH = """
import sys
from pathlib import Path
from PIL import Image, PngImagePlugin, TiffImagePlugin
from headstart.features.images.decode import MAX_PIXELS, ImageError
from headstart.features.images.masks import MaskFile, Palette, read_mask
from headstart.pipeline.memory import peak_rss_bytes
path = Path(sys.argv[1])
palette = Palette(("ground",), ((0, 0, 0),))
before = peak_rss_bytes()
try:
    said = {code}
except ImageError as error:
    said = error
print(said, peak_rss_bytes() - before)
"""
READ = "read_mask(MaskFile(path.parent, path.name), False).shape"
READ_COLOURS = "read_mask(MaskFile(path.parent, path.name), False, palette).shape"


@pytest.mark.parametrize(("mode", "code"), [("L", READ), ("RGB", READ_COLOURS)], ids=["numbers", "colours"])
def test_a_mask_that_claims_billions_of_pixels_is_refused_by_a_bound_and_takes_no_memory(tmp_path, mode, code):
    _claims(50_000, mode)(tmp_path / "mask.tif")
    said, growth = _grows_by(code, tmp_path / "mask.tif")
    assert said.startswith("too_large: ")
    assert f"{MAX_PIXELS}" in said
    assert growth < 30e6


@pytest.mark.parametrize(
    ("mode", "code", "bytes_a_pixel"), [("L", READ, 2), ("RGB", READ_COLOURS, 8)], ids=["numbers", "colours"]
)
def test_a_large_mask_is_read_in_hardly_more_memory_than_its_pixels_and_numbers_take(tmp_path, mode, code, bytes_a_pixel):
    edge = 6000
    Image.new(mode, (edge, edge)).save(tmp_path / "mask.png")
    said, growth = _grows_by(code, tmp_path / "mask.png")
    assert said == f"({edge}, {edge})"
    assert growth < (bytes_a_pixel + 1) * edge**2 + 50e6


def test_a_mask_is_of_a_format_that_images_may_have(tmp_path, monkeypatch):
    Image.fromarray(NUMBERS.astype(np.uint8)).save(tmp_path / "mask.eps")  # Pillow starts another program to draw one
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **options: Image.new("L", (3, 2)).im)
    with pytest.raises(ImageError, match="not_an_image: none of JPEG, PNG"):
        read(tmp_path / "mask.eps")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("128 0 car", "line 1: '128 0 car' is no colour of a class"),
        ("128 0 256 car", "line 1: '128 0 256 car' is no colour"),
        ("1 2 3 car\n1 2 3 tree", "line 2: the colour 1 2 3 stands twice"),
        ("# nothing", "lists no class"),
        ("0 0 0 void", "lists no class"),
        (None, "cannot be read"),
    ],
    ids=["two numbers", "no byte", "twice", "empty", "void alone", "not there"],
)
def test_a_list_of_colours_that_is_none_names_its_line(tmp_path, text, said):
    if text is not None:
        (tmp_path / "palette.txt").write_text(text)
    with pytest.raises(HeadstartError) as caught:
        read_palette(tmp_path / "palette.txt")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
