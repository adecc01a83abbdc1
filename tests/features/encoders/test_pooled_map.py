"""The map whose mean a vector is, out of the graph that computes features."""

import numpy as np
import pytest

from headstart.features.encoders.pooled_map import open_with_pooled_map
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.runtime import open_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace
from tests.features.samples import picture


def saved(folder, model, **more):
    weights = "embedded" if model == "resnet10t" else "random:0"
    request = EncoderRequest(model, weights, None if weights == "embedded" else 96, **more)
    return save_encoder(open_or_create_workspace(folder / "w"), *resolve_encoder(request))


@pytest.mark.parametrize("model", ["resnet10t", "test_efficientnet", "test_resnet"])
def test_vectors_are_those_of_the_encoder_and_the_mean_of_the_map(tmp_path, model):
    folder = saved(tmp_path, model)
    plain, mapped = open_encoder(folder, "cpu"), open_with_pooled_map(folder)
    height, width = plain.spec.transform.image_size
    images = np.stack([np.asarray(picture(width, height, seed)) for seed in range(3)])
    expected, rows = plain.encode(images), mapped.encode(images)
    vectors, maps = rows[:, : plain.spec.embed_dim], rows[:, plain.spec.embed_dim :]
    tolerance = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(vectors, expected, atol=tolerance)
    maps = maps.reshape(3, *mapped.spec.spatial.shape)
    assert maps.shape[2] > 1
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), expected, atol=tolerance)


@pytest.mark.parametrize(
    ("model", "more"),
    [
        pytest.param("test_vit", {}, id="a token of the class"),
        pytest.param("test_convnext", {}, id="layers after the mean"),
        pytest.param("test_resnet", {"stages": True}, id="more than the mean"),
    ],
)
def test_an_encoder_whose_vectors_are_no_mean_of_a_map_is_refused_in_one_line(tmp_path, model, more):
    with pytest.raises(HeadstartError, match="cannot be explained") as caught:
        open_with_pooled_map(saved(tmp_path, model, **more))
    assert "\n" not in str(caught.value)
