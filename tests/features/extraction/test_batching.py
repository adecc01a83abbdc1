import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

from headstart.features.devices import is_out_of_memory
from headstart.features.extraction.batching import Batching
from headstart.pipeline.errors import HeadstartError

IMAGES = np.random.default_rng(0).integers(0, 256, (37, 4, 4, 3), dtype=np.uint8)
POSITIONS = [i for i in range(37) if i not in (3, 4, 11, 36)]


OUT_OF_MEMORY = {
    "Python": MemoryError,
    "torch": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "ONNX Runtime": lambda: onnx_errors.RuntimeException(
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : BFCArena::AllocateRawInternal Failed to allocate memory"
    ),
    "ONNX Runtime's session": lambda: onnx_errors.Fail("[ONNXRuntimeError] : 1 : FAIL : std::bad_alloc"),
    "C++": lambda: RuntimeError("std::bad_alloc"),
}


class FakeDevice:
    """Sums pixels; refuses while it holds more than `room` images at once, and the first `refusals` calls in any case."""

    device = "fake"
    versions: dict = {}  # noqa: RUF012
    spec = SimpleNamespace(model="fake_net", row_length=2)

    def __init__(self, room=10**9, threads=1, refusals=0, error=MemoryError):
        self.room, self.threads, self.refusals, self.error = room, threads, refusals, error
        self.held, self.calls, self.batches, self.most_at_once = 0, 0, [], 0
        self._at_once = 0
        self._lock = threading.Lock()

    def encode(self, images):
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.calls += 1
            is_refused = self.calls <= self.refusals or self.held + len(images) > self.room
            self.held += 0 if is_refused else len(images)
        try:
            if is_refused:
                raise self.error()
            values = images.reshape(len(images), -1).astype(np.float32)
            with self._lock:
                self.batches.append(len(images))
            return np.stack([values.sum(1), values.max(1)], axis=1)
        finally:
            with self._lock:
                self._at_once -= 1
                self.held -= 0 if is_refused else len(images)

    def close(self):
        self.closed = True


EXPECTED = FakeDevice().encode(IMAGES[POSITIONS])


def encode(device, batch, check=lambda: None, positions=POSITIONS):
    batching = Batching(device, batch)
    try:
        return *batching.encode(IMAGES, iter(positions), check), batching
    finally:
        batching.close()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 4, 64])
def test_each_image_gets_its_own_features_in_order_whatever_the_batch(threads, batch):
    features, kept, _ = encode(FakeDevice(threads=threads), batch)
    assert kept == POSITIONS
    np.testing.assert_array_equal(features, EXPECTED)


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
@pytest.mark.parametrize(("refusals", "batch"), [(1, 8), (2, 4), (3, 2), (4, 1)])
def test_out_of_memory_on_the_first_batches_halves_the_batch_and_keeps_the_features(refusals, batch, error):
    device = FakeDevice(refusals=refusals, error=error)
    features, kept, batching = encode(device, 16)
    assert kept == POSITIONS
    np.testing.assert_array_equal(features, EXPECTED)
    assert batching.batch == batch
    assert max(device.batches) == batch


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("room", [1, 2, 3, 9])
def test_any_room_for_one_image_is_enough(threads, room):
    device = FakeDevice(room=room, threads=threads)
    features, kept, batching = encode(device, 16)
    assert kept == POSITIONS
    np.testing.assert_array_equal(features, EXPECTED)
    assert batching.batch <= room


def test_a_batch_that_was_halved_stays_halved_for_the_next_job():
    device = FakeDevice(room=5)
    batching = Batching(device, 16)
    for _ in range(2):
        calls = device.calls
        batching.encode(IMAGES, iter(POSITIONS), lambda: None)
    assert batching.batch == 4
    assert device.calls - calls == -(-len(POSITIONS) // 4)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_job_that_does_not_fit_at_all_fails_with_one_sentence(threads):
    with pytest.raises(HeadstartError, match="fake_net does not fit into the memory of fake, not even with one image") as caught:
        encode(FakeDevice(room=0, threads=threads), 16)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("threads", [1, 3])
def test_other_errors_pass_through(threads):
    with pytest.raises(ZeroDivisionError):
        encode(FakeDevice(refusals=1, threads=threads, error=ZeroDivisionError), 4)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_worker_that_must_leave_stops_between_batches(threads):
    asked = iter([None, None, InterruptedError])

    def check():
        if next(asked, InterruptedError):
            raise InterruptedError

    device = FakeDevice(threads=threads)
    with pytest.raises(InterruptedError):
        encode(device, 4, check)
    assert device.calls <= 2


def test_an_error_while_waiting_for_an_image_ends_all_threads():
    def positions():
        yield from POSITIONS[:9]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        encode(FakeDevice(threads=3), 4, positions=positions())


def test_threads_really_run_at_once():
    meeting = threading.Barrier(3, timeout=20)  # broken, and so an error, unless three threads arrive
    device = FakeDevice(threads=3)
    inner = device.encode
    device.encode = lambda images: (meeting.wait(), inner(images))[1]
    features, _, _ = encode(device, 11)
    np.testing.assert_array_equal(features, EXPECTED)


def test_no_images_give_no_features():
    features, kept, _ = encode(FakeDevice(threads=2), 4, positions=[])
    assert features.shape == (0, 2)
    assert kept == []


NO_LACK = [
    RuntimeError("shape mismatch"),
    ValueError("Failed to allocate memory"),
    OSError(12, "no"),
    onnx_errors.InvalidArgument("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: pixels"),
]


@pytest.mark.parametrize("error", NO_LACK, ids=repr)
def test_what_a_smaller_batch_cannot_cure_is_no_lack_of_memory(error):
    assert not is_out_of_memory(error)


def test_an_image_that_did_not_fit_beside_another_waits_until_that_one_is_through():
    refused, again = threading.Event(), threading.Event()

    class Narrow(FakeDevice):
        def encode(self, images):
            try:
                features = super().encode(images)
            except MemoryError:
                (again if refused.is_set() else refused).set()
                raise
            if not refused.is_set():
                self.held += 1  # this call holds its memory until the other was refused, and a little longer
                refused.wait(20)
                again.wait(0.2)
                self.held -= 1
            return features

    features, _, batching = encode(Narrow(room=1, threads=2), 1, positions=POSITIONS[:2])
    np.testing.assert_array_equal(features, EXPECTED[:2])
    assert batching.threads == 1
    assert not again.is_set()
