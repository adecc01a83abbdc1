"""Reading waits for nothing, follows nothing and ends."""

import os

import pytest

from headstart.pipeline import paths
from headstart.pipeline.doors import reading
from headstart.pipeline.doors.reading import UnreadableError
from headstart.pipeline.paths import LinkError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no pipes and devices there")


@pytest.fixture
def root(tmp_path):
    paths.enter(tmp_path)
    return tmp_path


ODD = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a file": lambda path: path.symlink_to(__file__),
    "a dangling link": lambda path: path.symlink_to("/nowhere/else"),
    "a link to itself": lambda path: path.symlink_to(path),
    "too long": lambda path: path.write_bytes(bytes(101)),
    "sparse": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD.keys())
def test_what_is_no_file_of_ours_is_one_line(root, make):
    path = root / "odd"
    make(path)
    with pytest.raises((UnreadableError, LinkError), match="odd") as caught:
        reading.read(path, 100)
    assert "\n" not in str(caught.value)
    with pytest.raises((UnreadableError, LinkError)), reading.opened(path, 100):
        pass


@pytest.mark.parametrize("size", [0, 1, 99, 100], ids=["empty", "one", "below the limit", "at the limit"])
def test_a_file_within_the_limit_is_read_whole(root, size):
    (root / "file").write_bytes(b"x" * size)
    assert reading.read(root / "file", 100) == b"x" * size
    assert reading.read_given(root / "file", 100) == b"x" * size


def test_a_file_that_says_it_is_empty_and_goes_on_is_read_to_the_limit():
    # As /proc has them. The limit counts what came, not what was announced.
    from pathlib import Path

    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc here")
    assert len(reading.read_given(Path("/proc/self/maps"), 1 << 20)) > 100
    with pytest.raises(UnreadableError, match="more than"):
        reading.read_given(Path("/proc/self/maps"), 10)


def test_what_the_user_named_may_be_a_link_and_no_device(root):
    (root / "file").write_text("x")
    (root / "link").symlink_to(root / "file")
    (root / "zero").symlink_to("/dev/zero")
    assert reading.read_given(root / "link", 10) == b"x"
    with pytest.raises(UnreadableError, match="is a device"):
        reading.read_given(root / "zero", 10)


def test_a_missing_file_is_missing(root):
    with pytest.raises(FileNotFoundError):
        reading.read(root / "gone")
