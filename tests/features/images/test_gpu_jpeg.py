"""Decoding on a GPU: the same steps on a CPU, where torchcodec decodes as Pillow does. What only CUDA has is skipped without."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.features.encoders.spec import read_encoder
from headstart.features.extraction import new_images
from headstart.features.extraction.batching import Batching
from headstart.features.images import gpu_jpeg
from headstart.features.images.decode import ImageError, decode, open_decoder
from headstart.features.images.gpu_jpeg import DeviceJpeg
from headstart.features.images.transform import parse_transform
from headstart.pipeline.errors import HeadstartError
from tests.features.extraction.test_new_images import SPEC as BRIGHTNESS
from tests.features.extraction.test_new_images import Brightness
from tests.features.samples import CENTER, TRANSFORMS, picture, saved
from tests.support import run_cli

from .test_fast_decode import SPEC, smooth

ON_DEVICE = replace(CENTER, device_decode=True)
SCALED_BY_TORCH = {name: value for name, value in TRANSFORMS.items() if value.interpolation in gpu_jpeg.GPU_INTERPOLATIONS}

DATA = saved(picture(300, 200), "JPEG")


class Watched(DeviceJpeg):
    """Counts what it decoded itself."""

    def __init__(self, transform=ON_DEVICE, device="cpu"):
        super().__init__(transform, device)
        self.decoded = 0

    def __call__(self, data, image):
        pixels = super().__call__(data, image)
        self.decoded += pixels is not None
        return pixels


@pytest.mark.parametrize("transform", SCALED_BY_TORCH.values(), ids=SCALED_BY_TORCH)
@pytest.mark.parametrize("size", [(500, 375), (100, 333), (40, 31), (1201, 1600)], ids=str)
def test_pixels_are_those_of_pillow_within_rounding(size, transform):
    data = saved(picture(*size), "JPEG", quality=90)
    watched = Watched(transform)
    found, expected = decode(data, transform, watched), decode(data, transform)
    assert watched.decoded == 1
    assert (found.shape, found.dtype) == (expected.shape, np.uint8)
    difference = np.abs(found.astype(int) - expected)
    assert difference.mean() < 0.5
    assert np.quantile(difference, 0.999) <= 3  # where Pillow clips between its two passes, single pixels differ by more


def test_grey_jpegs_become_rgb():
    data = saved(smooth(300, 200).convert("L"), "JPEG")
    watched = Watched()
    assert np.abs(decode(data, CENTER, watched).astype(int) - decode(data, CENTER)).max() <= 2
    assert watched.decoded == 1


def _rgb_kept_as_it_is():
    return saved(picture(60, 50), "JPEG", keep_rgb=True)


@pytest.mark.parametrize(
    "data",
    [
        saved(picture(60, 50), "PNG"),
        saved(picture(60, 50).convert("CMYK"), "JPEG"),
        _rgb_kept_as_it_is(),
        saved(picture(2, 3000), "JPEG"),
        saved(Image.new("RGB", (4097, 4096)), "JPEG"),
    ],
    ids=["PNG", "CMYK", "RGB that is no YCbCr", "strip", "very large"],
)
def test_what_a_gpu_does_not_do_as_well_is_left_to_pillow(data):
    watched = Watched()
    np.testing.assert_array_equal(decode(data, ON_DEVICE, watched), decode(data, CENTER))
    assert watched.decoded == 0


def test_a_jpeg_that_is_cut_off_is_said_to_be_so():
    data = saved(picture(300, 200), "JPEG")
    watched = Watched()
    with pytest.raises(ImageError) as caught:
        decode(data[: len(data) // 2], ON_DEVICE, watched)
    assert caught.value.code == "truncated"
    np.testing.assert_array_equal(decode(data[:-2], ON_DEVICE, watched), decode(data, CENTER))  # all that counts is there
    assert watched.decoded == 0
    assert decode(data + b"\0\0", ON_DEVICE, watched).shape == (224, 224, 3)
    assert watched.decoded == 1


@pytest.mark.parametrize("size", [(300, 200), (128, 128)], ids=str)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_nothing_is_turned(size, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(smooth(*size), "JPEG", exif=exif, quality=95)
    watched = Watched()
    assert np.abs(decode(data, ON_DEVICE, watched).astype(int) - decode(data, CENTER)).max() <= 3
    assert watched.decoded == 1


def test_one_image_at_a_time_is_on_the_device():
    watched, running, most = Watched(), 0, 0
    plain = watched._decode

    def counted(*arguments, **options):
        nonlocal running, most
        running += 1
        most = max(most, running)
        threading.Event().wait(0.005)
        running -= 1
        return plain(*arguments, **options)

    watched._decode = counted
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: decode(DATA, ON_DEVICE, watched), range(24)))
    assert (most, watched.decoded) == (1, 24)


def test_without_a_gpu_it_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for device in ("auto", "cpu"):
        with pytest.raises(HeadstartError, match=r"enqueued with --device-decode.*Run this where there is one") as caught:
            open_decoder(ON_DEVICE, device)
        assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(open_decoder(CENTER, "auto")(saved(picture(9, 9), "PNG")).shape, (224, 224, 3))


def test_it_has_a_fingerprint_of_its_own_and_what_is_enqueued_without_it_keeps_the_one_it_had(tmp_path):
    spec = replace(SPEC, transform=ON_DEVICE)
    assert len({spec.fingerprint, SPEC.fingerprint, replace(SPEC, transform=replace(CENTER, fast_decode=True)).fingerprint}) == 3
    assert "device_decode" not in CENTER.facts()
    (tmp_path / "encoder.json").write_bytes(spec.to_json())
    assert read_encoder(tmp_path) == spec
    assert parse_transform(ON_DEVICE.facts()) == ON_DEVICE


def test_enqueue_takes_it_and_work_without_a_gpu_loses_nothing(tmp_path):
    (tmp_path / "photos").mkdir()
    picture(40, 30).save(tmp_path / "photos/a.jpg")
    done = run_cli("enqueue", "photos", "--weights", "embedded", "--device-decode", "-w", "w", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "w/features").glob("encoder_*")
    assert read_encoder(folder).transform.device_decode
    done = run_cli("work", "--device", "cpu", "-w", "w", cwd=tmp_path)
    assert done.returncode not in (0, None)
    assert "enqueued with --device-decode" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(folder.glob("done/*/*.done"))


def test_an_encoder_whose_images_a_gpu_cannot_scale_is_refused(tmp_path, monkeypatch):
    from headstart.features.encoders import resolve

    monkeypatch.setattr(resolve, "_transform_of", lambda model: TRANSFORMS["center, padded"])
    with pytest.raises(HeadstartError, match=r"--device-decode: .* scaled by lanczos, a GPU knows bilinear and bicubic"):
        resolve.resolve_encoder(resolve.EncoderRequest("mobilenetv2_100", "random:0", None, device_decode=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_nearly_the_pixels_of_pillow():
    data = saved(smooth(500, 375), "JPEG", quality=95)
    found = open_decoder(ON_DEVICE, "cuda")(data)
    assert np.abs(found.astype(int) - decode(data, CENTER)).mean() < 2


def test_a_gpu_decodes_in_a_stream_of_its_own_ahead_of_the_encoders(monkeypatch):
    made, entered = [], []

    class Entered:
        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            entered.append(self.stream)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(torch.cuda, "Stream", lambda device, priority: made.append(priority) or len(made))
    monkeypatch.setattr(torch.cuda, "stream", Entered)
    watched = Watched()
    plain = watched._decode
    watched._device = "cuda"
    watched._decode = lambda data, mode, device: plain(data, mode=mode)  # what the fake device decodes stays in memory
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: decode(DATA, ON_DEVICE, watched), range(4)))
    assert made == [-1]
    assert entered == [1] * 4


def test_the_encoder_is_opened_before_the_first_image_is_decoded(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(DATA)
    order = []

    def opened(transform, device):
        def on_device(data):
            order.append("decode")
            return decode(data, CENTER)

        return on_device

    def open_batching():
        order.append("open")
        return Batching(Brightness(), 2)

    monkeypatch.setattr(new_images, "open_decoder", opened)
    spec = replace(BRIGHTNESS, transform=ON_DEVICE)
    [found] = new_images.encode_new_images(new_images.find_new_images([tmp_path]), spec, open_batching, "cuda")
    assert found.error is None
    assert order == ["open", "decode"]
