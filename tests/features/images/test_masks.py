import numpy as np
import pytest
from PIL import Image

from headstart.features.images.decode import ImageError
from headstart.features.images.masks import MaskFile, read_mask, read_palette
from headstart.pipeline.errors import HeadstartError

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


@pytest.mark.parametrize(("write", "times"), [(_grey, 1), (_palette, 1), (_deep, 300)], ids=["grey", "palette", "16 bits"])
def test_a_mask_is_the_numbers_in_its_file(tmp_path, write, times):
    write(tmp_path / "mask.png")
    np.testing.assert_array_equal(read(tmp_path / "mask.png"), NUMBERS * times)


def test_colours_are_the_classes_of_the_list_and_others_are_told_apart(tmp_path):
    (tmp_path / "palette.txt").write_text("# R G B name\n128 0 0 car\n0,128,0, tall tree\n0 0 0 void\n")
    palette = read_palette(tmp_path / "palette.txt")
    assert palette.names == ("car", "tall tree")
    pixels = np.array([[[128, 0, 0], [0, 128, 0]], [[0, 0, 0], [1, 2, 3]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mask.png")
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
        (lambda path: path.write_bytes(b"no image"), "not_an_image", "it is no image"),
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
