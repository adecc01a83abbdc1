"""Small pictures of rows: each its own, whatever order and data set, and none of what is gone or hangs."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from headstart.experiments.data import pictures
from headstart.experiments.data.pictures import Pictures
from headstart.features.encoders.resolve import EncoderRequest
from headstart.features.planning.enqueue import enqueue_images
from headstart.pipeline.errors import HeadstartError


@pytest.fixture
def cached(tmp_path):
    """Rows of two data sets in turn; the image of row i is grey, of brightness 20 i."""
    names, index = [], np.empty(8, np.int64)
    for first, name in enumerate(("one", "two")):
        for number in range(4):
            path = tmp_path / name / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (40, 40), (20 * (2 * number + first),) * 3).save(path)
        done = enqueue_images(tmp_path / name, tmp_path / "w", encoder=EncoderRequest("test_resnet", "random:0", 32))
        names.append(done.added.manifest.folder.relative_to(done.workspace.root).as_posix())
        paths = done.added.manifest.read_all().path
        index[first::2] = [paths.index(f"{number}.png") for number in range(4)]
    rows = SimpleNamespace(datasets=tuple(names), dataset=np.arange(8) % 2, index=index)
    return SimpleNamespace(workspace=done.workspace, rows=rows)


def test_each_position_has_its_own_picture(cached):
    seen = Pictures(cached)
    asked = np.array([5, 0, 7, 2, 2, 1])
    assert [int(pixels.mean()) for pixels in seen.take(asked, 8)] == (20 * asked).tolist()
    assert seen.missing == 0


def test_what_is_gone_is_grey_and_counted(cached, tmp_path):
    (tmp_path / "one/1.png").unlink()
    (tmp_path / "two").rename(tmp_path / "away")
    seen = Pictures(cached)
    assert [pixels is None for pixels in seen.take_readable(np.arange(4), 8)] == [False, True, True, True]
    assert seen.missing == 3
    assert [int(pixels.mean()) for pixels in seen.take(np.arange(4), 8)] == [0, 128, 128, 128]


@pytest.fixture
def hanging(monkeypatch):
    """Makes pictures of bright images take for ever, where one may take 0.3 s."""
    monkeypatch.setenv("HEADSTART_PICTURE_S", "0.3")
    over = threading.Event()
    honest = pictures.open_reader

    def opened(dataset, transform):
        read = honest(dataset, transform)

        def slowly(row):
            while read(row).mean() > 70 and not over.is_set():
                pass
            return read(row)

        return slowly

    monkeypatch.setattr(pictures, "open_reader", opened)
    yield
    over.set()


def test_pictures_that_hang_hold_nobody_up_but_are_few(cached, hanging):
    assert [pixels is None for pixels in Pictures(cached).take_readable([0, 4, 2], 8)] == [False, True, False]
    with pytest.raises(HeadstartError, match=r"4 pictures took more than 0.3 s each and go on. Leave them out"):
        Pictures(cached).take_readable(np.arange(8), 8)
