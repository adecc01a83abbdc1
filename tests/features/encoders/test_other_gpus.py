"""Encoders on GPUs that are not here, with `fake_gpu`: what a device lacks is not asked of it, and what it gives is compared."""

import numpy as np
import pytest

from headstart.features import accelerators
from headstart.features.encoders import torch_encoder
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.torch_encoder import open_torch
from headstart.features.extraction.memory_budget import gpu_facts, plan_batching
from headstart.features.store.load import finished_markers, load_features
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace
from tests.fake_gpu import fake_gpu
from tests.jobs.extraction import draw, encoder_of, enqueue, work

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = ["mps", "xpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = open_or_create_workspace(tmp_path_factory.mktemp("encoder") / "workspace")
    return save_encoder(place, *resolve_encoder(EncoderRequest("test_efficientnet", "random:0", 32)))


IMAGES = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_cpu_in_the_shorter_numbers_that_give_the_same(kind, folder, monkeypatch):
    expected = open_torch(folder, "cpu").encode(IMAGES)
    with fake_gpu(monkeypatch, kind) as gpu:
        encoder = open_torch(folder, kind)
        assert encoder.versions["precision"] == encoder.precision == "float16"
        encoder.precision = "float32"
        found = encoder.encode(IMAGES)
        assert all(gpu.has(parameter) for parameter in encoder._network.parameters())
        encoder.close()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_one_thread_asks_and_batches_come_in_few_shapes(kind, folder, monkeypatch):
    shapes = []
    with fake_gpu(monkeypatch, kind):
        encoder = open_torch(folder, kind)
        launch = encoder._launch
        monkeypatch.setattr(encoder, "_launch", lambda pixels: shapes.append(tuple(pixels.shape)) or launch(pixels))
        assert encoder.threads == 1
        assert len(encoder.encode(IMAGES)) == 11
    assert shapes == [(16, 32, 32, 3)]


@pytest.mark.parametrize(("kind", "is_channels_last"), [("mps", False), ("xpu", True)])
def test_apple_s_convolutions_get_planes_of_channels(kind, is_channels_last, folder, monkeypatch):
    seen = []

    def looking(network, inputs, *rest):
        weights = [one for one in network.parameters() if one.dim() == 4 and one.shape[1] > 1 and one.shape[2] > 1]
        seen.extend(one.is_contiguous() for one in (inputs, *weights))
        return outputs(network, inputs, *rest)

    outputs = torch_encoder.outputs
    with fake_gpu(monkeypatch, kind):
        encoder = open_torch(folder, kind)
        monkeypatch.setattr(torch_encoder, "outputs", looking)
        encoder.encode(IMAGES)
    assert len(seen) > 1
    assert not any(seen) if is_channels_last else all(seen)


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_computes_other_features_than_the_cpu_is_refused(kind, folder, monkeypatch):
    launch = torch_encoder.TorchEncoder._launch

    def wrong(self, pixels):
        rows = launch(self, pixels)
        return rows if self.device == "cpu" else rows.roll(1, 1)

    monkeypatch.setattr(torch_encoder.TorchEncoder, "_launch", wrong)
    words = rf"--device {kind}: torch .* computes other features of test_efficientnet there than on the CPU\. Use --device cpu"
    with fake_gpu(monkeypatch, kind), pytest.raises(HeadstartError, match=words):
        open_torch(folder, kind)


def test_a_mac_s_budget_holds_what_is_resident_and_what_is_being_decoded(folder, monkeypatch):
    monkeypatch.setattr(accelerators, "current_rss_bytes", lambda: 10**9)
    monkeypatch.setattr(accelerators, "available_bytes", lambda: 10**11)
    with fake_gpu(monkeypatch, "mps") as gpu:
        encoder = open_torch(folder, "mps")
        batching, facts = plan_batching(encoder, 8, None, 3 * 10**9, 500 * 10**6)
        held = gpu.held_bytes()
        assert facts["vram_budget_bytes"] == 3 * 10**9
        assert facts["vram_planned_bytes"] == pytest.approx(10**9 + 500 * 10**6 + held, rel=0.01)
        assert facts["vram_cap_bytes"] == 2 * 10**9 == round(gpu.cap * 8 * 10**9)
        assert gpu_facts(encoder) == {"peak_vram_reserved_bytes": held, "vram_process_bytes": 10**9 + held}
        words = r"1\.20 GB, 1\.00 GB of it for what the process holds besides and 0\.50 GB for decoded images"
        with pytest.raises(HeadstartError, match=words):
            plan_batching(encoder, 8, None, 1_200 * 10**6, 500 * 10**6)
        batching.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_extracts_there_and_each_marker_says_so(kind, tmp_path, monkeypatch):
    for number in range(20):
        draw(tmp_path / "photos" / "a" / f"{number}.png", number)
    of_cpu, elsewhere = (enqueue(tmp_path / "photos", tmp_path / name) for name in ("cpu", kind))
    work(of_cpu)
    with fake_gpu(monkeypatch, kind) as gpu:
        work(elsewhere, kind)
        assert gpu.held_bytes() > 0
    expected, found = (load_features(encoder_of(place)) for place in (of_cpu, elsewhere))
    assert found.paths == expected.paths
    np.testing.assert_allclose(found.features.astype(np.float32), expected.features.astype(np.float32), rtol=0.02, atol=0.02)
    [facts] = [marker.facts for marker in finished_markers(elsewhere, encoder_of(elsewhere))]
    assert (facts["device"], facts["versions"]["precision"]) == (kind, "float16")
    assert facts["vram_budget_bytes"] == 4 * 10**9
