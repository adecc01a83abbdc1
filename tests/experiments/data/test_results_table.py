"""Tables with several results an image."""

import numpy as np
import pytest

from headstart.experiments.data.results_table import places_among, read_results
from headstart.pipeline.errors import HeadstartError

GOOD = "image,a,b,ssim,method\nx.png,1,2,0.5,one\ny.png,3,4,0.25,two\nx.png,5,6,1,one\n"


def write(folder, text):
    path = folder / "results.csv"
    path.write_text(text)
    return path


def test_images_are_named_once(tmp_path):
    results = read_results(write(tmp_path, GOOD), "ssim", ("b", "a"), ("logo_type", "method"))
    assert results.images == ("x.png", "y.png")
    assert results.image.tolist() == [0, 1, 0]
    assert results.values.tolist() == [[2, 1], [4, 3], [6, 5]]
    assert results.target.tolist() == [0.5, 0.25, 1]
    assert {name: values.tolist() for name, values in results.kinds.items()} == {"method": ["one", "two", "one"]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(GOOD.replace("ssim", "sim"), "has no column 'ssim'. Did you mean 'sim'?", id="other target"),
        pytest.param(GOOD.replace("image", "what"), "has no column 'image'", id="no images"),
        pytest.param(GOOD.replace(",3,", ",,"), "row 3: column 'a' is '', expected a number", id="empty cell"),
        pytest.param(GOOD.replace("0.25", "nan"), "row 3: column 'ssim' is", id="no number"),
        pytest.param(GOOD.replace("0.25", "inf"), "row 3: column 'ssim' is", id="infinite"),
        pytest.param(GOOD.replace("0.25", "good"), "row 3: column 'ssim' is 'good'", id="text"),
        pytest.param(GOOD.replace("y.png", " "), "row 3 names no image", id="no name"),
        pytest.param("image,a,b,ssim\n", "has no rows", id="no rows"),
    ],
)
def test_what_is_no_table_of_results_is_one_line(tmp_path, text, why):
    with pytest.raises(HeadstartError) as caught:
        read_results(write(tmp_path, text), "ssim", ("a", "b"))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "paths", "place"),
    [
        ("a/x.png", ["b/x.png", "a/x.png"], 1),
        ("logos/a/x.png", ["b/x.png", "a/x.png"], 1),
        ("x.png", ["b/y.png", "a/x.png"], 1),
        ("x.png", ["b/x.png", "a/x.png"], -1),
        ("z.png", ["b/x.png"], -1),
        ("c/x.png", ["b/x.png"], -1),
    ],
    ids=["same", "from a folder above", "from a folder below", "not clear", "not there", "another folder"],
)
def test_an_image_is_known_by_the_end_of_its_name(image, paths, place):
    assert places_among([image], paths).tolist() == np.array([place]).tolist()
