import os

import pytest

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.output_files import refuse_place, write_output


def test_an_output_is_written_once_and_never_over_something_else_unasked(tmp_path):
    path = tmp_path / "model.onnx"
    assert write_output(path, b"one")
    assert not write_output(path, b"one")
    with pytest.raises(HeadstartError, match="holds something else"):
        write_output(path, b"two", remedy="Move it")
    assert path.read_bytes() == b"one"
    assert write_output(path, b"two", force=True)
    assert path.read_bytes() == b"two"
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]


PLACES = {
    "a folder": (lambda folder: folder, "is a folder. Name a file"),
    "below no folder": (lambda folder: folder / "none" / "model.onnx", "is no folder. Make it"),
    "a pipe": (lambda folder: folder / "pipe", "is no ordinary file"),
}


@pytest.mark.parametrize(("place", "says"), PLACES.values(), ids=PLACES)
def test_a_place_that_takes_no_file_is_refused_before_the_work(tmp_path, place, says):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HeadstartError, match=says):
        refuse_place(place(tmp_path))
    refuse_place(tmp_path / "model.onnx")
