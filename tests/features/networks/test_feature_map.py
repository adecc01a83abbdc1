import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch

from headstart.features.encoders.onnx_encoder import OnnxEncoder
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.runtime import open_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import read_encoder
from headstart.features.encoders.torch_encoder import open_torch
from headstart.features.networks.feature_map import FeatureMap, find_map, find_maps, outputs
from headstart.features.planning import disk
from headstart.features.planning.disk import predict_disk, require_room
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace
from tests.features.images.test_fast_decode import SPEC
from tests.features.samples import picture
from tests.support import run_cli, run_python


def network_of(model, **arguments):
    torch.manual_seed(1)
    return timm.create_model(model, num_classes=0, **arguments).eval()


@pytest.mark.parametrize(
    ("model", "size", "shape"),
    [
        ("test_efficientnet", 96, (256, 3, 3)),
        ("test_resnet", 96, (96, 3, 3)),
        ("test_vit", 160, (64, 10, 10)),
        ("deit_tiny_distilled_patch16_224", 224, (192, 14, 14)),
        ("swin_tiny_patch4_window7_224", 224, (768, 7, 7)),
    ],
    ids=["convolutions", "residual", "tokens behind one prefix", "tokens behind two", "channels last"],
)
def test_the_map_has_the_networks_grid_and_averages_to_what_torch_averages(model, size, shape):
    network = network_of(model)
    whole, pooled = (find_map(network, model, (size, size), pool) for pool in (None, 2))
    assert whole == FeatureMap(None, shape)
    assert pooled == FeatureMap(2, (shape[0], 2, 2))
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        vectors, maps = outputs(network, images, whole)
        _, averaged = outputs(network, images, pooled)
        expected = torch.nn.functional.adaptive_avg_pool2d(maps, 2)
        np.testing.assert_allclose(vectors, network(images), rtol=1e-4, atol=1e-5)
    assert tuple(maps.shape[1:]) == shape
    np.testing.assert_allclose(averaged, expected, rtol=1e-4, atol=1e-5)


def test_the_mean_over_all_places_is_the_vector_where_the_network_pools_so():
    network = network_of("test_efficientnet")
    with torch.inference_mode():
        vectors, maps = outputs(network, torch.randn(2, 3, 96, 96), FeatureMap(None, (256, 3, 3)))
    np.testing.assert_allclose(maps.mean((2, 3)), vectors, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_what_lies_at_the_top_of_the_image_lies_at_the_top_of_the_map(model):
    class Still(torch.nn.Module):
        """The rows of the image, in the layout of a real network: 3 channels that hold each place's row and column."""

    network, real = Still(), network_of(model)
    rows, columns = torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij")
    grid = torch.stack([rows, columns, rows * 0])[None]
    is_channels_last = getattr(real, "output_fmt", "NCHW") == "NHWC"
    tokens = torch.cat([torch.full((1, 1, 3), -1.0), grid.flatten(2).transpose(1, 2)], 1)
    network.num_features, network.num_prefix_tokens = 3, 1
    network.output_fmt, network.patch_embed = "NHWC" if is_channels_last else "NCHW", SimpleNamespace(grid_size=(10, 10))
    network.forward_features = lambda inputs: grid.permute(0, 2, 3, 1) if is_channels_last else tokens
    network.forward_head = lambda features: torch.zeros(1, 3)
    _, maps = outputs(network, torch.zeros(1, 3, 20, 20), FeatureMap(None, (3, 10, 10)))
    np.testing.assert_array_equal(maps, grid)


@pytest.mark.parametrize(
    ("model", "size", "pool", "said"),
    [
        ("test_efficientnet", 96, 4, "has 3 x 3 places. Pass at most 3"),
        ("levit_128s", 224, None, "16 tokens that are no grid"),
        ("hiera_tiny_224", 224, None, "49 tokens that are no grid"),
        ("crossvit_tiny_240", 240, 2, "its features before pooling are no map"),
    ],
    ids=["grid too fine", "patches merged", "units reordered", "two branches"],
)
def test_a_map_that_makes_no_sense_is_a_mistake_of_one_line(model, size, pool, said):
    with pytest.raises(HeadstartError, match=said) as caught:
        find_map(network_of(model), model, (size, size), pool)
    assert str(caught.value).startswith("--spatial")
    assert "\n" not in str(caught.value)


def test_vectors_that_are_not_made_of_the_map_are_noticed():
    network = network_of("test_efficientnet")
    network.forward = lambda inputs: network.forward_head(network.forward_features(inputs)) + 1
    with pytest.raises(HeadstartError, match="not made of its feature map alone"):
        find_map(network, "net", (96, 96), None)


@pytest.mark.parametrize(("model", "pool"), [("test_vit", 3), ("test_efficientnet", 2), ("test_convnext", 0)])
def test_the_graph_gives_the_maps_of_torch(tmp_path, model, pool):
    folder = save_encoder(
        open_or_create_workspace(tmp_path / "w"), *resolve_encoder(EncoderRequest(model, "random:0", 96, spatial=pool))
    )
    assert export_graph(folder).refused == ""
    encoder, reference = open_encoder(folder, "cpu"), open_torch(folder, "cpu")
    assert isinstance(encoder, OnnxEncoder)
    images = np.stack([np.asarray(picture(96, 96, seed)) for seed in range(4)])
    expected = reference.encode(images)
    assert expected.shape == (4, encoder.spec.row_length)
    assert encoder.spec.row_length > encoder.spec.embed_dim
    np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert encoder.encode(images[:0]).shape == (0, encoder.spec.row_length)


@pytest.mark.parametrize(
    ("model", "size", "strides", "shape"),
    [
        ("test_efficientnet", (64, 96), (8, 16, 32), (144, 8, 12)),
        ("test_resnet", (64, 64), (4, 32), (128, 16, 16)),
        ("test_vit", (160, 160), (16,), (64, 10, 10)),
    ],
    ids=["convolutions", "residual", "tokens"],
)
def test_maps_of_several_strides_are_those_of_the_stages_interpolated_as_torch_does_finest_first(model, size, strides, shape):
    network = network_of(model)
    kept = find_maps(network, model, size, strides[::-1])
    assert kept == FeatureMap(None, shape, strides)
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        vectors, maps = outputs(network, images, kept)
        stages = network.forward_intermediates(images, norm=True, intermediates_only=True)
        # Of several stages with one stride the last.
        by_stride = {round(size[0] / one.shape[2]): one for one in stages}
        expected = torch.cat(
            [torch.nn.functional.interpolate(by_stride[stride], size=shape[1:], mode="bilinear") for stride in strides], 1
        )
        np.testing.assert_allclose(vectors, network(images), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "strides", "said"),
    [
        ("test_efficientnet", (8, 12), "--maps 12: test_efficientnet has no map of that stride. Choose from 2, 4, 8, 16, 32"),
        ("hiera_tiny_224", (8, 16), "--maps: hiera_tiny_224 has no maps to keep: normalization of features not supported"),
    ],
    ids=["no such stride", "stages that cannot be had"],
)
def test_maps_that_a_network_does_not_have_are_a_mistake_of_one_line(model, strides, said):
    with pytest.raises(HeadstartError) as caught:
        find_maps(network_of(model), model, (224, 224), strides)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_both_kinds_of_maps_at_once_are_a_mistake():
    with pytest.raises(HeadstartError, match=r"--maps keeps feature maps, and so does --spatial. Leave one of them out"):
        resolve_encoder(EncoderRequest("test_resnet", "random:0", 32, spatial=2, maps=(8,)))


def test_with_maps_the_network_sees_the_whole_image_at_its_proportions_or_those_asked_for():
    spec, _ = resolve_encoder(EncoderRequest("test_efficientnet", "random:0", (64, 96), maps=(8, 16)))
    assert (spec.transform.image_size, spec.transform.crop_mode, spec.transform.crop_pct) == ((64, 96), "squash", 1.0)
    assert spec.spatial == FeatureMap(None, (80, 8, 12), (8, 16))


@pytest.mark.parametrize("strides", [(8,), (8, 16, 32)])
def test_the_graph_gives_the_maps_of_several_strides_of_torch(tmp_path, strides):
    spec, weights = resolve_encoder(EncoderRequest("test_efficientnet", "random:0", (64, 96), maps=strides))
    folder = save_encoder(open_or_create_workspace(tmp_path / "w"), spec, weights)
    assert export_graph(folder).refused == ""
    encoder, reference = open_encoder(folder, "cpu"), open_torch(folder, "cpu")
    assert isinstance(encoder, OnnxEncoder)
    images = np.stack([np.asarray(picture(96, 64, seed)) for seed in range(4)])
    expected = reference.encode(images)
    np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


MAP = FeatureMap(2, (8, 2, 2))
STRIDES = FeatureMap(None, (8, 4, 4), (8, 16))


def test_maps_have_a_folder_of_their_own_and_none_keeps_the_old_one(tmp_path):
    specs = [
        SPEC,
        *(replace(SPEC, spatial=spatial) for spatial in (MAP, FeatureMap(None, (8, 2, 2)), FeatureMap(None, (8, 3, 3)))),
        *(replace(SPEC, spatial=spatial) for spatial in (STRIDES, replace(STRIDES, strides=()), replace(STRIDES, strides=(8,)))),
    ]
    assert len({spec.folder_name for spec in specs}) == 7
    assert b"spatial" not in SPEC.to_json()
    assert b"strides" not in replace(SPEC, spatial=MAP).to_json()
    # A version that knows no strides reads up to format 1.
    assert [json.loads(replace(SPEC, spatial=one).to_json())["format"] for one in (None, MAP, STRIDES)] == [1, 1, 2]
    for spec in specs:
        (tmp_path / "encoder.json").write_bytes(spec.to_json())
        assert read_encoder(tmp_path) == spec


@pytest.mark.parametrize(
    ("found", "put"),
    [
        (b'"pool": 2', b'"pool": 3'),
        (b'"pool": 2', b'"pool": "x"'),
        (b'"spatial": {', b'"spatial": {"shape": []}, "x": {'),
        (b'"strides": [8, 16]', b'"strides": [16, 8]'),
        (b'"strides": [8, 16]', b'"strides": [0, 8]'),
        (b'"strides": [8, 16]', b'"strides": "x"'),
    ],
    ids=["pool is no edge", "pool is no number", "no shape", "strides out of order", "a stride of nothing", "strides of text"],
)
def test_a_damaged_map_is_a_damaged_description(tmp_path, found, put):
    data = replace(SPEC, spatial=STRIDES if b"strides" in found else MAP).to_json()
    data = re.sub(rb"\[\s+8,\s+16\s+\]", b"[8, 16]", data)
    assert found in data
    (tmp_path / "encoder.json").write_bytes(data.replace(found, put))
    with pytest.raises(HeadstartError, match=r"is damaged|newer version"):
        read_encoder(tmp_path)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    root = tmp_path_factory.mktemp("spatial")
    (root / "photos").mkdir()
    for number in range(21):
        picture(40, 30, number).save(root / f"photos/{number}.png")
    (root / "photos/broken.png").write_bytes(b"no image")
    options = ("--weights", "random:0", "--encoder", "test_efficientnet", "--job-size", "8")
    for arguments in (("enqueue", "photos", *options, "--spatial", "2"), ("work",)):
        done = run_cli(*arguments, "-w", "w", cwd=root)
        assert done.returncode == 0, done.stderr
    return next((root / "w/features").glob("encoder_*"))


def test_shards_hold_the_maps_of_the_images_that_have_vectors(extracted):
    spec, rows = read_encoder(extracted), 0
    for path in extracted.glob("shards/*/*.npz"):
        shard = np.load(path, allow_pickle=False)
        assert list(shard) == ["global_pool", "index", "status", "spatial"]
        assert shard["spatial"].shape == (len(shard["index"]), *spec.spatial.shape)
        assert shard["spatial"].dtype == np.float16
        np.testing.assert_allclose(shard["spatial"].astype(float).mean((2, 3)), shard["global_pool"], atol=2e-2)
        rows += len(shard["index"])
    assert rows == 21


def test_the_disk_that_was_predicted_is_what_it_takes_and_never_less(extracted):
    files = [*extracted.glob("shards/*/*"), *extracted.glob("done/*/*")]
    taken, predicted = sum(-(-path.stat().st_size // 4096) * 4096 for path in files), predict_disk(read_encoder(extracted), 22, 8)
    assert taken <= predicted <= 1.3 * taken


def test_too_little_disk_is_a_mistake_with_the_figures(tmp_path, monkeypatch):
    spec = replace(SPEC, spatial=FeatureMap(None, (1280, 7, 7)))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    assert require_room(tmp_path / "encoder", spec, 1000, 64) < 10**9
    with pytest.raises(
        HeadstartError, match=r"10,000 images will take 1\.26 GB on disk.* has 1\.00 GB free.*--spatial 3"
    ) as caught:
        require_room(tmp_path / "encoder", spec, 10_000, 64)
    assert caught.value.exit_code == 1
    (tmp_path / "encoder/shards/0000").mkdir(parents=True)
    with (tmp_path / "encoder/shards/0000/job.npz").open("wb") as file:
        file.truncate(5 * 10**8)  # what is there already needs no more room
    assert require_room(tmp_path / "encoder", spec, 10_000, 64) > 10**9


@pytest.mark.parametrize(
    ("spatial", "less"),
    [
        (FeatureMap(None, (1280, 8, 8), (8, 16, 32)), "--maps 16,32"),
        (FeatureMap(None, (1280, 8, 8), (8,)), "a smaller --image-size"),
        (None, "fewer images, or a smaller --encoder"),
    ],
    ids=["several strides", "one stride", "no maps"],
)
def test_too_little_disk_offers_what_takes_less(tmp_path, monkeypatch, spatial, less):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**5))
    with pytest.raises(HeadstartError) as caught:
        require_room(tmp_path / "encoder", replace(SPEC, spatial=spatial), 10_000, 16)
    assert str(caught.value).endswith(f"or pass {less}")


def test_enqueue_refuses_what_the_disk_cannot_hold_before_it_queues_anything(tmp_path):
    (tmp_path / "photos").mkdir()
    picture(40, 30).save(tmp_path / "photos/0.png")
    code = """
import shutil, types
sys.argv = ["headstart", "enqueue", sys.argv[1] + "/photos", "--weights", "embedded", "--spatial", "-w", sys.argv[1] + "/w"]
shutil.disk_usage = lambda path: types.SimpleNamespace(free=5000)
from headstart.cli import main
main()
"""
    status, _, errors = run_python(code, str(tmp_path))
    assert status == 1
    assert "5.0 kB free" in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "w/features/jobs_queue.csv").exists()


def test_sizes_are_said_in_a_unit_that_fits():
    assert [disk.size_words(size) for size in (900, 2 * 10**6, 3 * 10**9)] == ["0.9 kB", "2.0 MB", "3.00 GB"]
