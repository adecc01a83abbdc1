"""Vectors with more than what the network pools: statistics of its stages and of the image, in torch and in the graph."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.runtime import open_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import DamagedEncoderError, read_encoder
from headstart.features.encoders.torch_encoder import open_torch
from headstart.features.networks.feature_map import outputs
from headstart.features.networks.vector_parts import IMAGE_STATISTICS, VectorParts, image_statistics, parse_parts
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace
from tests.commands.calling import call

TINY = "test_efficientnet"


@pytest.fixture
def place(tmp_path):
    return open_or_create_workspace(tmp_path / "workspace")


def pictures(count=3, size=(64, 64)):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    images[0] = np.linspace(0, 255, size[1], dtype=np.uint8)[:, None]
    return images


@pytest.mark.parametrize(
    ("stages", "image_stats", "maps"),
    [(True, False, ()), (False, True, ()), (True, True, ()), (True, True, (8, 16))],
    ids=["stages", "image_stats", "both", "both-and-maps"],
)
def test_graph_and_torch_give_the_same_parts(place, stages, image_stats, maps):
    spec, weights = resolve_encoder(EncoderRequest(TINY, "random:0", 64, stages=stages, image_stats=image_stats, maps=maps))
    folder = save_encoder(place, spec, weights)
    assert export_graph(folder).refused == ""
    in_torch, in_graph = open_torch(folder, "cpu"), open_encoder(folder, "cpu")
    expected, exported = in_torch.encode(pictures()), in_graph.encode(pictures())
    assert expected.shape == (3, spec.row_length)
    np.testing.assert_allclose(exported, expected, rtol=1e-3, atol=1e-3)
    assert read_encoder(folder) == spec


def test_what_the_network_pools_is_what_it_pools_alone(place):
    plain, weights = resolve_encoder(EncoderRequest(TINY, "random:0", 64))
    more, _ = resolve_encoder(EncoderRequest(TINY, "random:0", 64, stages=True))
    alone = open_torch(save_encoder(place, plain, weights), "cpu").encode(pictures())
    beside = open_torch(save_encoder(place, more, weights), "cpu").encode(pictures())
    np.testing.assert_allclose(beside[:, more.parts.places()["pooled"]], alone, rtol=1e-4, atol=1e-4)
    assert plain.fingerprint != more.fingerprint


def test_stages_are_means_and_deviations_of_their_channels(place):
    spec, weights = resolve_encoder(EncoderRequest(TINY, "random:0", 64, stages=True))
    network = open_torch(save_encoder(place, spec, weights), "cpu")._network
    inputs = torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64)
    with torch.inference_mode():
        [vectors] = outputs(network, inputs, None, spec.parts)
        _, maps = network.forward_intermediates(inputs, norm=True)
    own = vectors[:, spec.parts.places()["stages"]]
    by_reduction = {info["reduction"]: one for info, one in zip(network.feature_info, maps, strict=False)}
    means = torch.cat([one.mean((2, 3)) for _, one in sorted(by_reduction.items())], 1)
    spread = torch.cat([one.flatten(2).std(2, unbiased=False) for _, one in sorted(by_reduction.items())], 1)
    torch.testing.assert_close(own, torch.cat([means, spread], 1), rtol=1e-4, atol=1e-5)


WHITE, HALF, NOISE = (
    np.full((32, 32, 3), 255),
    np.repeat(np.repeat([[0] * 16 + [255] * 16], 32, 0)[..., None], 3, 2),
    np.random.default_rng(1).integers(0, 256, (32, 32, 3)),
)


@pytest.mark.parametrize(
    ("image", "name", "expected"),
    [
        (WHITE, "luma_mean", 1),
        (WHITE, "white", 1),
        (WHITE, "flat", 1),
        (WHITE, "main_colour", 1),
        (WHITE, "colours", 1 / 512),
        (WHITE, "colour_entropy", 0),
        (HALF, "luma_mean", 0.5),
        (HALF, "luma_deviation", 0.5),
        (HALF, "black", 0.5),
        (HALF, "edges", 1 / 31),
        (HALF, "strong_edges", 1 / 31),
        (HALF, "step_mean", 1 / 31),
        (HALF, "laplacian_mean", 2 / 30),
        (HALF, "colours", 2 / 512),
        (HALF, "colour_entropy", np.log(2) / np.log(512)),
        (HALF, "saturation_mean", 0),
        (NOISE, "saturation_mean", (NOISE.max(2) - NOISE.min(2)).mean() / 255),
        (NOISE, "saturation_deviation", (NOISE.max(2) - NOISE.min(2)).std() / 255),
    ],
)
def test_a_statistic_is_what_its_name_says(image, name, expected):
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] / 255
    said = dict(zip(IMAGE_STATISTICS, image_statistics(pixels)[0].tolist(), strict=True))
    assert said[name] == pytest.approx(expected, abs=1e-5)


def test_enqueue_keeps_both_in_one_pass(tmp_path):
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(pictures(3)[number]).save(tmp_path / "photos" / "a" / f"{number}.png")
    words = ("enqueue", tmp_path / "photos", "--weights", "embedded", "--stages", "--image-stats", "-w", tmp_path / "w")
    assert call(*words).status == 0
    assert call("work", "-w", tmp_path / "w").status == 0
    [folder] = (tmp_path / "w" / "features").glob("encoder_*")
    spec = read_encoder(folder)
    assert spec.parts is not None
    assert spec.parts.image_stats
    assert spec.embed_dim == spec.parts.pooled + 2 * sum(spec.parts.stages) + 16
    [payload] = (folder / "shards").glob("*/*.npz")
    values = np.load(payload)["global_pool"]
    assert values.shape == (3, spec.embed_dim)
    luma = values[:, spec.parts.places()["image_stats"]][:, 0]
    assert ((luma > 0.2) & (luma < 0.8)).all()


def test_a_network_without_stages_is_refused_in_one_line():
    with pytest.raises(HeadstartError, match=r"--stages: hiera_tiny_224 .*Leave --stages out") as caught:
        resolve_encoder(EncoderRequest("hiera_tiny_224", "random:0", None, stages=True))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "facts",
    [
        {"pooled": 0, "stages": [3], "image_stats": False},
        {"pooled": 8, "stages": [0], "image_stats": False},
        {"pooled": 8, "stages": [], "image_stats": False},
        {"pooled": 8, "stages": [3], "image_stats": 1},
        {"pooled": 8, "stages": 3, "image_stats": True},
    ],
    ids=["no-vector", "empty-stage", "nothing-beside", "no-truth-value", "no-list"],
)
def test_parts_that_are_none_are_refused(facts):
    with pytest.raises((ValueError, TypeError)):
        parse_parts(facts)


def test_an_encoder_whose_parts_do_not_fit_its_vectors_is_damaged(place):
    spec, weights = resolve_encoder(EncoderRequest(TINY, "random:0", 64, image_stats=True))
    folder = save_encoder(place, spec, weights)
    facts = json.loads((folder / "encoder.json").read_text())
    facts["parts"]["pooled"] += 1
    (folder / "encoder.json").write_text(json.dumps(facts))
    with pytest.raises(DamagedEncoderError):
        read_encoder(folder)


def test_lengths_add_up():
    parts = VectorParts(10, (2, 3), True)
    assert parts.length == 10 + 10 + len(IMAGE_STATISTICS) == 36
    assert parts.places()["image_stats"] == slice(20, 36)
