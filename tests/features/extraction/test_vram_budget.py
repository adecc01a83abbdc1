import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from headstart.features.devices import is_out_of_memory
from headstart.features.encoders.torch_encoder import TorchEncoder, choose_precision, rounded_up
from headstart.features.extraction import memory_budget
from headstart.features.extraction.memory_budget import gpu_facts, plan_batching
from headstart.features.extraction.vram_budget import plan_vram
from headstart.features.images.gpu_jpeg import DEVICE_BYTES
from headstart.pipeline.errors import HeadstartError
from tests.features.images.test_fast_decode import SPEC
from tests.support import run_python

from .test_memory_budget import MB

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)


class FakeGpu:
    """A GPU and an encoder on it: weights of 100 MB, 20 MB an image, a context of 400 MB that grows by 100 MB at first use.

    Its allocator keeps what it took, in blocks of 20 MB, refuses what goes beyond the cap, and really counts.
    """

    device, threads, versions, is_shared = "cuda", 2, {}, False

    def __init__(self, total=8000, others=0, an_image=20, tells=True, decodes=False):
        self.total, self.others, self.an_image, self.tells = total * MB, others * MB, an_image * MB, tells
        self.context, self.reserved, self.peak, self.capped = 400 * MB, 100 * MB, 100 * MB, None
        transform = SimpleNamespace(image_size=(8, 8), device_decode=decodes)
        self.spec = SimpleNamespace(model="fake_net", row_length=2, transform=transform)
        self.batches, self.most = [], 0
        self.lock = threading.Lock()
        self.memory = self

    def process_bytes(self):
        return self.context + self.reserved if self.tells else None

    def reserved_bytes(self):
        return self.reserved

    def peak_reserved_bytes(self):
        return self.peak

    def free_bytes(self):
        return self.total - self.others - self.context - self.reserved

    def forget(self):
        self.reserved = self.peak = 100 * MB

    def cap(self, size):
        self.capped = size

    def encode(self, images):
        with self.lock:
            self.context = 500 * MB
            needed = -(-(100 * MB + self.an_image * len(images)) // (20 * MB)) * 20 * MB
            if needed > min(self.capped, self.total - self.others - self.context):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
            self.reserved = max(self.reserved, needed)
            self.peak = max(self.peak, self.reserved)
            self.most = max(self.most, self.context + self.reserved)
            self.batches.append(len(images))
            values = images.reshape(len(images), -1).astype(np.float32)
            return np.stack([values.sum(1), values.max(1)], axis=1)

    def close(self):
        pass


EXPECTED = np.stack([IMAGES.reshape(64, -1).sum(1), IMAGES.reshape(64, -1).max(1)], axis=1).astype(np.float32)


def run(gpu, budget, batch=None):
    """Plans and encodes all images: features, batches after planning, facts."""
    batching, facts = plan_batching(gpu, batch, None, budget and budget * MB, 0)
    planned, before = batching.batch, len(gpu.batches)
    features, _ = batching.encode(IMAGES, iter(range(64)), lambda: None)
    batching.close()
    return features, planned, gpu.batches[before:], {**facts, **gpu_facts(gpu)}


@pytest.mark.parametrize(
    ("budget", "batch"), [(None, 64), (2100, 64), (1800, 32), (1100, 16), (700, 4), (660, 2), (620, 1)],
    ids=["4 GB by default", "ample", "half", "a quarter", "four", "two", "one"],
)  # fmt: skip
def test_the_batch_is_planned_so_that_the_process_keeps_within_the_budget(budget, batch):
    gpu = FakeGpu()
    features, planned, batches, facts = run(gpu, budget)
    assert planned == batch
    assert set(batches) == {batch}
    np.testing.assert_array_equal(features, EXPECTED)
    assert gpu.most <= facts["vram_planned_bytes"] <= facts["vram_budget_bytes"] == (budget or 4000) * MB
    assert facts["vram_process_bytes"] == gpu.most
    assert facts["peak_vram_reserved_bytes"] == gpu.most - gpu.context


def test_the_cap_is_the_budget_less_the_context_as_it_is_after_the_first_images():
    gpu = FakeGpu()
    _, _, _, facts = run(gpu, 2000)
    assert gpu.capped == facts["vram_cap_bytes"] == 1500 * MB


def test_room_is_kept_for_images_that_are_decoded_on_the_gpu():
    gpu = FakeGpu(decodes=True)
    _, planned, _, facts = run(gpu, 1900)
    assert planned == 32
    assert gpu.most + DEVICE_BYTES <= facts["vram_planned_bytes"] <= facts["vram_budget_bytes"]
    assert run(FakeGpu(decodes=True), 1100 + DEVICE_BYTES // MB)[1] == run(FakeGpu(), 1100)[1] == 16
    with pytest.raises(HeadstartError, match=r"does not fit even with one image .* GB for --device-decode"):
        run(FakeGpu(decodes=True), 620 + DEVICE_BYTES // MB - 10)


def test_a_driver_that_does_not_tell_costs_a_larger_allowance():
    gpu = FakeGpu(tells=False)
    _, _, _, facts = run(gpu, 2000)
    assert gpu.capped == 1300 * MB
    assert gpu.most <= 2000 * MB
    assert facts["vram_process_bytes"] is None


def test_what_other_programs_hold_is_left_to_them():
    gpu = FakeGpu(total=8000, others=7000)
    features, planned, _, _ = run(gpu, 4000)
    assert planned == 16
    assert gpu.most <= 1000 * MB
    np.testing.assert_array_equal(features, EXPECTED)


def test_batches_that_need_more_than_was_measured_are_halved_under_the_cap_with_the_same_features():
    gpu = FakeGpu()
    batching, facts = plan_batching(gpu, None, None, 2100 * MB, 0)
    assert batching.batch == 64
    gpu.an_image *= 2
    gpu.batches.clear()
    features, _ = batching.encode(IMAGES, iter(range(64)), lambda: None)
    batching.close()
    assert set(gpu.batches) == {32}
    assert gpu.most <= facts["vram_budget_bytes"]
    np.testing.assert_array_equal(features, EXPECTED)


def test_the_memory_of_the_very_batch_is_measured_after_a_single_image():
    gpu = FakeGpu()
    run(gpu, 1100)
    assert gpu.batches == [1, 16, 16, 16, 16, 16]


@pytest.mark.parametrize(
    ("gpu", "budget"),
    [(FakeGpu(), 610), (FakeGpu(), 300), (FakeGpu(total=600), 4000), (FakeGpu(an_image=5000), 4000)],
    ids=["not one image", "not the driver", "a full GPU", "a huge image"],
)
def test_what_cannot_fit_is_one_sentence(gpu, budget):
    with pytest.raises(HeadstartError, match="--vram-budget: fake_net does not fit even with one image at a time") as caught:
        run(gpu, budget)
    assert "\n" not in str(caught.value)


def test_other_errors_of_the_probe_pass_through():
    def encode(images):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        plan_vram(FakeGpu(), encode, is_out_of_memory, 8, 10**9, "net")


def test_a_cpu_has_no_gpu_memory_to_plan():
    encoder = SimpleNamespace(device="cpu", memory=None, threads=2, close=lambda: None)
    batching, facts = plan_batching(encoder, None, None, 10**9, 0)
    assert (batching.batch, facts, gpu_facts(encoder)) == (memory_budget.CPU_BATCH, {}, {})


VECTORS = np.random.default_rng(1).normal(size=(3, 50)).astype(np.float32)


@pytest.mark.parametrize(
    ("half", "brain", "chosen"),
    [
        (VECTORS, VECTORS, "float16"),
        (VECTORS * np.inf, VECTORS, "bfloat16"),
        (VECTORS[:, ::-1], VECTORS + 1e-4, "bfloat16"),
        (VECTORS * np.nan, VECTORS[:, ::-1], "float32"),
    ],
    ids=["half is exact", "half overflows", "half differs", "neither is good"],
)
def test_the_precision_is_one_whose_features_are_those_of_float32(half, brain, chosen):
    assert choose_precision({"float32": VECTORS, "float16": half, "bfloat16": brain}.__getitem__) == chosen


def test_half_precision_gives_nearly_the_features_of_float32_and_full_precision_the_same_bits():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    spec = replace(SPEC, transform=replace(SPEC.transform, image_size=(8, 8)))
    found = {name: TorchEncoder(spec, network, "cpu", name).encode(IMAGES) for name in ("float32", "bfloat16")}
    assert found["bfloat16"].dtype == np.float32
    assert not np.array_equal(found["bfloat16"], found["float32"])
    np.testing.assert_allclose(found["bfloat16"], found["float32"], atol=0.02)


@pytest.mark.parametrize(("count", "shape"), [(1, 1), (2, 8), (8, 8), (60, 64), (64, 64)])
def test_batches_come_to_a_gpu_in_few_shapes(count, shape):
    rounded = rounded_up(IMAGES[:count])
    assert len(rounded) == shape
    np.testing.assert_array_equal(rounded[:count], IMAGES[:count])
    assert not rounded[count:].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_a_gpu_one_thread_computes_whoever_asks_and_rounding_up_changes_no_feature():
    threads = []

    class Noting(torch.nn.Flatten):
        def forward(self, images):
            threads.append(threading.current_thread().name)
            return super().forward(images)[:, :2]

    encoder = TorchEncoder(replace(SPEC, transform=replace(SPEC.transform, image_size=(8, 8))), Noting(), "cuda")
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(encoder.encode, [IMAGES[:5], IMAGES[5:9], IMAGES[9:10], IMAGES[10:]]))
    encoder.close()
    assert len(set(threads)) == 1
    expected = TorchEncoder(encoder.spec, Noting(), "cpu").encode(IMAGES)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-6)


def test_planning_imports_no_torch():
    status, output, errors = run_python("import headstart.features.extraction.memory_budget\nprint(*sys.modules)")
    assert status == 0, errors
    assert not {"torch", "timm", "pynvml"} & set(output.split())
