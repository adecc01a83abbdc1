import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from headstart.features.encoders.spec import EncoderSpec, read_encoder
from headstart.features.images.decode import decode
from headstart.features.images.transform import draft, parse_transform
from headstart.pipeline.errors import HeadstartError
from tests.features.samples import CENTER, TRANSFORMS, picture, saved
from tests.support import run_cli

FAST = replace(CENTER, fast_decode=True)
SPEC = EncoderSpec("net", {}, "somewhere", "00" * 32, CENTER, "avg", 8)


def smooth(width, height):
    """Like a large photo: no detail as fine as a pixel."""
    return picture(16, 12).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("size", "decoded"),
    [((1023, 1024), (1023, 1024)), ((1024, 1024), (512, 512)), ((3001, 2049), (751, 513)), ((9000, 4100), (1125, 513))],
    ids=["just below", "half", "a quarter", "an eighth"],
)
def test_a_large_jpeg_is_decoded_smaller_but_to_no_less_than_twice_the_target(size, decoded):
    image = Image.open(io.BytesIO(saved(Image.new("RGB", size), "JPEG")))
    draft(image, FAST)  # 224 pixels are cut from 256, so 512 are decoded
    image.load()
    assert image.size == decoded


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("size", [(2400, 1801), (1333, 2500)], ids=str)
def test_the_pixels_stay_in_their_place(size, transform):
    if transform.interpolation == "nearest":
        pytest.skip("takes single pixels of the smaller image, which are means of the larger one's")
    data = saved(smooth(*size), "JPEG", quality=95)
    exact, fast = decode(data, transform), decode(data, replace(transform, fast_decode=True))
    assert fast.shape == exact.shape
    assert not np.array_equal(fast, exact)
    assert np.abs(fast.astype(int) - exact).mean() < 1


@pytest.mark.parametrize(
    "data",
    [
        saved(picture(1000, 900), "PNG"),
        saved(picture(500, 400), "JPEG"),
        saved(picture(3, 2000), "JPEG"),
    ],
    ids=["PNG", "small JPEG", "strip"],
)
def test_other_images_are_decoded_as_ever(data):
    np.testing.assert_array_equal(decode(data, FAST), decode(data, CENTER))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_every_mode_of_jpeg_becomes_rgb(mode):
    data = saved(smooth(2100, 2100).convert(mode), "JPEG", quality=95)
    assert np.abs(decode(data, FAST).astype(int) - decode(data, CENTER)).mean() < 1


def test_exact_decoding_keeps_the_fingerprint_it_had_before_there_was_another():
    assert SPEC.fingerprint == "345566c87e37ee2aa89d1d5ecea0212bcb603b56db8930a8b41cc0967fef9c85"
    assert "fast_decode" not in CENTER.facts()


def test_fast_decoding_has_a_folder_of_its_own_and_is_read_back(tmp_path):
    spec = replace(SPEC, transform=FAST)
    assert spec.folder_name != SPEC.folder_name
    (tmp_path / "encoder.json").write_bytes(spec.to_json())
    assert read_encoder(tmp_path) == spec
    assert parse_transform(FAST.facts()) == FAST
    (tmp_path / "encoder.json").write_bytes(spec.to_json().replace(b"true", b"false"))
    with pytest.raises(HeadstartError, match="damaged"):
        read_encoder(tmp_path)


def test_enqueue_takes_both_side_by_side(tmp_path):
    (tmp_path / "photos").mkdir()
    picture(40, 30).save(tmp_path / "photos/a.jpg")
    for extra in ([], ["--fast-decode"]):
        done = run_cli("enqueue", "photos", "--weights", "embedded", *extra, "-w", "w", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    folders = list((tmp_path / "w/features").glob("encoder_*"))
    assert sorted(read_encoder(folder).transform.fast_decode for folder in folders) == [False, True]
