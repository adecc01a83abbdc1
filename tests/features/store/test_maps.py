import shutil

import numpy as np
import pytest

import headstart
from headstart.features.encoders.spec import read_encoder
from headstart.features.planning.disk import predict_disk
from headstart.features.store.maps import open_maps
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_workspace
from tests.features.samples import picture
from tests.jobs.extraction import encoder_of, enqueue, enqueued, work

OPTIONS = ("--encoder", "test_efficientnet", "--image-size", "64x96", "--maps", "8,16,32", "--job-size", "8")


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    root = tmp_path_factory.mktemp("maps")
    (root / "photos").mkdir()
    for number in range(21):
        picture(60 + number, 40, number).save(root / f"photos/{number:02}.png")
    (root / "photos/broken.png").write_bytes(b"no image")
    workspace = enqueue(root / "photos", root / "w", *OPTIONS)
    work(workspace)
    return workspace


@pytest.fixture
def own(extracted, tmp_path):
    """A copy that a test may harm."""
    shutil.copytree(extracted.root, tmp_path / "w")
    return open_workspace(tmp_path / "w")


def test_maps_read_back_are_those_in_the_shards_each_at_its_image(extracted):
    folder = encoder_of(extracted)
    maps = headstart.open_maps(folder)
    assert (len(maps), maps.shape, maps.failed, maps.waiting) == (21, (144, 8, 12), 1, 0)
    assert [maps.columns.path[row] for row in maps.index] != sorted(maps.columns.path)  # shuffled, so that order counts
    expected = {}
    for path in folder.glob("shards/*/*.npz"):
        shard = np.load(path, allow_pickle=False)
        expected |= dict(zip(shard["index"].tolist(), shard["spatial"], strict=True))
    order = [20, 0, 7, 7, 13]
    read = maps.read(order)
    assert read.dtype == np.float16
    np.testing.assert_array_equal(read, [expected[int(maps.index[item])] for item in order])
    assert maps.read([]).shape == (0, 144, 8, 12)


def test_the_disk_that_is_predicted_for_maps_is_what_they_take_and_never_less(extracted):
    folder = encoder_of(extracted)
    files = [*folder.glob("shards/*/*"), *folder.glob("done/*/*")]
    taken, predicted = sum(-(-path.stat().st_size // 4096) * 4096 for path in files), predict_disk(read_encoder(folder), 22, 8)
    assert taken <= predicted <= 1.1 * taken


def test_maps_make_jobs_of_sixteen_unless_another_size_is_asked_for(extracted, tmp_path):
    photos = extracted.root.parent / "photos"
    for more, jobs in (((), 2), (("--job-size", "64"), 1)):
        said = enqueued(photos, tmp_path / f"{jobs}", *OPTIONS[:-2], *more)
        assert f"{jobs} job{'s' * (jobs > 1)} added" in said


def test_jobs_that_are_not_done_are_counted_and_their_rows_left_out(own):
    done = sorted(encoder_of(own).glob("done/*/*.done"))
    done[0].unlink()
    maps = open_maps(encoder_of(own))
    assert (maps.waiting, len(maps) + maps.failed) == (8, 14)
    assert maps.digest != open_maps(encoder_of(own), rows=10).digest
    assert open_maps(encoder_of(own), rows=10).index.max() < 10


def test_the_digest_is_the_same_for_the_same_maps_and_rows_alone(extracted, own):
    assert open_maps(encoder_of(extracted)).digest == open_maps(encoder_of(own)).digest


def _flipped(own):
    [*_, path] = sorted(encoder_of(own).glob("shards/*/*.npz"))
    data = bytearray(path.read_bytes())
    data[-3000] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def _nothing_done(own):
    shutil.rmtree(encoder_of(own) / "done")


@pytest.mark.parametrize(
    ("harm", "asked", "said"),
    [
        (_flipped, None, "cannot be read.*Redo it: headstart verify --deep --repair"),
        (_nothing_done, None, "has no maps yet. Make some: headstart work"),
        (lambda own: None, "other-00000000", "has no maps of other-00000000; it has some of photos-"),
    ],
    ids=["a flipped bit", "nothing done", "another data set"],
)
def test_maps_that_cannot_be_read_are_a_mistake_of_one_line(own, harm, asked, said):
    harm(own)
    with pytest.raises(HeadstartError, match=said) as caught:
        open_maps(encoder_of(own), asked)
    assert "\n" not in str(caught.value)


def test_an_encoder_without_maps_is_a_mistake_that_says_how_to_keep_some(extracted, tmp_path):
    workspace = enqueue(extracted.root.parent / "photos", tmp_path / "w")
    with pytest.raises(HeadstartError, match=r"keeps no feature maps. Enqueue the images again with --maps 8,16,32"):
        open_maps(encoder_of(workspace))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--maps", "8,x"), "'8,x' are no strides in pixels; write 8,16,32"),
        (("--maps", "0"), "'0' are no strides in pixels"),
        (("--image-size", "360x"), "'360x' is no size in pixels; write 224, or 360x480"),
        (("--image-size", "1x2x3"), "'1x2x3' is no size in pixels"),
        (("--image-size", "0"), "'0' is no size in pixels"),
    ],
    ids=["no number", "zero", "half a size", "three edges", "no edge"],
)
def test_strides_and_sizes_that_are_none_are_refused(extracted, tmp_path, arguments, said):
    from click.testing import CliRunner

    from headstart.cli import group

    done = CliRunner().invoke(group, ["enqueue", str(extracted.root.parent / "photos"), "-w", str(tmp_path), *arguments])
    assert done.exit_code == 2
    assert said in done.output
