import h5py
import numpy as np
import pytest

from headstart.features.sources.find import find_images
from headstart.features.sources.source import SourceOptions
from headstart.pipeline.errors import HeadstartError

IMAGES = np.zeros((3, 4, 5, 3), np.uint8)


def write(tmp_path, **datasets):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file.create_dataset(name, data=value)
    return path


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param(None, ["", "", ""], id="none"),
        pytest.param(np.array([2, 0, 10]), ["2", "0", "10"], id="integers"),
        pytest.param([b"dog", b"cat", b"dog"], ["dog", "cat", "dog"], id="fixed-bytes"),
        pytest.param(np.array(["dog", "żółw", "a\nb"], h5py.string_dtype()), ["dog", "żółw", "a\nb"], id="strings"),
    ],
)
def test_each_image_is_a_row_that_sorts_by_number(tmp_path, labels, expected):
    path = write(tmp_path, images=IMAGES, **({} if labels is None else {"labels": labels}))
    source = find_images(path, SourceOptions())
    assert [image.path for image in source.images] == ["x.h5#000000000", "x.h5#000000001", "x.h5#000000002"]
    assert [image.label for image in source.images] == expected
    assert (source.layout, source.file, source.root) == ("hdf5", "x.h5", tmp_path)
    assert {image.size for image in source.images} == {path.stat().st_size}


@pytest.mark.parametrize(
    ("datasets", "says"),
    [
        pytest.param({"data": IMAGES}, "found 'data' (3, 4, 5, 3) uint8", id="missing"),
        pytest.param({}, "found nothing", id="empty"),
        pytest.param({"images": IMAGES[..., 0]}, "found (3, 4, 5) uint8", id="no-channels"),
        pytest.param({"images": np.zeros((3, 3, 4, 5), np.uint8)}, "found (3, 3, 4, 5) uint8", id="channels-first"),
        pytest.param({"images": IMAGES.astype(np.float32)}, "found (3, 4, 5, 3) float32", id="float"),
        pytest.param({"images": IMAGES[:0]}, "holds no image", id="no-images"),
        pytest.param({"images/inner": IMAGES}, "group 'images'", id="group"),
        pytest.param({"images": IMAGES, "labels": [1, 2]}, "of shape (3,)", id="fewer-labels"),
        pytest.param({"images": IMAGES, "labels": [1.0, 2.0, float("nan")]}, "float64", id="float-labels"),
        pytest.param({"images": IMAGES, "labels": [b"a", b"", b"c"]}, "first: row 1", id="empty-label"),
        pytest.param({"images": IMAGES, "labels": [b"cat", b"Cat", b"cat"]}, "row 1 has label 'Cat'", id="case"),
    ],
)
def test_wrong_content_is_named(tmp_path, datasets, says):
    with pytest.raises(HeadstartError) as caught:
        find_images(write(tmp_path, **datasets), SourceOptions())
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_that_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"nonsense")
    with pytest.raises(HeadstartError, match="cannot be read as HDF5"):
        find_images(tmp_path / "x.h5", SourceOptions())


def test_dangling_link_inside_the_file_is_named_not_followed(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = h5py.SoftLink("/nowhere")
    with pytest.raises(HeadstartError, match="expected a dataset 'images'"):
        find_images(tmp_path / "x.h5", SourceOptions())


def test_column_flags_are_refused(tmp_path):
    with pytest.raises(HeadstartError, match="HDF5 file, and --label-col does not apply"):
        find_images(write(tmp_path, images=IMAGES), SourceOptions(label_col="labels"))
