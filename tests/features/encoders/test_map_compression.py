"""Maps made smaller: what is kept is what was fitted, an image's own, and the same in numpy, in torch and after a kill."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.features.encoders.map_compression import (
    PROJECTION_NAME,
    MapCompression,
    as_module,
    fit_projection,
    parse_compression,
    parse_facts,
    read_projection,
)
from headstart.pipeline.errors import HeadstartError

CHANNELS = 12


def places(count=4000, rank=4):
    """Channels of very different sizes that depend on `rank` numbers alone."""
    draw = np.random.default_rng(0)
    mixing = draw.standard_normal((rank, CHANNELS))
    mixed = draw.standard_normal((count, rank)) @ mixing
    return (mixed * 10.0 ** np.linspace(-2, 2, CHANNELS) + 5).astype(np.float32)


def maps(count=3):
    return places(count * 20).reshape(count, 4, 5, CHANNELS).transpose(0, 3, 1, 2).astype(np.float16)


@pytest.mark.parametrize("text", ["pca:4", "int8", "pca:4,int8"])
def test_what_is_kept_has_the_asked_shape_and_type_and_depends_on_each_image_alone(text):
    projection = fit_projection(places(), parse_compression(text)).projection
    kept = projection.compressed(maps())
    assert kept.shape == (3, 4 if "pca" in text else CHANNELS, 4, 5)
    assert kept.dtype == (np.int8 if "int8" in text else np.float16)
    for row in range(3):
        np.testing.assert_array_equal(kept[row : row + 1], projection.compressed(maps()[row : row + 1]))
    assert projection.restored(kept).dtype == np.float16


def test_what_many_quiet_channels_agree_on_counts_for_more_than_one_loud_channel():
    draw = np.random.default_rng(1)
    shared, loud = draw.standard_normal(2000), 100 * draw.standard_normal((2000, 6))
    quiet = 0.01 * (shared[:, None] + 0.05 * draw.standard_normal((2000, 6)))
    sample = np.concatenate([quiet, loud], 1).astype(np.float32)
    kept = fit_projection(sample, parse_compression("pca:1")).projection.compressed(
        sample.T.reshape(1, 12, 1, -1).astype(np.float16)
    )
    assert abs(np.corrcoef(kept[0, 0, 0].astype(float), shared)[0, 1]) > 0.99


def test_as_many_components_as_the_channels_depend_on_keep_everything():
    fitted = fit_projection(places(), parse_compression("pca:4"))
    assert fitted.kept > 0.9999
    assert fitted.error == 0
    assert fit_projection(places(), parse_compression("pca:2")).kept < 0.95


def test_bytes_are_off_by_half_a_step_at_most_and_the_error_is_said():
    fitted = fit_projection(places(), parse_compression("int8"))
    sample = maps()
    restored = fitted.projection.restored(fitted.projection.compressed(sample)).astype(float)
    exact = sample.astype(float) - fitted.projection.mean[:, None, None]
    assert (np.abs(restored - exact).max((0, 2, 3)) <= 0.51 * fitted.projection.scale + np.abs(exact).max((0, 2, 3)) * 1e-3).all()
    assert 0 < fitted.error < 1e-3


def test_a_channel_that_says_nothing_does_no_harm():
    dead = places()
    dead[:, 3] = 7
    kept = fit_projection(dead, parse_compression("pca:4,int8")).projection.compressed(maps())
    assert np.abs(kept.astype(int)).max() > 10


@pytest.mark.parametrize("text", ["pca:4", "int8", "pca:4,int8"])
def test_torch_says_what_numpy_says_but_for_the_rounding(text):
    projection = fit_projection(places(), parse_compression(text)).projection
    said = as_module(projection)(torch.from_numpy(maps()).float()).numpy()
    expected = projection.restored(projection.compressed(maps())).astype(np.float32)
    step = 0 if projection.scale is None else projection.scale[:, None, None]
    assert (np.abs(said - expected) <= 0.51 * step + 1e-3 * np.abs(said) + 1e-3).all()


def test_the_same_places_give_the_same_bytes_which_are_read_back(tmp_path):
    asked = parse_compression("pca:4,int8")
    data = fit_projection(places(), asked).projection.encode()
    assert data == fit_projection(places(), asked).projection.encode()
    compression = MapCompression(4, True, hashlib.sha256(data).hexdigest())
    assert parse_facts(compression.facts()) == compression
    (tmp_path / PROJECTION_NAME).write_bytes(data)
    np.testing.assert_array_equal(
        read_projection(tmp_path, compression, CHANNELS).compressed(maps()),
        fit_projection(places(), asked).projection.compressed(maps()),
    )


@pytest.mark.parametrize(
    "harm", [lambda data: data[:-1], lambda data: data[:200] + b"x" + data[201:], None], ids=["cut", "a byte", "gone"]
)
def test_what_was_fitted_and_is_damaged_is_a_mistake_of_one_line(tmp_path, harm):
    data = fit_projection(places(), parse_compression("pca:4")).projection.encode()
    if harm is not None:
        (tmp_path / PROJECTION_NAME).write_bytes(harm(data))
    with pytest.raises(HeadstartError, match=r"cannot be read .* Run the same enqueue again") as caught:
        read_projection(tmp_path, MapCompression(4, False, hashlib.sha256(data).hexdigest()), CHANNELS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("compression", "channels"),
    [(MapCompression(5, False), CHANNELS), (MapCompression(4, True), CHANNELS), (MapCompression(4, False), 13)],
    ids=["other components", "no scale", "other channels"],
)
def test_what_was_fitted_for_other_maps_is_a_mistake_of_one_line(tmp_path, compression, channels):
    data = fit_projection(places(), parse_compression("pca:4")).projection.encode()
    (tmp_path / PROJECTION_NAME).write_bytes(data)
    named = replace(compression, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(HeadstartError, match="its arrays are not those of these maps"):
        read_projection(tmp_path, named, channels)


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("matrix", np.nan, "it holds NaN or infinity"),
        ("mean", np.inf, "it holds NaN or infinity"),
        ("scale", 0, "its scale makes numbers that are no float16"),
        ("scale", 600, "its scale makes numbers that are no float16"),
    ],
    ids=["NaN", "infinity", "all the same", "beyond float16"],
)
def test_numbers_that_make_none_are_refused_however_well_their_digest_fits(tmp_path, name, number, words):
    fitted = fit_projection(places(), parse_compression("pca:4,int8")).projection
    getattr(fitted, name)[..., 2] = number
    data = fitted.encode()
    (tmp_path / PROJECTION_NAME).write_bytes(data)
    with pytest.raises(HeadstartError, match=words):
        read_projection(tmp_path, MapCompression(4, True, hashlib.sha256(data).hexdigest()), CHANNELS)


@pytest.mark.parametrize("text", ["pca:4", "int8", "pca:4,int8"])
@pytest.mark.parametrize("size", [1.0, 65504.0], ids=["fitted to such", "fitted to large ones"])
def test_the_largest_maps_there_are_stay_numbers(text, size):
    sample = places() * (size / np.abs(places()).max())
    projection = fit_projection(sample, parse_compression(text)).projection
    largest = np.full((1, CHANNELS, 2, 2), 65504, np.float16) * np.resize([1, -1], (CHANNELS, 1, 1)).astype(np.float16)
    assert np.isfinite(projection.restored(projection.compressed(largest))).all()


@pytest.mark.parametrize(
    "text", ["pca", "pca:", "pca:0", "pca:x", "int4", "int8,int8", "pca:4,pca:4", "pca:4;int8", "pca:-1", "pca:99999"]
)
def test_what_is_no_compression_is_said_with_how_to_write_one(text):
    with pytest.raises(HeadstartError, match=r"--compress .*: write pca:N, int8 or both"):
        parse_compression(text)


def test_more_components_than_channels_are_refused():
    with pytest.raises(HeadstartError, match=r"--compress pca:13: the maps have 12 channels. Give at most 12"):
        fit_projection(places(), parse_compression("pca:13"))
