import os
import warnings

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

from headstart.features.encoders import saved as saved_module
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import read_weights, save_encoder
from headstart.features.encoders.torch_encoder import open_torch
from headstart.features.images.decode import decode
from headstart.features.networks.weights import resolve_weights
from headstart.features.networks.weights_file import read_tensors
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace
from tests.features.samples import data_folder, picture

TINY = "test_efficientnet"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def place(tmp_path):
    return open_or_create_workspace(tmp_path / "workspace")


def saved(place, model=TINY, weights="random:0", image_size=None):
    return save_encoder(place, *resolve_encoder(EncoderRequest(model, weights, image_size)))


def test_tied_tensors_are_stored_once_and_come_back(place):
    spec, weights = resolve_encoder(EncoderRequest("coat_tiny", "random:0", 32))
    folder = save_encoder(place, spec, weights)
    stored = safetensors.torch.load_file(folder / "weights.safetensors")
    pointers = {tensor.data_ptr() for tensor in weights.tensors.values()}
    assert len(stored) == len(pointers) < len(weights.tensors)
    came_back = read_weights(folder, spec)
    assert came_back.keys() == weights.tensors.keys()
    assert all(torch.equal(came_back[name], tensor) for name, tensor in weights.tensors.items())
    assert (
        resolve_encoder(EncoderRequest("coat_tiny", str(folder / "weights.safetensors"), 32))[0].fingerprint == spec.fingerprint
    )


TIED = torch.arange(6.0).reshape(2, 3)
TIES = {
    "the-same": {"a": TIED, "b": TIED},
    "three": {"a": TIED, "b": TIED, "c": TIED, "d": TIED + 1},
    "another-view": {"a": TIED, "b": TIED[:1], "c": TIED.view(6)},
    "equal-but-apart": {"a": TIED, "b": TIED.clone()},
    "empty": {"a": torch.zeros(0), "b": torch.zeros(0, 3)},
}


@pytest.mark.parametrize("tensors", TIES.values(), ids=TIES)
def test_tensors_in_one_memory_come_back_as_they_are(tmp_path, tensors):
    (tmp_path / "x.safetensors").write_bytes(saved_module._stored(tensors))
    came_back = read_tensors(tmp_path / "x.safetensors").tensors
    assert came_back.keys() == tensors.keys()
    assert all(torch.equal(came_back[name], tensor) for name, tensor in tensors.items())


def test_files_that_leave_out_tied_tensors_fit(tmp_path):
    network = timm.create_model("coat_tiny", num_classes=0)
    everything = network.state_dict()
    firsts = {tensor.data_ptr(): name for name, tensor in reversed(everything.items())}
    some = {name: everything[name] for name in firsts.values()}
    for prefix in ("", "backbone."):
        safetensors.torch.save_file({prefix + name: tensor for name, tensor in some.items()}, tmp_path / "x.safetensors")
        fitted = resolve_weights("coat_tiny", {}, str(tmp_path / "x.safetensors")).tensors
        assert all(torch.equal(fitted[name], tensor) for name, tensor in everything.items() if name in fitted)
        assert len(some) < len(fitted)


def photos(encoder, count=2):
    height, width = encoder.spec.transform.image_size
    return np.stack([np.asarray(picture(width, height, seed)) for seed in range(count)])


def cosines(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize(
    ("model", "image_size"), [("vit_tiny_patch16_224", None), ("efficientnet_b0", None), ("convnext_tiny", 64)]
)
def test_features_are_what_timm_hands_to_the_classifier(place, model, image_size):
    encoder = open_torch(saved(place, model, image_size=image_size), "cpu")
    images = photos(encoder)
    reference = timm.create_model(model).eval()
    missing = reference.load_state_dict(
        safetensors.torch.load_file(place.features / encoder.spec.folder_name / "weights.safetensors"), strict=False
    )
    assert not missing.unexpected_keys
    mean, std = (np.array(values, np.float32) for values in (encoder.spec.transform.mean, encoder.spec.transform.std))
    inputs = torch.from_numpy((images.astype(np.float32) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = reference.forward_head(reference.forward_features(inputs), pre_logits=True).numpy()
    features = encoder.encode(images)
    assert features.shape == (2, encoder.spec.embed_dim) == expected.shape
    assert features.dtype == np.float32
    assert expected.std() > 0
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("every", [5, 1], ids=["50 photos", "all 250"])
def test_float16_features_of_photos_are_timms_and_so_are_the_classes(place, every):
    if every == 1 and not os.environ.get("HEADSTART_SLOW_TESTS"):
        pytest.skip("takes half a minute; HEADSTART_SLOW_TESTS=1 runs it")
    folder = data_folder("imagenet-samples")
    weights = folder.parents[1] / "weights" / "mobilenetv2_100.safetensors"
    if not weights.is_file():
        pytest.skip(f"{weights} is absent")
    paths, classes = sorted(folder.iterdir())[::every], 4 * np.arange(250)[::every]
    encoder = open_torch(saved(place, "mobilenetv2_100", str(weights)), "cpu")
    reference = timm.create_model("mobilenetv2_100").eval()
    reference.load_state_dict(
        {name: tensor.float() for name, tensor in safetensors.torch.load_file(weights).items()}, strict=False
    )
    transform = create_transform(**resolve_data_config({}, model=reference), is_training=False)

    ours, theirs = [], []
    for start in range(0, len(paths), 25):
        batch = paths[start : start + 25]
        ours.append(
            encoder.encode(np.stack([decode(path.read_bytes(), encoder.spec.transform) for path in batch])).astype(np.float16)
        )
        with torch.inference_mode():
            inputs = torch.stack([transform(Image.open(path).convert("RGB")) for path in batch])
            theirs.append(reference.forward_head(reference.forward_features(inputs), pre_logits=True).numpy())
    ours, theirs = np.concatenate(ours), np.concatenate(theirs)
    with torch.inference_mode():
        logits = [reference.classifier(torch.from_numpy(features.astype(np.float32))).numpy() for features in (ours, theirs)]

    hits, reference_hits = ((values.argmax(1) == classes).sum() for values in logits)
    similar = cosines(ours, theirs)
    print(f"cosine: mean {similar.mean():.8f}, worst {similar.min():.8f}; top-1: {hits} against {reference_hits} of {len(paths)}")
    assert similar.mean() >= 0.9999
    assert similar.min() >= 0.999
    assert abs(int(hits) - int(reference_hits)) <= 1
    assert reference_hits > 0.75 * len(paths)


def test_the_same_images_give_the_same_bits(place):
    encoder = open_torch(saved(place), "cpu")
    again = open_torch(place.features / encoder.spec.folder_name, "cpu")
    images = photos(encoder, 5)
    torch.manual_seed(3)
    np.testing.assert_array_equal(encoder.encode(images), again.encode(images))
    assert len(np.unique(encoder.encode(images), axis=0)) == 5


def test_no_images_give_no_features(place):
    encoder = open_torch(saved(place), "cpu")
    assert encoder.encode(np.empty((0, 160, 160, 3), np.uint8)).shape == (0, encoder.spec.embed_dim)


def test_read_only_pixels_are_encoded_without_a_warning(place):
    encoder = open_torch(saved(place), "cpu")
    images = photos(encoder)
    expected = encoder.encode(images)
    images.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(encoder.encode(images), expected)


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 160, 160, 3), np.float32), np.zeros((1, 160, 161, 3), np.uint8), np.zeros((160, 160, 3), np.uint8)],
    ids=["floats", "size", "one"],
)
def test_pixels_of_another_kind_are_refused(place, images):
    with pytest.raises(ValueError, match="expected uint8"):
        open_torch(saved(place), "cpu").encode(images)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_a_mistake(place):
    with pytest.raises(HeadstartError, match="--device cpu"):
        open_torch(saved(place), "cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_features_of_the_cpu(place):
    folder = saved(place)
    images = photos(open_torch(folder, "cpu"), 4)
    assert cosines(open_torch(folder, "cuda").encode(images), open_torch(folder, "cpu").encode(images)).min() > 0.9999
