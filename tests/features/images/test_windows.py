"""Windows of images: their pixels are those of the whole, read in parts where the whole is large, and of what was enqueued."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from headstart.features.images import bands, windows
from headstart.features.images.decode import ImageError
from headstart.features.images.windows import WindowReader, size_of_image, windows_of
from headstart.features.manifest.content import digest_of_bytes
from headstart.features.manifest.parts import Row
from headstart.features.manifest.patches import Window
from headstart.features.manifest.reading import Dataset
from headstart.features.sources.source import Image as Listed

SIZE = (90, 70)


def pixels():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def saved(folder, name, **more):
    """The image there as a row of a manifest, and the data set."""
    Image.fromarray(pixels()).save(folder / name, **more)
    facts = (folder / name).stat()
    row = Row(Listed(name, "", "", "", facts.st_size, facts.st_mtime_ns, (), digest_of_bytes((folder / name).read_bytes())), 5)
    return Dataset(str(folder), "flat", None, {}, 0, False), row


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("is_large", [False, True])
def test_every_window_has_the_pixels_of_the_whole(tmp_path, monkeypatch, name, is_large):
    for module in (bands, windows):
        monkeypatch.setattr(module, "LARGE_PIXELS", 100 if is_large else 10**9)
    dataset, row = saved(tmp_path, name, **({"tiffinfo": {278: 8}} if name.endswith("tif") else {}))
    if is_large and name.endswith("tif"):
        monkeypatch.setattr(windows, "open_whole_reader", lambda dataset: lambda row: pytest.fail("read at once"))
    read = WindowReader(dataset, 32)
    chosen = windows_of(*SIZE, 32, 8)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda window: read(row, window, SIZE), chosen))
    for (x, y, width, height), part in zip(chosen, parts, strict=True):
        np.testing.assert_array_equal(part, pixels()[y : y + height, x : x + width])


def test_windows_cover_an_image_and_the_last_are_shifted_to_end_with_it():
    for size in [(32, 32), (33, 64), (90, 70), (300, 31)]:
        covered = np.zeros(size, int)
        for x, y, width, height in windows_of(*size, 32, 8):
            assert (height, width) == (min(32, size[0]), min(32, size[1]))
            covered[y : y + height, x : x + width] += 1
        assert covered.shape == size
        assert covered.min() == 1


def test_what_is_beyond_a_small_image_goes_on_as_its_edge_is(tmp_path):
    dataset, row = saved(tmp_path, "a.png")
    part = WindowReader(dataset, 100)(row, Window(0, 0, 70, 90), SIZE)
    np.testing.assert_array_equal(part, np.pad(pixels(), ((0, 10), (0, 30), (0, 0)), mode="edge"))


def _other_pixels(path):
    Image.fromarray(255 - pixels()).save(path, tiffinfo={278: 8})


def _touched(path):
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize(("harm", "is_fine"), [(_touched, True), (_other_pixels, False)], ids=["another time", "other bytes"])
def test_an_image_is_what_was_enqueued_or_has_no_pixels(tmp_path, monkeypatch, is_large, harm, is_fine):
    for module in (bands, windows):
        monkeypatch.setattr(module, "LARGE_PIXELS", 100 if is_large else 10**9)
    dataset, row = saved(tmp_path, "a.tif", tiffinfo={278: 8})
    harm(tmp_path / "a.tif")
    read = WindowReader(dataset, 32)
    if is_fine:
        np.testing.assert_array_equal(read(row, Window(0, 0, 32, 32), SIZE), pixels()[:32, :32])
        return
    with pytest.raises(ImageError) as caught:
        read(row, Window(0, 0, 32, 32), SIZE)
    assert caught.value.code == "changed"


def test_an_image_of_another_size_than_its_windows_were_chosen_for_is_said_to_have_changed(tmp_path):
    dataset, row = saved(tmp_path, "a.png")
    with pytest.raises(ImageError, match="its size is no longer that of its patches"):
        WindowReader(dataset, 32)(row, Window(0, 0, 32, 32), (90, 71))


def test_the_size_is_told_by_the_header_and_turned_only_if_that_is_asked_for(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels()).save(tmp_path / "a.jpg", exif=exif)
    assert size_of_image(tmp_path, "a.jpg", False) == SIZE
    assert size_of_image(tmp_path, "a.jpg", False, is_turned=True) == SIZE[::-1]


@pytest.mark.parametrize(
    ("data", "code"),
    [(None, "missing"), (b"", "not_an_image"), (b"no image", "not_an_image"), (b"\x89PNG\r\n\x1a\n", "truncated")],
    ids=["missing", "empty", "text", "a header that ends"],
)
def test_what_has_no_size_says_why(tmp_path, data, code):
    (tmp_path / "other.png").write_bytes(b"")
    if data is not None:
        (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError) as caught:
        size_of_image(tmp_path, "a.png", False)
    assert caught.value.code == code
