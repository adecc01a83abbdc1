"""Designs as a data set: reduced as they should be, split the same way always, and refused in one line if they are none."""

import itertools
import json

import numpy as np
import pytest

from headstart.experiments.designs.data_set import find_designs, reduced, require_size
from headstart.experiments.designs.description import DESIGN_FORMATS, GOALS, SCORES
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call

from .made import FILE, allowed, make_designs, make_others


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return open_workspace(make_designs(tmp_path_factory.mktemp("designs"), 40))


@pytest.mark.parametrize("size", [16, 64, 128, 256])
def test_a_design_is_reduced_square_by_square(size):
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    structure = draw.integers(0, 256, (2, 4, 256, 256), dtype=np.uint8)
    structure[:, :2] = draw.random((2, 2, 256, 256)) < 0.5
    planes, fold = reduced(image, structure, size), 256 // size
    assert planes.shape == (2, 7, size, size)
    squares = np.concatenate([image.transpose(0, 3, 1, 2), structure], 1).reshape(2, 7, size, fold, size, fold)
    means = squares.mean((3, 5))
    for channel in (0, 1, 2, 6):
        assert np.abs(planes[:, channel] - means[:, channel]).max() <= 0.5
    assert (planes[:, 3:5] == (means[:, 3:5] >= 0.5)).all()
    assert (planes[:, 5] == squares[:, 5, :, fold // 2, :, fold // 2]).all()


def test_masks_may_be_written_in_any_value_but_0():
    structure = np.zeros((1, 4, 256, 256), np.uint8)
    structure[:, 0, :, :64] = 255
    for size in (64, 256):
        assert reduced(np.zeros((1, 256, 256, 3), np.uint8), structure, size)[0, 3].sum() == size * size // 4


def test_splits_go_by_the_last_digit_and_share_no_design(made):
    splits = find_designs(made, None).splits(32)
    numbers = {name: part.batch(np.arange(len(part)), None).number.tolist() for name, part in splits.named().items()}
    assert numbers["test"] == [0, 10, 20, 30]
    assert numbers["val"] == [1, 11, 21, 31]
    assert sorted(itertools.chain.from_iterable(numbers.values())) == list(range(40))


def test_a_batch_says_what_was_made(made):
    found = find_designs(made, None)
    batch = found.splits(256).train.batch(np.array([3, 0]), None)
    [first, _] = batch.number.tolist()
    metadata = json.loads(found.made.column("metadata")[first])
    assert GOALS[batch.goal[0]] == metadata["goal"]
    assert DESIGN_FORMATS[batch.format[0]] == metadata["format"]
    assert float(batch.tone[0]) == pytest.approx(metadata["tone"])
    assert batch.scores[0].tolist() == pytest.approx([metadata["grammar"][name] for name in SCORES])
    assert (batch.image[0].permute(1, 2, 0).numpy() == found.made.take("image", [first])[0]).all()


def test_a_row_is_the_same_whether_it_was_read_before_or_not(made):
    rows = find_designs(made, None).splits(64).train
    first = rows.batch(np.array([5, 1]), None)
    again = rows.batch(np.array([1, 5, 7]), None)
    fresh = find_designs(made, None).splits(64).train.batch(np.array([1, 5, 7]), None)
    assert (again.image[[1, 0]] == first.image).all()
    for name in ("image", "structure"):
        assert (again.columns[name] == fresh.columns[name]).all()


def test_digests_tell_sizes_and_seeds_apart(made, tmp_path):
    other = open_workspace(make_designs(tmp_path, 40, "--seed", 1))
    digests = [find_designs(place, None).splits(size).digest for place, size in ((made, 32), (made, 64), (other, 32))]
    assert len(set(digests)) == 3
    assert find_designs(made, None).splits(32).digest == digests[0]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        pytest.param("structure", "np.zeros((3, 256, 256), np.uint8)", "is uint8 of shape (3, 256, 256)", id="three channels"),
        pytest.param("structure", "np.zeros((4, 256, 256), np.float32)", "is float32", id="floats"),
        pytest.param("image", "np.zeros((128, 128, 3), np.uint8)", "expected uint8 (256, 256, 3)", id="another size"),
        pytest.param("image", None, "has no image", id="no image"),
        pytest.param("metadata", None, "has no metadata", id="no metadata"),
        pytest.param("metadata", "item.number", "has no metadata as text", id="metadata are numbers"),
        pytest.param("metadata", "'{}'", "design 0: the metadata have no 'goal'", id="metadata say nothing"),
        pytest.param("metadata", "'null'", "no JSON object", id="metadata are null"),
    ],
)
def test_what_is_no_design_is_one_line(tmp_path, name, value, why):
    place = open_workspace(make_others(tmp_path, name, value))
    with pytest.raises(HeadstartError) as caught:
        find_designs(place, None)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_colour_is_one_line(tmp_path):
    place = open_workspace(make_others(tmp_path, "structure", "np.full((4, 256, 256), 16, np.uint8)"))
    with pytest.raises(HeadstartError, match="colour id 16, expected 0 to 15"):
        find_designs(place, None).splits(32).train.batch(np.array([0]), None)


@pytest.mark.parametrize("size", [17, 24, 100, 255, 512])
def test_a_size_that_does_not_divide_is_refused(size):
    with pytest.raises(HeadstartError, match=f"--image-size {size} does not fit"):
        require_size(size, 1)


def test_too_few_designs_are_refused(tmp_path):
    with pytest.raises(HeadstartError, match=r"no design of .* is left for train"):
        find_designs(open_workspace(make_designs(tmp_path, 1)), None).splits(32)


def test_an_unfinished_making_is_refused(tmp_path):
    with allowed(tmp_path):
        done = call("make", FILE, "--count", 130, "--enqueue-only", "-w", tmp_path / "workspace")
        assert done.status == 0, done.errors
        assert call("work", "--max-jobs", 1, "-w", tmp_path / "workspace").status in (0, 10)
    with pytest.raises(HeadstartError, match=r"2 jobs of made_designs_.* are not done"):
        find_designs(open_workspace(tmp_path / "workspace"), None)
