import numpy as np
import pytest
from PIL import Image

from headstart.features.encoders.spec import EncoderSpec
from headstart.features.extraction.batching import Batching
from headstart.features.extraction.new_images import encode_new_images, find_new_images
from tests.features.samples import CENTER

SPEC = EncoderSpec("brightness", {}, "nowhere", "00" * 32, CENTER, "avg", 1)


class Brightness:
    """Says how bright an image is; too much for float16 if it is white."""

    spec, device, threads, versions, memory = SPEC, "cpu", 2, {}, None
    closed = 0

    def encode(self, images):
        means = images.reshape(len(images), -1).mean(axis=1, dtype=np.float64)
        return np.where(means == 255, 1e6, means / 3).astype(np.float32)[:, None]

    def close(self):
        self.closed += 1


def picture(path, brightness):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 20), (brightness,) * 3).save(path)
    return path


def test_files_come_as_they_were_named_and_folders_sorted(tmp_path, monkeypatch):
    for name in ("b/2.png", "b/1.png", "a.png", "b/deep/3.png"):
        picture(tmp_path / name, 1)
    (tmp_path / "b" / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    found = find_new_images([tmp_path / "a.png", (tmp_path / "b").relative_to(tmp_path), tmp_path / "gone.png"])
    names = [str(tmp_path / "a.png"), "b/1.png", "b/2.png", "b/deep/3.png", str(tmp_path / "gone.png")]
    assert [image.name for image in found] == names


def test_features_are_rounded_as_on_disk_and_errors_stay_with_their_image(tmp_path):
    places = [picture(tmp_path / f"{number}.png", brightness) for number, brightness in enumerate((100, 255, 7))]
    (tmp_path / "0b.png").write_text("no image")
    encoder = Brightness()
    found = list(encode_new_images(find_new_images([tmp_path, places[2]]), SPEC, lambda: Batching(encoder, 2)))
    expected = [np.float16(100 / 3), None, None, np.float16(7 / 3), np.float16(7 / 3)]
    assert [None if item.features is None else item.features[0] for item in found] == expected
    assert [item.error.code for item in found if item.error] == ["not_an_image", "non_finite"]
    assert encoder.closed == 1


def test_an_image_that_changes_between_listing_and_reading_is_noticed(tmp_path):
    place = picture(tmp_path / "a.png", 1)
    listed = find_new_images([place])
    place.write_bytes(place.read_bytes() + b"more")
    [item] = encode_new_images(listed, SPEC, lambda: Batching(Brightness(), 2))
    assert item.error.code == "changed"


def test_an_encoder_that_cannot_be_opened_ends_it(tmp_path):
    def fail():
        raise RuntimeError("no encoder")

    with pytest.raises(RuntimeError, match="no encoder"):
        list(encode_new_images(find_new_images([picture(tmp_path / "a.png", 1)]), SPEC, fail))
